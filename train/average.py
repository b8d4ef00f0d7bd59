"""The weighted average of adapters that grew from one warm start, as one adapter of the same size.

    python -m train.average runs/SEED0/adapter runs/SEED1/adapter --weights 0.6 0.4 --out runs/averaged

Runs of different seeds move the matrices in the directions that the reward teaches and in others that only the draw of
completions does; in the average the first stay and the second shrink. The method: Wortsman et al., Model soups, 2022
(arXiv:2203.05482), here for the matrices A and B of a LoRA. It needs a common start: from two different ones the
average of A and B is nothing's average.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medgrpo.errors import MedGRPOError, ModelError

MATTERS = ("base_model_name_or_path", "r", "lora_alpha", "peft_type", "use_dora", "use_rslora")
"""What the configurations must agree on, besides the names and sizes of the matrices."""


def main(argv: Sequence[str] | None = None) -> int:
    """Average as the command line says; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m train.average", description=__doc__)
    parser.add_argument("adapters", type=Path, nargs="+", help="folders as PEFT saves them")
    parser.add_argument("--weights", type=float, nargs="+", help="one each, in proportion (default: equal)")
    parser.add_argument("--out", type=Path, required=True, help="folder to write; it must not be there yet")
    options = parser.parse_args(argv)
    try:
        print(average(options.adapters, options.weights or [1.0] * len(options.adapters), options.out))
    except MedGRPOError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def average(adapters: Sequence[Path], weights: Sequence[float], out: Path) -> Path:
    """Write the average, in the precision of the first adapter.

    Args:
        adapters: two or more PEFT folders with matrices of the same names and sizes.
        weights: one for each, positive; they count in proportion.

    Raises:
        ModelError: an adapter is missing or unlike the first, a weight is not positive, or `out` is there already.
    """
    from safetensors.numpy import load_file, save_file

    if len(adapters) < 2 or len(weights) != len(adapters) or min(weights) <= 0:
        raise ModelError(
            f"There are {len(adapters)} adapters and the weights {list(weights)}: give two or more adapters, and for "
            "each a weight above 0."
        )
    if out.exists():
        raise ModelError(f"{out} is there already: choose another --out.")
    whole: dict[str, Any] = {}
    kinds: dict[str, Any] = {}
    first = _config(adapters[0])
    for folder, weight in zip(adapters, weights, strict=True):
        config = _config(folder)
        if differ := [name for name in MATTERS if config.get(name) != first.get(name)]:
            raise ModelError(f"{folder} and {adapters[0]} differ in {', '.join(differ)}: they have no average.")
        tensors = load_file(folder / "adapter_model.safetensors")
        shapes = {name: tensor.shape for name, tensor in tensors.items()}
        if whole and shapes != {name: tensor.shape for name, tensor in whole.items()}:
            raise ModelError(f"{folder} and {adapters[0]} have other matrices: they have no average.")
        kinds = kinds or {name: tensor.dtype for name, tensor in tensors.items()}
        for name, tensor in tensors.items():
            whole[name] = whole.get(name, 0.0) + weight / sum(weights) * tensor.astype(np.float64)
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    save_file(
        {name: tensor.astype(kinds[name]) for name, tensor in whole.items()},
        partial / "adapter_model.safetensors",
        {"format": "pt"},
    )
    (partial / "adapter_config.json").write_text(json.dumps(first, indent=2) + "\n", encoding="utf-8")
    return partial.rename(out)


def _config(folder: Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        if not (folder / "adapter_model.safetensors").is_file():
            raise FileNotFoundError("adapter_model.safetensors")
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{folder} holds no adapter that can be averaged ({error}): give a folder with adapter_config.json and "
            "adapter_model.safetensors, as PEFT saves it."
        ) from error
    return config


if __name__ == "__main__":
    sys.exit(main())
