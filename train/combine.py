"""A weighted sum of adapters that grew from one warm start, as one adapter of the same size.

    python -m train.combine runs/second/adapter runs/first/adapter runs/first_sft/adapter --weights 1 0.6 -0.6 \
        --out runs/combined

puts 0.6 of what the first GRPO run taught (its adapter less the one it started from) on top of the second one. The
matrices A and B of the LoRA are summed one by one. The method: Ilharco et al., Editing models with task arithmetic, 2023
(arXiv:2212.04089); with positive weights alone it is the average of Wortsman et al., Model soups, 2022 (arXiv:2203.05482).
It needs a common start: the sum of A and B from two different ones is nothing's sum. How far a sum may go is found out on
validation cases.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medgrpo.errors import MedGRPOError, ModelError

MATTERS = ("base_model_name_or_path", "r", "lora_alpha", "peft_type", "use_dora", "use_rslora")
"""What the configurations must agree on, besides the names and sizes of the matrices."""


def main(argv: Sequence[str] | None = None) -> int:
    """Combine as the command line says; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m train.combine", description=__doc__)
    parser.add_argument("adapters", type=Path, nargs="+", help="folders as PEFT saves them")
    parser.add_argument("--weights", type=float, nargs="+", required=True, help="one each; together they make 1")
    parser.add_argument("--out", type=Path, required=True, help="folder to write; it must not be there yet")
    options = parser.parse_args(argv)
    try:
        print(combine(options.adapters, options.weights, options.out))
    except MedGRPOError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def combine(adapters: Sequence[Path], weights: Sequence[float], out: Path) -> Path:
    """Write the weighted sum, in the precision of the first adapter.

    Args:
        adapters: two or more PEFT folders with matrices of the same names and sizes.
        weights: one for each, below 0 to take away; together 1, so that what all have in common stays as it is.

    Raises:
        ModelError: an adapter is missing or unlike the first, the weights don't fit, or `out` is there already.
    """
    from safetensors.torch import load_file

    from train.loading import write_weights

    if len(adapters) < 2 or len(weights) != len(adapters) or abs(sum(weights) - 1) > 1e-6:
        raise ModelError(
            f"There are {len(adapters)} adapters and the weights {list(weights)}: give two or more adapters, and for "
            "each a weight; the weights must make 1 together."
        )
    if out.exists():
        raise ModelError(f"{out} is there already: choose another --out.")
    whole: dict[str, Any] = {}
    kinds: dict[str, Any] = {}
    first = _config(adapters[0])
    for folder, weight in zip(adapters, weights, strict=True):
        config = _config(folder)
        if differ := [name for name in MATTERS if config.get(name) != first.get(name)]:
            raise ModelError(f"{folder} and {adapters[0]} differ in {', '.join(differ)}: they can't be combined.")
        tensors = load_file(folder / "adapter_model.safetensors")
        shapes = {name: tensor.shape for name, tensor in tensors.items()}
        if whole and shapes != {name: tensor.shape for name, tensor in whole.items()}:
            raise ModelError(f"{folder} and {adapters[0]} have other matrices: they can't be combined.")
        kinds = kinds or {name: tensor.dtype for name, tensor in tensors.items()}
        for name, tensor in tensors.items():
            whole[name] = whole.get(name, 0.0) + weight * tensor.float()
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    summed = {name: tensor.to(kinds[name]) for name, tensor in whole.items()}
    write_weights(summed, partial / "adapter_model.safetensors")
    (partial / "adapter_config.json").write_text(json.dumps(first, indent=2) + "\n", encoding="utf-8")
    return partial.rename(out)


def _config(folder: Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        if not (folder / "adapter_model.safetensors").is_file():
            raise FileNotFoundError("adapter_model.safetensors")
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{folder} holds no adapter that can be combined ({error}): give a folder with adapter_config.json and "
            "adapter_model.safetensors, as PEFT saves it."
        ) from error
    return config


if __name__ == "__main__":
    sys.exit(main())
