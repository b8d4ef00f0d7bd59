"""What this machine is and what the project will do on it, in sentences: `python -m medgrpo doctor`."""

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from medgrpo.engines.llamacpp import available_cpus
from medgrpo.errors import MedGRPOError
from medgrpo.models import PROFILES, find_adapter, find_gguf
from medgrpo.settings import Settings

REQUIREMENTS = Path(__file__).parent.parent / "requirements.txt"


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        what: the thing looked at.
        good: False if something has to be done.
        says: one sentence; where `good` is False with the remedy.
    """

    what: str
    good: bool
    says: str


def examine(settings: Settings) -> list[Finding]:
    """Look at machine, engine, model, adapter and packages. Starts no model and downloads nothing."""
    return [_machine(settings), _gpu(), _engine(settings), _model(settings), _adapter(settings), _packages()]


def _machine(settings: Settings) -> Finding:
    import psutil

    memory = psutil.virtual_memory().total / 2**30
    threads = settings.threads or available_cpus()
    says = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}, {os.cpu_count()} cores"
    return Finding("machine", True, f"{says}, {threads} threads for models, {memory:.0f} GiB of memory.")


def _gpu() -> Finding:
    command = shutil.which("nvidia-smi")
    if command is None:
        return Finding("gpu", True, "No NVIDIA driver: models run on the CPU.")
    query = [command, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False)
    if done.returncode:
        return Finding(
            "gpu", False, f"nvidia-smi failed ({done.stderr.strip() or done.returncode}): repair the driver."
        )
    return Finding("gpu", True, "; ".join(done.stdout.strip().splitlines()) + ".")


def _engine(settings: Settings) -> Finding:
    if settings.engine != "auto":
        return Finding("engine", True, f"{settings.engine}, because MEDGRPO_ENGINE says so.")
    if settings.endpoint:
        return Finding("engine", True, f"endpoint, because MEDGRPO_ENDPOINT is {settings.endpoint}.")
    return Finding("engine", True, "llamacpp, the engine for machines without a GPU server.")


def _model(settings: Settings) -> Finding:
    try:
        path = find_gguf(settings.model, allow_download=False)
    except MedGRPOError as error:
        return Finding("model", False, str(error))
    profile = PROFILES.get(settings.model)
    licence = f", licence {profile.licence}" if profile else ""
    return Finding(
        "model",
        True,
        f"{profile.title if profile else path.stem} ({path.stat().st_size / 1e6:.0f} MB{licence}) at {path}.",
    )


def _adapter(settings: Settings) -> Finding:
    try:
        path = find_adapter(settings.model, settings.adapter)
    except MedGRPOError as error:
        return Finding("adapter", False, str(error))
    if path is None:
        return Finding(
            "adapter",
            False,
            f"No adapter for {settings.model} yet: train one, or set MEDGRPO_ADAPTER to a folder or Hub id.",
        )
    return Finding("adapter", True, f"{path}.")


def _packages() -> Finding:
    """Compare installed packages with the pins the project was tested with."""
    if not REQUIREMENTS.is_file():
        return Finding(
            "packages", True, "Installed as a package; the tested pins stand in the repository's requirements.txt."
        )
    pins = re.findall(r"^([A-Za-z0-9_.-]+)(?:\[.*?\])?==([^\s;#]+)", REQUIREMENTS.read_text(), re.MULTILINE)
    wrong = [f"{name} {_installed(name)} (tested {pin})" for name, pin in pins if _installed(name) != pin]
    if wrong:
        return Finding(
            "packages", False, f"Outside the tested set: {', '.join(wrong)}: run `pip install -r requirements.txt`."
        )
    return Finding("packages", True, f"{', '.join(f'{name} {pin}' for name, pin in pins)}, as tested.")


def _installed(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "missing"
