"""The adapters that runs left behind, the final one and one for each whole checkpoint, and how they are handed out."""

import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path

from medgrpo.engines.adapters import check_adapter, convert, find_converted
from medgrpo.errors import RunError
from medgrpo.models import find_gguf
from medgrpo.training.manager import RunInfo, RunManager

PEFT_FILES = ("adapter_config.json", "adapter_model.safetensors", "README.md")


@dataclass(frozen=True)
class RunAdapter:
    """An adapter of a run.

    Attributes:
        run: id of the run.
        step: of the checkpoint; None is the adapter saved at the end.
        folder: PEFT files, and `adapter.gguf` once it was converted.
        model: base model of the run, a profile, path or Hub id.
    """

    run: str
    step: int | None
    folder: Path
    model: str

    @property
    def id(self) -> str:
        return self.run if self.step is None else f"{self.run}@{self.step}"

    @property
    def title(self) -> str:
        return self.run if self.step is None else f"{self.run}, step {self.step}"


def adapters_of(info: RunInfo) -> list[RunAdapter]:
    """The adapters of a run, the final one first, then the checkpoints from the latest to the first."""
    final = [RunAdapter(info.id, None, info.adapter_path, info.model)] if info.has_adapter else []
    return final + [
        RunAdapter(info.id, step, info.path / f"checkpoint-{step}", info.model) for step in reversed(info.checkpoints)
    ]


def find(manager: RunManager, adapter_id: str) -> RunAdapter:
    """The adapter of this id. Raises RunError if there is none."""
    run, _, step = adapter_id.partition("@")
    for adapter in adapters_of(manager.info(run)):
        if adapter.id == adapter_id:
            return adapter
    what = (
        f"no checkpoint of step {step}; old ones are deleted (training.save_total_limit)" if step else "no adapter yet"
    )
    raise RunError(f"{run} has {what}: choose another, or wait until one is saved.")


def export_peft(adapter: RunAdapter, folder: Path) -> Path:
    """Write the PEFT files as a zip into `folder`. Raises RunError if one is missing or nothing can be written."""
    target = folder / f"{_file_name(adapter)}-peft.zip"
    try:
        with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
            for name in PEFT_FILES:
                if name != "README.md" or (adapter.folder / name).is_file():
                    archive.write(adapter.folder / name, name)
    except OSError as error:
        target.unlink(missing_ok=True)
        raise RunError(
            f"The adapter {adapter.title} cannot be packed ({error.strerror}): "
            "free some space, or choose a checkpoint that is still there."
        ) from None
    return target


def export_gguf(adapter: RunAdapter, folder: Path) -> Path:
    """Write the adapter for llama.cpp into `folder`, converted first where the run has none.

    Raises:
        ModelError: it cannot be converted, or the base model's GGUF, which names the tensors, is not here.
        RunError: nothing can be written.
    """
    target = folder / f"{_file_name(adapter)}.gguf"
    try:
        base = find_gguf(adapter.model, allow_download=False)
        ready = find_converted(adapter.folder)
        if ready is None:
            convert(adapter.folder, base, target)
        else:
            shutil.copyfile(ready, target)
        check_adapter(target, base)
    except OSError as error:
        target.unlink(missing_ok=True)
        raise RunError(
            f"The adapter {adapter.title} cannot be written as GGUF ({error.strerror}): free some space and try again."
        ) from None
    return target


def _file_name(adapter: RunAdapter) -> str:
    return adapter.id.replace("@", "-step-")
