"""The average of adapters: what it is made of, and what has none."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from medgrpo.errors import ModelError
from train.average import average, main

CONFIG = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "base_model_name_or_path": "a/model"}


def adapter(folder: Path, value: float, columns: int = 3, **changes: Any) -> Path:
    folder.mkdir()
    tensors = {
        "x.lora_A.weight": np.full((2, columns), value, np.float16),
        "x.lora_B.weight": np.eye(2, dtype=np.float16),
    }
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(CONFIG | changes))
    return folder


def test_weights_count_in_proportion_and_precision_stays(tmp_path: Path) -> None:
    one, two = adapter(tmp_path / "one", 1.0), adapter(tmp_path / "two", 6.0)
    out = tmp_path / "new" / "out"
    assert main([str(one), str(two), "--weights", "3", "2", "--out", str(out)]) == 0
    found = load_file(out / "adapter_model.safetensors")
    assert found["x.lora_A.weight"].dtype == np.float16
    assert np.allclose(found["x.lora_A.weight"], 3.0)
    assert np.array_equal(found["x.lora_B.weight"], np.eye(2))
    assert json.loads((out / "adapter_config.json").read_text()) == CONFIG
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_the_shipped_adapter_averaged_with_itself_is_itself(tmp_path: Path) -> None:
    from medgrpo.models import PROFILES

    shipped = PROFILES["smollm2-135m"].assets
    out = average([shipped, shipped], [0.6, 0.4], tmp_path / "out")
    before, after = (load_file(folder / "adapter_model.safetensors") for folder in (shipped, out))
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"columns": 4}, "have other matrices"),
        ({"r": 4}, "differ in r:"),
        ({"base_model_name_or_path": "b/model", "lora_alpha": 8}, "differ in base_model_name_or_path, lora_alpha"),
    ],
)
def test_unlike_adapters_have_no_average(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    folders = [adapter(tmp_path / "one", 1.0), adapter(tmp_path / "two", 1.0, **changes)]
    with pytest.raises(ModelError, match=says):
        average(folders, [1, 1], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_bad_input_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = adapter(tmp_path / "one", 1.0)
    for arguments, says in (
        ([one, tmp_path / "none", "--out", tmp_path / "out"], "holds no adapter that can be averaged"),
        ([one, one, "--weights", "1", "0", "--out", tmp_path / "out"], "a weight above 0"),
        ([one, one, "--weights", "1", "--out", tmp_path / "out"], "for each a weight"),
        ([one, "--out", tmp_path / "out"], "give two or more adapters"),
        ([one, one, "--out", one], "is there already"),
    ):
        assert main([str(each) for each in arguments]) == 2
        assert says in " ".join(capsys.readouterr().err.split())
