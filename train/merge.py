"""The trained adapter merged into its base: a model of its own, for engines that take no adapter.

    python -m train.merge --run-dir runs/ID --to 16bit    # runs/ID/merged/: for vLLM, transformers, the Hub
    python -m train.merge --run-dir runs/ID --to gguf     # runs/ID/merged.gguf: for llama.cpp and what is built on it

Neither transformers nor the `gguf` package converts a model to GGUF. It is not needed either: the base's own GGUF has
the tokenizer and every name, and the adapter is there in llama.cpp's order already, so its product is added to the
dequantised matrices, which are kept in 16 bits. All else, embeddings included, stays as it is in the base.
"""

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medgrpo.engines.adapters import check_adapter, convert, find_converted
from medgrpo.errors import MedGRPOError, ModelError, RunError
from medgrpo.models import find_gguf
from medgrpo.settings import Settings
from medgrpo.training.config import read_config
from medgrpo.training.run_directory import RunDirectory


def main(argv: Sequence[str] | None = None) -> int:
    """Merge as the command line says; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m train.merge", description=__doc__)
    parser.add_argument("--run-dir", type=Path, required=True, help="folder of a run that has an adapter")
    parser.add_argument("--to", choices=("16bit", "gguf"), required=True)
    parser.add_argument("--base", help="GGUF of the base model (default: that of the run's model); only for gguf")
    parser.add_argument("--out", type=Path, help="folder or file to write (default: merged or merged.gguf in the run)")
    options = parser.parse_args(argv)
    run = RunDirectory(options.run_dir)
    try:
        if not (run.adapter / "adapter_config.json").is_file():
            raise RunError(f"{run.adapter} holds no adapter: give the --run-dir of a run that has finished or stopped.")
        model = read_config(run.config_file).model
        if options.to == "16bit":
            out = merge_16bit(run.adapter, model, options.out or run.path / "merged")
        else:
            base = find_gguf(options.base or model)
            out = merge_gguf(run.adapter, base, options.out or run.path / "merged.gguf")
    except MedGRPOError as error:
        print(error, file=sys.stderr)
        return 2
    print(out)
    return 0


def merge_16bit(adapter: Path, model: str, out: Path) -> Path:
    """A folder with the whole model in bfloat16, added up in float32, and its tokenizer.

    Raises:
        ModelError: the base cannot be loaded, or the adapter is not for it.
    """
    import torch
    from peft import PeftModel

    from medgrpo.engines.weights import find_base, load_base

    whole, tokenizer = load_base(find_base(model, (Settings.from_env().runs / ".cache").absolute()), "fp32")
    try:
        merged = PeftModel.from_pretrained(whole, str(adapter)).merge_and_unload()
    except (RuntimeError, ValueError, OSError) as error:
        raise ModelError(f"{adapter} does not fit {model} ({' '.join(str(error).split())[:200]}).") from error
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    merged.to(torch.bfloat16).save_pretrained(str(partial))
    tokenizer.save_pretrained(str(partial))
    shutil.rmtree(out, ignore_errors=True)
    return partial.rename(out)


def merge_gguf(adapter: Path, base: Path, out: Path) -> Path:
    """One GGUF file with the adapter in it.

    Args:
        base: GGUF of the base model in any quantisation; the finer it is, the better the result.

    Raises:
        ModelError: the adapter cannot be expressed, or is not for this base.
    """
    import gguf

    learned = find_converted(adapter) or convert(adapter, base, adapter / "adapter.gguf")
    check_adapter(learned, base)
    added = gguf.GGUFReader(learned)
    pairs = {tensor.name: gguf.quants.dequantize(tensor.data, tensor.tensor_type) for tensor in added.tensors}
    alpha = float(added.fields[gguf.Keys.Adapter.LORA_ALPHA].contents())
    source = gguf.GGUFReader(base)
    partial = out.with_name(f".{out.name}.partial")
    writer = gguf.GGUFWriter(partial, source.fields[gguf.Keys.General.ARCHITECTURE].contents())
    _copy_fields(source, writer, gguf)
    for tensor in source.tensors:
        if f"{tensor.name}.lora_a" in pairs:
            shape = (len(pairs[f"{tensor.name}.lora_b"]), pairs[f"{tensor.name}.lora_a"].shape[1])
            writer.add_tensor_info(tensor.name, shape, np.dtype(np.float16), 2 * shape[0] * shape[1])
        else:
            writer.add_tensor_info(
                tensor.name, tensor.data.shape, tensor.data.dtype, tensor.data.nbytes, tensor.tensor_type
            )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor in source.tensors:
        writer.write_tensor_data(_merged(tensor, pairs, alpha, gguf))
    writer.close()
    return partial.replace(out)


def _copy_fields(source: Any, writer: Any, gguf: Any) -> None:
    """Everything that the base says of itself, but for the kind of numbers that most tensors have."""
    for field in source.fields.values():
        if field.name.startswith("GGUF.") or field.name == gguf.Keys.General.ARCHITECTURE:
            continue  # which the writer writes itself
        value = field.contents()
        if field.name == gguf.Keys.General.FILE_TYPE:
            value = int(gguf.LlamaFileType.MOSTLY_F16)
        kind, inner = field.types[0], field.types[-1] if len(field.types) > 1 else None
        writer.add_key_value(field.name, value, kind, sub_type=inner)


def _merged(tensor: Any, pairs: dict[str, Any], alpha: float, gguf: Any) -> Any:
    """W + alpha / rank * B A where the adapter has the tensor (arXiv:2106.09685), else the data as they are."""
    a, b = pairs.get(f"{tensor.name}.lora_a"), pairs.get(f"{tensor.name}.lora_b")
    if a is None or b is None:
        return tensor.data
    whole = gguf.quants.dequantize(tensor.data, tensor.tensor_type) + alpha / len(a) * (b @ a)
    if np.abs(whole).max() > np.finfo(np.float16).max:
        raise ModelError(f"{tensor.name} has values that 16 bits cannot hold: its training diverged; repeat it.")
    return whole.astype(np.float16)


if __name__ == "__main__":
    sys.exit(main())
