"""The weighted sum of adapters: what it is made of, and what has none."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from medgrpo.errors import ModelError
from medgrpo.models import PROFILES
from train.combine import combine, main

CONFIG = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "base_model_name_or_path": "a/model"}


def adapter(folder: Path, value: float, columns: int = 3, **changes: Any) -> Path:
    folder.mkdir()
    tensors = {"x.lora_A.weight": torch.full((2, columns), value).bfloat16(), "x.lora_B.weight": torch.eye(2)}
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(CONFIG | changes))
    return folder


def test_what_one_run_taught_is_put_on_top_of_another(tmp_path: Path) -> None:
    second, first, start = adapter(tmp_path / "2", 8.0), adapter(tmp_path / "1", 6.0), adapter(tmp_path / "0", 1.0)
    out = tmp_path / "new" / "out"
    assert main([*map(str, (second, first, start)), "--weights", "1", "0.6", "-0.6", "--out", str(out)]) == 0
    found = load_file(out / "adapter_model.safetensors")
    assert found["x.lora_A.weight"].dtype == torch.bfloat16
    assert torch.equal(found["x.lora_A.weight"].float(), torch.full((2, 3), 8.0 + 0.6 * 5.0))
    assert torch.equal(found["x.lora_B.weight"], torch.eye(2)), "what all have in common stays"
    assert json.loads((out / "adapter_config.json").read_text()) == CONFIG
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_the_shipped_adapter_averaged_with_itself_is_itself(tmp_path: Path) -> None:
    shipped = PROFILES["smollm2-135m"].assets
    out = combine([shipped, shipped], [0.6, 0.4], tmp_path / "out")
    before, after = (load_file(folder / "adapter_model.safetensors") for folder in (shipped, out))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"columns": 4}, "have other matrices"),
        ({"r": 4}, "differ in r:"),
        ({"base_model_name_or_path": "b/model", "lora_alpha": 8}, "differ in base_model_name_or_path, lora_alpha"),
    ],
)
def test_unlike_adapters_have_no_sum(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    folders = [adapter(tmp_path / "one", 1.0), adapter(tmp_path / "two", 1.0, **changes)]
    with pytest.raises(ModelError, match=says):
        combine(folders, [0.5, 0.5], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_bad_input_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = adapter(tmp_path / "one", 1.0)
    half = ["--weights", "0.5", "0.5"]
    for arguments, says in (
        ([one, tmp_path / "none", *half, "--out", tmp_path / "out"], "holds no adapter that can be combined"),
        ([one, one, "--weights", "1", "0.5", "--out", tmp_path / "out"], "must make 1 together"),
        ([one, one, "--weights", "1", "--out", tmp_path / "out"], "for each a weight"),
        ([one, "--weights", "1", "--out", tmp_path / "out"], "give two or more adapters"),
        ([one, one, *half, "--out", one], "is there already"),
    ):
        assert main([str(each) for each in arguments]) == 2
        assert says in " ".join(capsys.readouterr().err.split())
