import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from medgrpo.cli import main
from medgrpo.data import load_cases
from medgrpo.safety import DISCLAIMER

CASE = "45-year-old man with crushing chest pain, sweating and breathlessness"


@pytest.fixture(autouse=True)
def _fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDGRPO_ENGINE", "fake")


def test_ask_streams_the_text_and_says_it_is_educational(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", CASE]) == 0
    out = capsys.readouterr().out
    assert "<answer>" in out
    assert out.rstrip().endswith(DISCLAIMER)


def test_ask_json_is_one_record_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", CASE, "--variant", "base", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["variant"] == "base"
    assert record["question"] == CASE


def test_compare_json_has_both_variants(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", CASE, "--json"]) == 0
    assert [r["variant"] for r in json.loads(capsys.readouterr().out)] == ["base", "grpo"]


def test_a_case_can_come_from_standard_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(CASE))
    assert main(["ask", "-", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["question"] == CASE


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["ask", "  "], "case"),
        (["ask", "x" * 100_000], "100,000"),
        (["ask", CASE, "--temperature", "9"], "--temperature 9.0 is out of range"),
        (["compare", CASE, "--max-tokens", "0"], "--max-tokens 0 is out of range"),
        (["ask", CASE, "--top-p", "0"], "--top-p 0.0 is out of range"),
        (["score", "x", "--case", "casebook/test/none/1"], "casebook/test/none/1"),
        (["audit", "--profile", "nope"], "nope"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert says in error
    assert "Traceback" not in error


def test_doctor_names_machine_engine_model_and_adapter(capsys: pytest.CaptureFixture[str]) -> None:
    main(["doctor", "--json"])
    findings = {f["what"]: f for f in json.loads(capsys.readouterr().out)}
    assert set(findings) == {"machine", "gpu", "engine", "model", "adapter", "packages"}
    assert findings["model"]["good"]


def test_score_explains_each_reward(capsys: pytest.CaptureFixture[str]) -> None:
    case = load_cases("casebook", "test", 1)[0]
    assert main(["score", "no form at all", "--case", case.id]) == 0
    out = capsys.readouterr().out
    assert "format" in out
    assert "total" in out


def test_the_audit_of_the_shipped_profile_passes_and_of_the_legacy_one_fails(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["audit", "--limit", "8"]) == 0
    assert main(["audit", "--limit", "8", "--profile", "legacy"]) == 1


def other_base(folder: Path) -> str:
    """A PEFT adapter whose tensors fit a model of another width."""
    settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "base_model_name_or_path": "other/model"}
    (folder / "adapter_config.json").write_text(json.dumps(settings | {"target_modules": ["q_proj"]}))
    layer = "base_model.model.model.layers.0.self_attn.q_proj"
    shapes = {"lora_A": (2, 32), "lora_B": (32, 2)}
    tensors = {f"{layer}.{name}.weight": np.zeros(shape, np.float32) for name, shape in shapes.items()}
    save_file(tensors, folder / "adapter_model.safetensors")
    return str(folder)


def text_file(folder: Path) -> str:
    (folder / "model.gguf").write_text("This is no model.")
    return str(folder / "model.gguf")


@pytest.mark.parametrize(
    ("variable", "make", "says"),
    [
        ("MEDGRPO_MODEL", lambda folder: str(folder / "missing.gguf"), "Set MEDGRPO_MODEL"),
        ("MEDGRPO_MODEL", text_file, "GGUF"),
        ("MEDGRPO_ADAPTER", lambda folder: "./nowhere", "There is no adapter at './nowhere'"),
        ("MEDGRPO_ADAPTER", other_base, "adapter"),
    ],
)
def test_unfit_files_are_one_sentence_and_exit_code_2(
    variable: str,
    make: Callable[[Path], str],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MEDGRPO_ENGINE", "llamacpp")
    monkeypatch.setenv(variable, make(tmp_path))
    assert main(["ask", CASE]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert "Traceback" not in error
    assert error.count("\n") == 1


def test_a_mixture_is_audited_source_by_source(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "--source", "casebook+out_of_scope", "--limit", "8"]) == 0
    out = capsys.readouterr().out
    assert "on 4 cases of casebook\n" in out
    assert "on 4 cases of out_of_scope\n" in out
    assert out.count("PASSED") == 2
    assert len({len(line) for line in out.splitlines() if line.startswith("|")}) == 1  # the columns are aligned
