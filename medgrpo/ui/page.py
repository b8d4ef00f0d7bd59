"""The page: frame, tabs and what they share."""

import inspect
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.events import api as api_endpoint
from starlette.middleware import Middleware

from medgrpo.engines import AT_ONCE, choose, load_engine
from medgrpo.engines.base import BASE, GRPO
from medgrpo.evaluation.misplaced import misplaced
from medgrpo.settings import Settings
from medgrpo.training.manager import RunManager
from medgrpo.ui import about, adapter_picker, api, chat, compare, evaluate_tab, render, rewards_tab, train_tab
from medgrpo.ui.controls import page_html
from medgrpo.ui.desk import Desk
from medgrpo.ui.security import SecurityHeaders
from medgrpo.ui.state import Visits
from medgrpo.ui.stream import CROWD

HERE = Path(__file__).parent
TITLE = "MedGRPO"
TAGLINE = "structured medical reasoning, learned by reward"
FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")
SOON, LATER = 2.0, 15.0
"""Seconds between looks at the engine: while it loads, is down or answers, and while it is well or answers a crowd."""

QUIET: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}


def build_app(settings: Settings, desk: Desk | None = None) -> gr.Blocks:
    """The page over an engine that loads in the background. Launch it with `launch_options(settings)`."""
    desk = desk or Desk(settings, load_engine).open()
    visits = Visits()
    demo: gr.Blocks = gr.Blocks(title=TITLE, analytics_enabled=False, fill_width=True, delete_cache=(3600, 3600))
    with demo:
        # first, so that no private handler takes a public name
        for function, name in zip(api.functions(desk), api.PUBLIC, strict=True):
            api_endpoint(function, api_name=name, concurrency_id="engine", concurrency_limit=max(16, desk.line.slots))
        header = page_html(_header(desk), "masthead")
        timer = gr.Timer(SOON)
        look, head = _looker(desk), [header, timer]
        runs = train_tab.Runs(settings, RunManager(settings.runs))
        pickers, opened = [], []
        with gr.Tabs(elem_id="tabs"):
            with gr.Tab("Compare", id="compare") as tab:
                opened.append(tab.select)
                pickers.append(adapter_picker.layout("compare"))
                side_by_side = compare.layout(desk)
            chats = []
            for variant in (BASE, GRPO):
                with gr.Tab(render.TITLES[variant], id=variant) as tab:
                    if variant == GRPO:
                        opened.append(tab.select)
                        pickers.append(adapter_picker.layout(variant))
                    chats.append(chat.layout(desk, variant))
            with gr.Tab("Train", id="train") as tab:
                train_tab.build(tab, demo, desk, settings, runs, look, head)
            with gr.Tab("Rewards", id="rewards") as tab:
                rewards_tab.build(tab, desk, visits)
            with gr.Tab("Evaluate", id="evaluate") as tab:
                evaluate_tab.build(tab, desk)
            with gr.Tab("About", id="about"):
                gr.Markdown(about.text(desk), elem_id="about")
        compare.wire(side_by_side, desk, visits)
        for parts in chats:
            chat.wire(parts, desk, visits)
        looks = [demo.load, timer.tick, *opened]
        adapter_picker.wire(pickers, desk, runs.manager, settings, runs.listed, looks, look, head)
        timer.tick(look, None, head, **QUIET)
        _wire(demo, visits, look, head)
    _remember_signatures(demo)
    threading.Thread(target=misplaced, args=("",), name="read-casebook", daemon=True).start()  # so that no answer waits
    demo.queue(max_size=max(64, 4 * desk.line.slots), default_concurrency_limit=max(16, desk.line.slots))
    return demo


def _remember_signatures(demo: gr.Blocks) -> None:
    """Have `inspect.signature` look up what Gradio asks it for every component of the page, for each new visitor.

    While it does, no other visitor's page moves.
    """
    for kind in {type(block) for block in demo.blocks.values()}:
        vars(kind.__init__)["__signature__"] = inspect.signature(kind.__init__)


def launch_options(settings: Settings) -> dict[str, Any]:
    """Keyword arguments for `Blocks.launch`: the look, and everything that keeps cases off disks and other servers."""
    return {
        "theme": _theme(),
        "css_paths": [HERE / "style.css"],
        "js": (HERE / "page.js").read_text(encoding="utf-8"),
        "run_history": False,
        "ssr_mode": False,
        "enable_monitoring": False,
        "share": False,
        "show_error": False,
        "footer_links": ["api"],
        "state_session_capacity": 200,
        "max_file_size": "1mb",
        "mcp_server": True,
        "app_kwargs": {"middleware": [Middleware(SecurityHeaders)]},
        "quiet": not settings.on_space,
        "max_threads": max(40, 2 * AT_ONCE.get(choose(settings), 0)),
    }


def _header(desk: Desk) -> str:
    health = desk.health()
    engine = desk.engine if health.state == "ready" else None
    waiting, busy = desk.line.waiting(), desk.line.busy() > 0
    names = (engine.name, engine.model, engine.adapter) if engine else ("", desk.title, "")
    return render.masthead(TITLE, TAGLINE, render.status(health, *names, waiting, busy))


def _looker(desk: Desk) -> Callable[[], list[object]]:
    def look() -> list[object]:
        well = desk.health().state == "ready" and not 0 < len(desk.line.tickets()) <= CROWD
        return [_header(desk), gr.Timer(LATER if well else SOON)]

    return look


def _wire(demo: gr.Blocks, visits: Visits, look: Callable[[], list[object]], head: list[Any]) -> None:
    def leave(request: gr.Request) -> None:
        visits.leave(str(request.session_hash))

    demo.load(look, None, head, **QUIET)
    demo.unload(leave)


def _theme() -> gr.themes.Base:
    return gr.themes.Base(
        primary_hue="teal",
        secondary_hue="teal",
        neutral_hue="slate",
        text_size="lg",
        spacing_size="md",
        radius_size="md",
        font=FONTS,
        font_mono=MONO,
    )
