"""Finished runs to push: the shipped recording with an adapter of random numbers, which no transfer can compress."""

import json
import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from medgrpo.training.run_directory import RunDirectory

RECORDED = Path(__file__).parents[2] / "medgrpo" / "assets" / "smollm2-135m"


def finished_run(path: Path, seed: int | None = None) -> RunDirectory:
    """A copy of the recorded GRPO run with an adapter (1 MB) and its GGUF (0.6 MB).

    No two are alike unless they have a seed: Xet's client remembers on disk what a server at the same port was sent before.
    """
    shutil.copytree(RECORDED / "runs" / "grpo", path)
    run = RunDirectory(path)
    run.adapter.mkdir()
    numbers = np.random.default_rng(seed)
    layer = "base_model.model.model.layers.0.self_attn.q_proj"
    weights = {f"{layer}.lora_A.weight": numbers.integers(0, 2**16, (16, 32_000), dtype=np.uint16).view(np.float16)}
    save_file(weights, run.adapter / "adapter_model.safetensors", metadata={"format": "pt"})
    (run.adapter / "adapter.gguf").write_bytes(b"GGUF" + numbers.bytes(600_000))
    shutil.copy(RECORDED / "adapter_config.json", run.adapter)
    return run


def change_settings(run: RunDirectory, **changes: object) -> None:
    """Write other values into adapter_config.json."""
    path = run.adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
