"""What this machine is and what the project will do on it, in sentences: `python -m medgrpo doctor`."""

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from medgrpo.engines import choose
from medgrpo.engines.llamacpp import available_cpus
from medgrpo.errors import MedGRPOError
from medgrpo.models import PROFILES, find_adapter, find_gguf, packaged_gguf
from medgrpo.settings import Settings

REQUIREMENTS = Path(__file__).parent.parent
NEEDED, OPTIONAL = "requirements.txt", ("requirements-train.txt", "requirements-gpu.txt")
"""The tested versions stand in these files and nowhere else; the page needs the first, training and GPUs the others."""


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
    choice = choose(settings)
    if choice == "vllm":
        from medgrpo.engines.vllm import unusable

        if reason := unusable():
            return Finding("engine", False, reason)
    if settings.engine != "auto":
        return Finding("engine", True, f"{choice}, because MEDGRPO_ENGINE says so.")
    why = {
        "endpoint": f"because MEDGRPO_ENDPOINT is {settings.endpoint}",
        "vllm": "because the model is no GGUF file and vLLM can run here",
    }
    return Finding("engine", True, f"{choice}, {why.get(choice, 'the engine for GGUF files, with or without a GPU')}.")


def _model(settings: Settings) -> Finding:
    choice, profile = choose(settings), PROFILES.get(settings.model)
    local = settings.model.endswith(".gguf") or (profile is not None and packaged_gguf(profile) is not None)
    if choice == "endpoint" or (choice in ("vllm", "transformers") and not local):
        name = profile.base if profile else settings.model
        where = "as the endpoint calls it" if choice == "endpoint" else "from the Hub, fetched when it is first used"
        return Finding("model", True, f"{name}, {'a folder' if Path(name).is_dir() else where}.")
    try:
        path = find_gguf(settings.model, allow_download=False)
    except MedGRPOError as error:
        return Finding("model", False, str(error))
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
    """Compare what is installed with the pins the project was tested with."""
    if not (REQUIREMENTS / NEEDED).is_file():
        return Finding(
            "packages", True, "Installed as a package; the tested pins stand in the repository's requirements.txt."
        )
    wrong: list[str] = []
    install = NEEDED
    for name, (pin, file) in pins().items():
        found = _installed(name)
        if found == pin or (found == "missing" and file != NEEDED):
            continue
        wrong.append(f"{name} {found} (tested {pin})")
        install = file  # the later file holds the earlier ones
    if wrong:
        return Finding("packages", False, f"Outside the tested set: {', '.join(wrong)}: `pip install -r {install}`.")
    here = [f"{name} {pin}" for name, (pin, _) in pins().items() if _installed(name) == pin]
    return Finding("packages", True, f"{', '.join(here)}, as tested.")


def pins() -> dict[str, tuple[str, str]]:
    """Package -> (version it was tested with, requirements file that says so), the page's own packages first."""
    return {
        name: (pin, file)
        for file in (NEEDED, *OPTIONAL)
        if (REQUIREMENTS / file).is_file()
        for name, pin in re.findall(
            r"^([A-Za-z0-9_.-]+)(?:\[.*?\])?==([^\s;#]+)",
            (REQUIREMENTS / file).read_text(encoding="utf-8"),
            re.MULTILINE,
        )
    }


def _installed(name: str) -> str:
    """Its version without the build, such as +cu130, or "missing"."""
    try:
        return importlib.metadata.version(name).partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return "missing"
