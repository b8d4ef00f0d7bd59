"""Run directories made of what ships: the recorded run with the shipped adapter, as a finished run and as checkpoints."""

import json
import shutil
import zipfile
from pathlib import Path

from medgrpo.models import DEFAULT_PROFILE, PROFILES

ASSETS = PROFILES[DEFAULT_PROFILE].assets
PEFT = ("adapter_config.json", "adapter_model.safetensors")


def made_run(
    runs: Path, name: str, adapter: bool = True, checkpoints: tuple[int, ...] = (20,), **status: object
) -> Path:
    """The folder of a run that looks as if it had been trained here."""
    path = runs / name
    shutil.copytree(ASSETS / "runs" / "grpo", path)
    (path / "logs").mkdir()
    (path / "logs" / "attempt_1.log").write_text("step 45/45\n")
    written = json.loads((path / "status.json").read_text())
    (path / "status.json").write_text(json.dumps(written | status))
    if adapter:
        (path / "adapter").mkdir()
        for file in (*PEFT, "README.md", "adapter.gguf"):
            shutil.copy(ASSETS / file, path / "adapter" / file)
    for step in checkpoints:
        folder = path / f"checkpoint-{step}"
        folder.mkdir()
        for file in PEFT:
            shutil.copy(ASSETS / file, folder / file)
        (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}))
        for archive in ("optimizer.pt", "scheduler.pt"):
            with zipfile.ZipFile(folder / archive, "w") as file:
                file.writestr("data", "x")
    return path
