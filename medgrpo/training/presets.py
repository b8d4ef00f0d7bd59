"""The configurations that ship under train/configs, and which of them fits a machine."""

from pathlib import Path

from medgrpo.training.launching import ROOT
from medgrpo.training.machine import Machine


def presets() -> dict[str, Path]:
    """Name -> file, in alphabetical order; empty where only the package is installed."""
    return {path.stem: path for path in sorted((ROOT / "train" / "configs").glob("*.yaml"))}


def propose(machine: Machine) -> str:
    """The preset to begin with: one whose first result comes within minutes and that fits in memory.

    `smollm2_gpu` needs about 35 GB at its batch; a smaller GPU and a CPU with few cores begin with the smoke run, which
    shows everything and teaches nothing. A CPU with many cores can take `smollm2_cpu` in an afternoon.
    """
    if machine.gpus:
        wanted = "smollm2_gpu" if max(memory for _, memory in machine.gpus) >= 40 else "smoke_cpu"
    else:
        wanted = "smollm2_cpu" if machine.cpus >= 8 and machine.memory_gb >= 24 else "smoke_cpu"
    known = presets()
    return wanted if wanted in known else next(iter(known), "")
