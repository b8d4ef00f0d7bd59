"""What a GGUF file says about itself, read in milliseconds: metadata, tensor names and shapes, and whether it is whole.

`gguf.GGUFReader` takes seconds for a large vocabulary (8 for Qwen's) because it makes an array of every token; the app
should not wait for that before its page opens. Weights are not read here. A file that can't be used is a `ModelError`.
"""

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medgrpo.errors import ModelError

_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
_CONTROL = 3


@dataclass(frozen=True)
class GGUFFile:
    """Head of a GGUF file.

    Attributes:
        path: of the file.
        metadata: key to value; arrays are lists.
        tensors: tensor name to shape, the fastest-varying dimension first, as ggml counts.
    """

    path: Path
    metadata: dict[str, Any]
    tensors: dict[str, tuple[int, ...]]

    @property
    def architecture(self) -> str:
        """Such as "llama" or "qwen2"."""
        return str(self.metadata.get("general.architecture", ""))

    def setting(self, name: str, default: int = 0) -> int:
        """A whole number under the architecture's prefix, such as `attention.head_count`."""
        value = self.metadata.get(f"{self.architecture}.{name}", default)
        return int(value if isinstance(value, (int, float)) else default)

    def control_tokens(self) -> tuple[str, ...]:
        """Token texts that steer the model instead of being read, such as `<|im_start|>`."""
        kinds = self.metadata.get("tokenizer.ggml.token_type", [])
        tokens = self.metadata.get("tokenizer.ggml.tokens", [])
        return tuple(token for token, kind in zip(tokens, kinds, strict=False) if kind == _CONTROL)


def read_gguf(path: Path, setting: str = "MEDGRPO_MODEL") -> GGUFFile:
    """Reads the head of a GGUF file and checks that every tensor lies inside the file.

    Args:
        path: of the file.
        setting: what names this file, for the remedy.

    Raises:
        ModelError: it is missing, no GGUF file, or cut short.
    """
    remedy = f"download it again, or set {setting} to another file"
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if data[:4] != b"GGUF":
                raise ModelError(f"{path} is not a GGUF file: {remedy}.")
            return _Cursor(data).head(path)
    except (struct.error, IndexError, KeyError, UnicodeDecodeError, OverflowError, MemoryError) as error:
        raise ModelError(f"{path} is damaged or cut short: {remedy}.") from error
    except (OSError, ValueError) as error:
        reason = "it is empty" if path.is_file() and not path.stat().st_size else str(error)
        raise ModelError(f"{path} cannot be read ({reason}): {remedy}.") from error


class _Cursor:
    """A position in the file that moves forward with every value read."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data = data
        self.at = 4

    def number(self, form: str) -> Any:
        (value,) = struct.unpack_from(form, self.data, self.at)
        self.at += struct.calcsize(form)
        return value

    def text(self) -> str:
        length = self.number("<Q")
        start = self.at
        self.at += length
        if self.at > len(self.data):
            raise IndexError(self.at)
        return self.data[start : self.at].decode("utf-8", "surrogateescape")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.text()
        if kind != _ARRAY:
            return self.number(_SCALARS[kind])
        inner, count = self.number("<I"), self.number("<Q")
        if count > len(self.data):
            raise IndexError(count)
        if inner in (_STRING, _ARRAY):
            return [self.value(inner) for _ in range(count)]
        values = list(struct.unpack_from(f"<{count}{_SCALARS[inner][1]}", self.data, self.at))
        self.at += count * struct.calcsize(_SCALARS[inner])
        return values

    def head(self, path: Path) -> GGUFFile:
        from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

        version = self.number("<I")
        if version not in (2, 3):
            raise ModelError(f"{path} is a GGUF file of version {version}: only versions 2 and 3 can be read.")
        count, keys = self.number("<Q"), self.number("<Q")
        metadata: dict[str, Any] = {}
        for _ in range(keys):
            key = self.text()
            metadata[key] = self.value(self.number("<I"))
        tensors: dict[str, tuple[int, ...]] = {}
        longest = 0
        for _ in range(count):
            name = self.text()
            shape = tuple(self.number("<Q") for _ in range(self.number("<I")))
            kind, offset = self.number("<I"), self.number("<Q")
            tensors[name] = shape
            size = 1
            for length in shape:
                size *= length
            try:
                block, width = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
            except (ValueError, KeyError):  # a newer tensor type than this reader knows; llama.cpp will judge it
                continue
            longest = max(longest, offset + size // block * width)
        align = metadata.get("general.alignment", 32)
        if -(-self.at // align) * align + longest > len(self.data):
            raise IndexError(longest)
        return GGUFFile(path, metadata, tensors)
