"""What this machine has for training: processors, memory, GPUs, disk."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil

from medgrpo.engines.llamacpp import available_cpus

GB = 2**30


@dataclass(frozen=True)
class Machine:
    """Attributes:
    cpus: processors that this process may use.
    memory_gb: memory that this process may use, in GiB.
    gpus: (name, memory in GiB) of each CUDA device.
    disk_free_gb: free space where the runs are kept, in GiB.
    """

    cpus: int
    memory_gb: float
    gpus: tuple[tuple[str, float], ...] = ()
    disk_free_gb: float = 0.0

    def __str__(self) -> str:
        gpus = ", ".join(f"{name} ({memory:.0f} GB)" for name, memory in self.gpus) or "no CUDA device"
        return f"{self.cpus} CPUs, {self.memory_gb:.0f} GB of memory, {gpus}, {self.disk_free_gb:.0f} GB of free disk"


def here(runs: Path) -> Machine:
    """This machine, seen from the folder of runs, which need not exist yet."""
    folder = Path(runs).absolute()
    while not folder.exists():
        folder = folder.parent
    return Machine(available_cpus(), _memory(), cuda_devices(), shutil.disk_usage(folder).free / GB)


def _memory() -> float:
    """Memory in GiB: that of the machine, or of its container if that is less."""
    memory = psutil.virtual_memory().total
    for limit in (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")):
        try:
            text = limit.read_text().strip()
        except OSError:
            continue
        if text.isdecimal():
            memory = min(memory, int(text))
    return memory / GB


def cuda_devices() -> tuple[tuple[str, float], ...]:
    """(name, memory in GiB) of each NVIDIA device, as its driver says; none if there is no driver or it fails."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return ()
    query = [command, "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    found = []
    for line in done.stdout.splitlines():
        name, _, memory = line.rpartition(",")
        if memory.strip().isdecimal():
            found.append((name.strip(), int(memory) / 1024))
    return tuple(found)
