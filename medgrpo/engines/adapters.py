"""PEFT LoRA adapters as llama.cpp reads them, and whether an adapter fits a base model.

A GGUF adapter holds the two low-rank matrices of every adapted tensor under the base's own tensor names. llama.cpp
adds `alpha / rank * B A x`; PEFT's variants of that factor (rslora, a rank or alpha of its own per layer) are written
as one alpha and factors in B. llama.cpp stores the rotary pairs of q and k of the *llama* architecture in another order
than transformers, so the rows of B of these two are permuted; *qwen2* and *qwen3* keep theirs. No torch is needed.
"""

import hashlib
import json
import math
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medgrpo.engines.gguf_file import GGUFFile, read_gguf
from medgrpo.errors import ModelError

Array = NDArray[Any]
PERMUTED = {"llama": True, "qwen2": False, "qwen3": False}
"""Architectures this conversion is known to be right for, and whether their q and k are permuted."""
SOURCE = "medgrpo.source_sha256"
"""Key in a converted file: digest of the PEFT weights it was made from."""

_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}


def find_converted(source: Path) -> Path | None:
    """The GGUF of an adapter: the file, or `adapter.gguf` in its folder if it was made from the weights beside it.

    Raises:
        ModelError: the folder holds no adapter.
    """
    if source.is_file():
        return source
    ready, weights = source / "adapter.gguf", source / "adapter_model.safetensors"
    if not ready.is_file() and not (source / "adapter_config.json").is_file():
        raise ModelError(
            f"{source} holds no adapter (no adapter.gguf, no adapter_config.json): "
            "set MEDGRPO_ADAPTER to the `adapter` folder of a run."
        )
    if not ready.is_file():
        return None
    made_from = read_gguf(ready, "MEDGRPO_ADAPTER").metadata.get(SOURCE)
    if made_from and weights.is_file() and made_from != _digest(weights):
        return None
    return ready


def check_adapter(adapter: Path, base_gguf: Path) -> None:
    """Checks that a GGUF adapter, or the one in a folder, fits a base model.

    Raises:
        ModelError: it is damaged, or made for another base model.
    """
    file = find_converted(adapter)
    if file is None:
        raise ModelError(f"{adapter} has no adapter.gguf that was made from its weights: convert it first.")
    head, base = read_gguf(file, "MEDGRPO_ADAPTER"), read_gguf(base_gguf)
    if head.metadata.get("general.type") != "adapter" or head.metadata.get("adapter.type") != "lora":
        raise ModelError(f"{file} is not a LoRA adapter: set MEDGRPO_ADAPTER to a GGUF adapter or a PEFT folder.")
    if head.architecture != base.architecture:
        raise _misfit(adapter, base, f"it is for the architecture {head.architecture!r}, not {base.architecture!r}")
    names = {name.removesuffix(end) for name in head.tensors for end in (".lora_a", ".lora_b") if name.endswith(end)}
    if not names or 2 * len(names) != len(head.tensors):
        raise ModelError(f"{file} is not a complete LoRA adapter: convert it again.")
    for name in sorted(names):
        a, b = head.tensors.get(f"{name}.lora_a"), head.tensors.get(f"{name}.lora_b")
        _check_shapes(adapter, base, name, a or (), b or ())


def convert(adapter_dir: Path, base_gguf: Path, out: Path) -> Path:
    """Writes a PEFT LoRA folder as a GGUF adapter for a base model.

    Args:
        adapter_dir: with `adapter_config.json` and `adapter_model.safetensors`.
        base_gguf: the base model, in any quantisation; head counts, names and shapes are taken from it.
        out: file to write; an existing one is replaced when the new one is complete.

    Returns:
        `out`.

    Raises:
        ModelError: something in the adapter cannot be expressed, or doesn't fit this base.
    """
    import gguf

    base = read_gguf(base_gguf)
    if base.architecture not in PERMUTED:
        raise ModelError(
            f"Adapters for the architecture {base.architecture!r} cannot be converted (only {', '.join(PERMUTED)}): "
            "convert it with llama.cpp's convert_lora_to_gguf.py and save it as adapter.gguf in the adapter's folder."
        )
    config = _config(adapter_dir)
    pairs = _pairs(adapter_dir)
    alpha = _scaling(config, "") * config["r"] or float(config["r"])
    written = out.with_name(f"{out.name}.new")
    writer = gguf.GGUFWriter(written, base.architecture)
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, alpha)
    writer.add_string(SOURCE, _digest(adapter_dir / "adapter_model.safetensors"))
    architecture = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == base.architecture)
    names = gguf.get_tensor_name_map(architecture, base.setting("block_count"))
    for module, (a, b) in sorted(pairs.items()):
        name = names.get_name(module)
        if name is None:
            raise _inexpressible(adapter_dir, module)
        name = f"{name}.weight"
        _check_shapes(adapter_dir, base, name, a.shape[::-1], b.shape[::-1])
        b = b * (_scaling(config, module) / (alpha / a.shape[0]))
        if PERMUTED[base.architecture] and name.endswith(("attn_q.weight", "attn_k.weight")):
            b = _permute(b, _heads(base, name))
        writer.add_tensor(f"{name}.lora_a", _stored(a))
        writer.add_tensor(f"{name}.lora_b", _stored(b))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    written.replace(out)
    return out


def _config(folder: Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads((folder / "adapter_config.json").read_text("utf-8"))
        if config.get("peft_type") != "LORA" or not config["r"] > 0:
            raise ValueError("it is not a LoRA configuration")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"{folder / 'adapter_config.json'} cannot be used ({error}): set MEDGRPO_ADAPTER to a PEFT LoRA folder."
        ) from error
    extras = ("use_dora", "modules_to_save", "layer_replication", "trainable_token_indices")
    special = [name for name in extras if config.get(name)]
    if str(config.get("init_lora_weights")).startswith(("pissa", "olora", "corda", "loftq")):
        special.append("init_lora_weights")  # these change the base weights as well
    if special:
        raise _inexpressible(folder, ", ".join(special))
    return config


def _scaling(config: dict[str, Any], module: str) -> float:
    """What PEFT multiplies B A by for a module; for "" what it does where no pattern says otherwise."""
    rank, alpha = config["r"], config.get("lora_alpha", config["r"])
    for pattern, value in (config.get("rank_pattern") or {}).items():
        rank = value if re.match(rf"(.*\.)?({pattern})$", module) else rank
    for pattern, value in (config.get("alpha_pattern") or {}).items():
        alpha = value if re.match(rf"(.*\.)?({pattern})$", module) else alpha
    return float(alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank)


def _pairs(folder: Path) -> dict[str, tuple[Array, Array]]:
    """Module name to its A (rank, inputs) and B (outputs, rank), in float32."""
    halves: dict[str, dict[str, Array]] = {}
    unknown = []
    for name, array in _tensors(folder / "adapter_model.safetensors"):
        match = re.fullmatch(r"base_model\.model\.(.+)\.lora_([AB])(?:\.default)?\.weight", name)
        if not match or array.ndim != 2:
            unknown.append(name)
            continue
        if not np.isfinite(array).all():
            raise ModelError(f"The adapter {folder} has NaN or infinity in {name}: its training diverged; repeat it.")
        halves.setdefault(match[1], {})[match[2]] = array
    unknown += [module for module, half in halves.items() if len(half) != 2]
    if unknown or not halves:
        raise _inexpressible(folder, ", ".join(sorted(unknown)[:4]) or "no tensor at all")
    return {module: (half["A"], half["B"]) for module, half in halves.items()}


def _tensors(file: Path) -> Iterator[tuple[str, Array]]:
    """Tensors of a safetensors file as float32; read by hand because numpy has no bfloat16."""
    try:
        data = file.read_bytes()
        (length,) = struct.unpack_from("<Q", data)
        header = json.loads(data[8 : 8 + length])
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            start, end = (8 + length + offset for offset in entry["data_offsets"])
            raw = np.frombuffer(data[start:end], _DTYPES[entry["dtype"]]).reshape(entry["shape"])
            if entry["dtype"] == "BF16":
                raw = (raw.astype(np.uint32) << 16).view(np.float32)
            yield name, raw.astype(np.float32)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        reason = "it is missing" if not file.is_file() else "it is damaged or cut short"
        raise ModelError(f"{file} cannot be used ({reason}): save it again with PEFT, as safetensors.") from error


def _check_shapes(adapter: Path, base: GGUFFile, name: str, a: tuple[int, ...], b: tuple[int, ...]) -> None:
    """Shapes as ggml counts: base (inputs, outputs), A (inputs, rank), B (rank, outputs)."""
    shape = base.tensors.get(name)
    if shape is None:
        raise _misfit(adapter, base, f"it changes {name}, which this model does not have")
    if len(a) != 2 or len(b) != 2 or a[1] != b[0] or (a[0], b[1]) != shape:
        raise _misfit(adapter, base, f"for {name} it has the shapes {a} and {b}, and the model has {shape}")


def _inexpressible(folder: Path, what: str) -> ModelError:
    return ModelError(
        f"The adapter {folder} contains {what}, which llama.cpp cannot apply: train a plain LoRA on linear layers only."
    )


def _misfit(adapter: Path, base: GGUFFile, why: str) -> ModelError:
    hint = ""
    try:
        made_for = json.loads((adapter / "adapter_config.json").read_text("utf-8"))["base_model_name_or_path"]
        hint = f" It was trained on {made_for}."
    except (OSError, ValueError, KeyError, TypeError):
        pass
    name = base.metadata.get("general.name", base.path.name)
    return ModelError(
        f"The adapter {adapter} does not fit the model {name}: {why}.{hint} "
        "Set MEDGRPO_ADAPTER to an adapter of this model, or MEDGRPO_MODEL to the adapter's model."
    )


def _heads(base: GGUFFile, name: str) -> int:
    heads = base.setting("attention.head_count")
    return base.setting("attention.head_count_kv", heads) if name.endswith("attn_k.weight") else heads


def _permute(b: Array, heads: int) -> Array:
    """Rows of B from transformers' rotary order (two halves of a head) to llama.cpp's (pairs side by side)."""
    rows, rank = b.shape
    return b.reshape(heads, 2, rows // heads // 2, rank).swapaxes(1, 2).reshape(rows, rank)


def _stored(array: Array) -> Array:
    """Half precision where it holds the values."""
    with np.errstate(over="ignore"):
        half = array.astype(np.float16)
    return half if np.isfinite(half).all() else array


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
