"""Which adapter the GRPO model answers with: a picker in Compare and in the chat, for those who may train here.

There is one engine for everybody, so a choice holds for all visitors; the status line and every answer name the adapter.
The list is that of the run directories: a checkpoint is in it as soon as the trainer has written it whole.
"""

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from medgrpo.errors import MedGRPOError
from medgrpo.settings import Settings
from medgrpo.training import adapters
from medgrpo.training.manager import RunInfo, RunManager
from medgrpo.ui import access
from medgrpo.ui.desk import Desk

OWN = "shipped"
"""Id of the adapter that the process was started with."""
SHOWN = 200
"""Most adapters in the list; the newest runs come first."""


def choices(infos: Sequence[RunInfo], own: str) -> list[tuple[str, str]]:
    """(label, id) of every adapter there is."""
    found = [each for info in infos for each in adapters.adapters_of(info)][:SHOWN]
    return [(own, OWN), *((each.title, each.id) for each in found)]


def own_title(desk: Desk) -> str:
    """What the adapter of the settings is called."""
    name = desk.settings.adapter
    return f"adapter {name}" if name else "shipped adapter" if "grpo" in desk.variants or desk.adapter else "no adapter"


def current(desk: Desk, infos: Sequence[RunInfo]) -> str | None:
    """Id of the adapter that answers now; None if its folder is gone."""
    if not desk.adapter:
        return OWN
    for info in infos:
        for each in adapters.adapters_of(info):
            if str(each.folder.absolute()) == desk.adapter:
                return each.id
    return None


def use(desk: Desk, manager: RunManager, adapter_id: str) -> str:
    """Let this adapter answer; returns its title.

    Raises:
        MedGRPOError: it is gone, or does not fit; the one before goes on answering.
    """
    if adapter_id == OWN:
        desk.use_adapter("", "")
        return own_title(desk)
    found = adapters.find(manager, adapter_id)
    desk.use_adapter(str(found.folder.absolute()), found.title)
    return found.title


def layout(place: str) -> gr.Dropdown:
    """The picker of one tab; it appears once there is something to choose and the visitor may."""
    return gr.Dropdown(
        [], label="Adapter of the GRPO model", elem_id=f"adapter-{place}", visible=False, filterable=True,
        info="Your choice holds for everyone who uses this page.",
    )  # fmt: skip


def wire(
    pickers: Sequence[gr.Dropdown],
    desk: Desk,
    manager: RunManager,
    settings: Settings,
    listed: Callable[[], Sequence[RunInfo]],
    looks: Sequence[Callable[..., Any]],
    after: Callable[..., Any],
    header: Sequence[Any],
) -> None:
    """Join the pickers.

    Args:
        listed: the runs there are.
        looks: events at which the lists are made anew.
        after, header: function and outputs that show the new adapter in the head of the page.
    """
    quiet: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    seen = gr.State("")

    def look(before: str, request: gr.Request) -> list[object]:
        if access.refusal(settings, request, access.signed_in(request)):
            return [gr.skip() for _ in (seen, *pickers)]
        infos = listed()
        options, value = choices(infos, own_title(desk)), current(desk, infos)
        now = repr((options, value))
        if now == before:
            return [gr.skip() for _ in (seen, *pickers)]
        shown = gr.Dropdown(options, value=value, visible=len(options) > 1)
        return [now, *(shown for _ in pickers)]

    def choose(adapter_id: str, request: gr.Request) -> list[object]:
        access.check(settings, request)
        try:
            title = use(desk, manager, adapter_id)
        except MedGRPOError as error:
            raise gr.Error(str(error), print_exception=False) from error
        gr.Info(f"The GRPO model now answers with {title}, for everyone on this page.")
        return [gr.Dropdown(value=adapter_id) for _ in pickers]

    gr.on(list(looks), look, [seen], [seen, *pickers], **quiet)
    for picker in pickers:
        event = picker.input(
            choose, [picker], list(pickers), show_progress="minimal", concurrency_id="adapter", concurrency_limit=1,
            api_visibility="private",
        )  # fmt: skip
        event.then(after, None, list(header), **quiet)
        event.failure(lambda: "", None, [seen], **quiet).then(look, [seen], [seen, *pickers], **quiet)
