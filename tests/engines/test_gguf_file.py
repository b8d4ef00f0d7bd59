"""The head of a GGUF file, and what is said about files that are none."""

import struct
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medgrpo.engines.gguf_file import read_gguf
from medgrpo.engines.llamacpp import LlamaCppEngine
from medgrpo.errors import ModelError
from medgrpo.settings import Settings


def test_embedded_model(smollm2: Path) -> None:
    head = read_gguf(smollm2)
    assert head.architecture == "llama"
    assert (head.setting("attention.head_count"), head.setting("attention.head_count_kv")) == (9, 3)
    assert head.tensors["blk.29.attn_k.weight"] == (576, 192)
    assert len(head.tensors) == 272
    assert {"<|im_start|>", "<|im_end|>", "<repo_name>"} <= set(head.control_tokens())
    assert len(head.control_tokens()) == 17


def damaged(smollm2: Path) -> dict[str, bytes]:
    whole = smollm2.read_bytes()
    return {
        "empty": b"",
        "text": b"This is a letter, not a model.",
        "magic only": b"GGUF",
        "cut in the head": whole[:5000],
        "cut in the weights": whole[: len(whole) // 3],
        "one byte short": whole[:-1000],
        "endless count": b"GGUF" + struct.pack("<IQQ", 3, 2**60, 2**60),
        "version": b"GGUF" + struct.pack("<IQQ", 99, 0, 0),
    }


def test_damaged_files_are_one_sentence_before_anything_starts(smollm2: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    for content in damaged(smollm2).values():
        path.write_bytes(content)
        with pytest.raises(ModelError) as error:
            LlamaCppEngine(Settings(model=str(path)))
        message = str(error.value)
        assert str(path) in message
        assert "\n" not in message
        assert message.endswith(".")


def test_missing_model() -> None:
    with pytest.raises(ModelError, match="MEDGRPO_MODEL"):
        LlamaCppEngine(Settings(model="/nowhere/model.gguf"))
    with pytest.raises(ModelError, match=r"cannot be read.*set MEDGRPO_ADAPTER"):
        read_gguf(Path("/nowhere/adapter.gguf"), "MEDGRPO_ADAPTER")


@given(garbage=st.binary(max_size=300))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_read_or_refused(tmp_path: Path, garbage: bytes) -> None:
    path = tmp_path / "garbage.gguf"
    path.write_bytes(b"GGUF\x03\0\0\0" + garbage)
    with suppress(ModelError):
        read_gguf(path)
