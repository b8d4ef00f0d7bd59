"""What a run's adapter is for: chat with it, compare it with the base, go on from it with other weights, take it along."""

import secrets
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import yaml

from medgrpo.errors import MedGRPOError, RunError
from medgrpo.settings import Settings
from medgrpo.training import adapters
from medgrpo.training.manager import RunManager
from medgrpo.ui import access, adapter_picker
from medgrpo.ui.controls import page_html
from medgrpo.ui.desk import Desk
from medgrpo.ui.render_form import sentence
from medgrpo.ui.train_fields import to_yaml

TEACH = "Choose a run that has saved an adapter or a checkpoint."


@dataclass(frozen=True)
class Parts:
    """The components of this part of the tab."""

    box: gr.Column
    adapter: gr.Dropdown
    chat: gr.Button
    fork: gr.Button
    export: gr.Button
    said: gr.HTML
    files: gr.File

    @property
    def buttons(self) -> list[gr.Button]:
        return [self.chat, self.fork, self.export]


def layout() -> Parts:
    """Place the components."""
    with gr.Column(visible=False, elem_id="train-afterwards") as box:
        page_html("<h3>The adapter</h3>", "after-title")
        adapter = gr.Dropdown([], label="Adapter", elem_id="after-adapter", info=TEACH)
        with gr.Row(elem_classes="actions"):
            chat = gr.Button("Use in the chat", elem_id="after-chat", min_width=96, interactive=False)
            fork = gr.Button("Fork from here", elem_id="after-fork", min_width=96, interactive=False)
            export = gr.Button("Export PEFT and GGUF", elem_id="after-export", min_width=96, interactive=False)
        said = page_html("", "after-said", visible=False, elem_classes="beside")
        files = gr.File(file_count="multiple", interactive=False, visible=False, label="Files", elem_id="after-files")
    return Parts(box, adapter, chat, fork, export, said, files)


def fork_yaml(manager: RunManager, adapter_id: str) -> str:
    """The configuration of a run that goes on from this adapter; everything else is as in the run it comes from.

    Raises:
        RunError: the adapter or the run's configuration is gone.
    """
    found = adapters.find(manager, adapter_id)
    run = manager.directory(found.run)
    try:
        config = yaml.safe_load(run.config_file.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError):
        config = None
    if not isinstance(config, dict):
        raise RunError(f"{run.config_file} cannot be read: put it back, or start from a preset.")
    return to_yaml({**config, "init_adapter": str(found.folder.absolute())})


def export(manager: RunManager, adapter_id: str, folder: Path) -> tuple[list[Path], str]:
    """(files, why one of them is missing) of an adapter, written into `folder`.

    Raises:
        RunError: the adapter is gone, or nothing can be written.
    """
    found = adapters.find(manager, adapter_id)
    files = [adapters.export_peft(found, folder)]
    try:
        files.append(adapters.export_gguf(found, folder))
    except MedGRPOError as error:
        return files, str(error)
    return files, ""


def wire(
    parts: Parts, desk: Desk, manager: RunManager, settings: Settings, forked: list[Any], fill: Callable[[str], list[object]],
    after: Callable[..., Any], header: list[Any],
) -> None:  # fmt: skip
    """Join the components.

    Args:
        forked, fill: outputs of the start form, and a YAML text as their values.
        after, header: function and outputs that show the new adapter in the head of the page.
    """
    folder = Path(tempfile.gettempdir()) / f"medgrpo-export-{secrets.token_hex(8)}"
    heavy: dict[str, Any] = {"show_progress": "minimal", "concurrency_id": "adapter", "api_visibility": "private"}

    def chat(adapter_id: str | None, request: gr.Request) -> object:
        access.check(settings, request)
        if not adapter_id:
            return _say(TEACH, "flaw")
        try:
            title = adapter_picker.use(desk, manager, adapter_id)
        except MedGRPOError as error:
            return _say(str(error), "flaw")
        return _say(f"Compare and the GRPO model now answer with {title}, for everyone on this page.", "good")

    def fork(adapter_id: str | None, request: gr.Request) -> list[object]:
        access.check(settings, request)
        try:
            text = fork_yaml(manager, adapter_id or "")
        except MedGRPOError as error:
            return [_say(str(error), "flaw"), *(gr.skip() for _ in forked)]
        words = (
            f"The form holds the configuration of {adapter_id}, going on from its weights at step 0 with a fresh "
            "optimiser. Change the weights of the rewards, then press Start; both runs can be laid over each other."
        )
        return [_say(words, "good"), *fill(text)]

    def save(adapter_id: str | None, request: gr.Request) -> list[object]:
        access.check(settings, request)
        try:
            shutil.rmtree(folder, ignore_errors=True)  # what was written before has been taken over by the page
            folder.mkdir(mode=0o700)
            files, missing = export(manager, adapter_id or "", folder)
        except (MedGRPOError, OSError) as error:
            return [_say(str(error), "flaw"), gr.File(None, visible=False)]
        words = (
            f"No GGUF: {missing}"
            if missing
            else "Unzip the PEFT files into a folder; llama.cpp takes the GGUF with --lora."
        )
        return [_say(words, "flaw" if missing else "good"), gr.File([str(file) for file in files], visible=True)]

    parts.chat.click(chat, [parts.adapter], [parts.said], **heavy).then(
        after, None, header, queue=False, show_progress="hidden", api_visibility="private"
    )
    parts.fork.click(
        fork, [parts.adapter], [parts.said, *forked], queue=False, show_progress="hidden", api_visibility="private"
    )
    parts.export.click(save, [parts.adapter], [parts.said, parts.files], **heavy)


def _say(words: str, kind: str) -> gr.HTML:
    return gr.HTML(sentence(words, kind), visible=True)
