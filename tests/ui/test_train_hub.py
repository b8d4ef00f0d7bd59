"""Push and Jobs on the Train tab: the handlers as the page calls them, against the stand-in for the Hub."""

import inspect
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

from hub_runs import finished_run
from hub_server import WRITER, Hub, hub_server

from medgrpo.errors import RunError
from medgrpo.settings import Settings
from medgrpo.training.hub import PushReport
from medgrpo.training.jobs import Flavour, Job
from medgrpo.training.run_directory import RunDirectory
from medgrpo.ui import train_hub, train_jobs
from medgrpo.ui.background import Look, watched

NAME = "ada/from-the-page"
REQUEST: Any = SimpleNamespace(session_hash="visitor")
SIGNED_IN = gr.OAuthToken(token=WRITER, scope="contribute-repos jobs", expires_at=int(time.time()) + 86400)
A10G = Flavour("a10g-small", "Nvidia A10G - small", "4 vCPU", 1.0)
pytestmark = pytest.mark.filterwarnings("ignore:.*run_uv_job.*experimental:UserWarning")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.utils._http.time", SimpleNamespace(sleep=lambda _: None, time=time.time))
    monkeypatch.setattr("medgrpo.training.hub_errors.time.sleep", lambda _: None, raising=True)
    with hub_server() as server:
        yield server


class Page:
    """The handlers of my part of the tab over some runs."""

    def __init__(self, hub: Hub, runs: Path, may: Callable[[Any], None] = lambda request: None, on_space: bool = True):
        settings = Settings(engine="fake", on_space=on_space)
        self.runs = runs
        parts = (
            train_hub.Handler(self.find, may, settings, hub.url),
            train_jobs.Handlers(self.find, may, settings, hub.url),
        )
        self.handlers = {
            name: function
            for part in parts
            for name, function in inspect.getmembers(part, inspect.ismethod)
            if not name.startswith("_")
        }

    def find(self, run_id: str) -> RunDirectory:
        if not (self.runs / run_id).is_dir():
            raise RunError(f"There is no run {run_id!r}.")
        return RunDirectory(self.runs / run_id)


@pytest.fixture
def page(hub: Hub, tmp_path: Path) -> Page:
    finished_run(tmp_path / "one")
    return Page(hub, tmp_path)


def value(update: Any) -> Any:
    return update.value if hasattr(update, "value") else update


def test_a_push_tells_how_far_it_is_and_ends_with_the_address(page: Page, hub: Hub) -> None:
    screens = list(page.handlers["send"]("one", f" {NAME} ", False, REQUEST, SIGNED_IN))
    texts = [value(html) for html, _ in screens]
    assert any("<progress" in text and "Uploading adapter_model.safetensors" in text for text in texts)
    assert f'href="{hub.url}/{NAME}"' in texts[-1]
    assert "only you can see it" in texts[-1]
    assert [button.interactive for _, button in screens][:-1] == [False] * (len(screens) - 1)
    assert screens[-1][1].interactive
    assert hub.repositories[NAME].private
    assert not any(WRITER in text for text in texts)


def test_public_is_said(page: Page) -> None:
    *_, (html, _) = page.handlers["send"]("one", NAME, True, REQUEST, SIGNED_IN)
    assert "everyone can see it" in value(html)


@pytest.mark.parametrize(
    ("run_id", "name", "says"),
    [
        ("", NAME, "No run is chosen"),
        ("recorded:smollm2-135m", NAME, "is a recording"),
        ("../one", NAME, "There is no run"),
        ("one", "<b>x</b>", "is no name for a repository"),
        ("one", None, "is no name for a repository"),
        ("one", "bob/taken", "write access to bob/taken"),
    ],
)
def test_what_cannot_be_pushed_is_a_sentence(run_id: str, name: str, says: str, page: Page) -> None:
    *_, (html, button) = page.handlers["send"](run_id, name, False, REQUEST, SIGNED_IN)
    assert says in value(html)
    assert "<b>" not in value(html)
    assert button.interactive


def test_a_space_never_pushes_with_its_own_token(page: Page, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", WRITER)
    *_, (html, _) = page.handlers["send"]("one", NAME, False, REQUEST, None)
    assert "Nobody is signed in" in value(html)
    assert hub.seen == []


def test_at_home_the_token_of_the_environment_is_taken(
    page: Page, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", WRITER)
    *_, (html, _) = Page(hub, tmp_path, on_space=False).handlers["send"]("one", NAME, False, REQUEST, None)
    assert "Published and checked" in value(html)


def test_every_handler_asks_whether_the_visitor_may(hub: Hub, tmp_path: Path) -> None:
    def may(request: Any) -> None:
        raise gr.Error("only the owner", print_exception=False)

    handlers = Page(hub, tmp_path, may).handlers
    calls: dict[str, tuple[Any, ...]] = {
        "send": ("one", NAME, False, REQUEST, SIGNED_IN),
        "prices": (REQUEST, SIGNED_IN),
        "start": ("one", "smoke_cpu", NAME, "a10g-small", 60, REQUEST, SIGNED_IN),
        "mine": (REQUEST, SIGNED_IN),
        "watch": ("1", [], REQUEST, SIGNED_IN),
        "cancel": ("1", [], REQUEST, SIGNED_IN),
    }
    assert set(handlers) == set(calls)
    for name, arguments in calls.items():
        with pytest.raises(gr.Error, match="only the owner"):
            list(handlers[name](*arguments))
    assert hub.seen == []


def test_nothing_is_started_at_a_price_that_was_not_read() -> None:
    assert not train_jobs.offer([], "a10g-small", 60).interactive
    assert not train_jobs.offer([A10G], None, 60).interactive
    for minutes in (None, 0, 5, 100_000):
        assert not train_jobs.offer([A10G], "a10g-small", minutes).interactive
    button = train_jobs.offer([A10G], "a10g-small", 90)
    assert button.interactive
    assert button.value == "Start for at most $1.50 ($1.00 an hour × 90 min)"


def test_a_job_from_price_to_cancel(page: Page, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_jobs, "POLL", 0.01)
    flavours, machines, _ = page.handlers["prices"](REQUEST, SIGNED_IN)
    assert ("Nvidia A10G - small: 4 vCPU, 15 GB, 1 × A10G 24 GB, $1.00 an hour", "a10g-small") in machines.choices
    screens = list(page.handlers["start"]("one", "smoke_cpu", NAME, "a10g-small", 60, REQUEST, SIGNED_IN))
    says, chosen, button = screens[-1]
    assert "Started" in value(says)
    assert button.interactive
    watching = page.handlers["watch"](chosen.value, flavours, REQUEST, SIGNED_IN)
    html, _ = next(watching)
    assert "<b>running</b> on a10g-small, 1 min, about $0.02 so far" in value(html)
    assert NAME in value(html)
    _, log = next(watching)
    assert log.value == "step 1 of 2"
    assert "canceled" in value(page.handlers["cancel"](chosen.value, flavours, REQUEST, SIGNED_IN))
    *_, (_, log) = watching
    assert log.value == "step 1 of 2"  # and the watch has ended by itself
    listed, _ = page.handlers["mine"](REQUEST, SIGNED_IN)
    assert [job_id for _, job_id in listed.choices] == [chosen.value]


def test_a_second_watch_of_a_visitor_ends_the_first(page: Page, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_jobs, "POLL", 0.01)
    *_, (_, chosen, _) = page.handlers["start"]("one", "smoke_cpu", NAME, "cpu-basic", 60, REQUEST, SIGNED_IN)
    first = page.handlers["watch"](chosen.value, [], REQUEST, SIGNED_IN)
    next(first)
    second = page.handlers["watch"](chosen.value, [], REQUEST, SIGNED_IN)
    next(second)
    assert len(list(first)) == 1  # the log it was about to show
    second.close()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("", train_jobs.SHOWN, NAME, "cpu-basic", 60), "No run is shown"),
        (("nope", train_jobs.SHOWN, NAME, "cpu-basic", 60), "There is no run"),
        (("one", "smoke_cpu", "bad name", "cpu-basic", 60), "no name for a repository"),
        (("one", "smoke_cpu", NAME, "cpu-basic", None), "time limit"),
    ],
)
def test_a_job_that_cannot_start_is_a_sentence(arguments: tuple[Any, ...], says: str, page: Page, hub: Hub) -> None:
    *_, (html, *_) = page.handlers["start"](*arguments, REQUEST, SIGNED_IN)
    assert says in value(html)
    assert hub.jobs == {}


def test_no_job_and_no_such_job_are_sentences(page: Page) -> None:
    assert "no job" in value(page.handlers["mine"](REQUEST, SIGNED_IN)[1])
    assert "Find my jobs" in value(page.handlers["cancel"](None, [], REQUEST, SIGNED_IN))
    *_, (html, _) = page.handlers["watch"]("abc", [], REQUEST, SIGNED_IN)
    assert "HTTP 404" in value(html)


def test_what_the_hub_says_is_text_and_no_markup() -> None:
    job = Job("1", "ada", "https://x", "ERROR", "<img src=x onerror=alert(1)>", "<b>", "a/<i>", "", 0.0)
    report = PushReport("a/b", 'https://x/"><script>', "c" * 40, {"a": 1}, True)
    html = train_jobs.state(job) + train_hub.done(report)
    assert "<img" not in html
    assert "<script" not in html
    assert "<i>" not in html


def test_an_error_that_nobody_foresaw_does_not_tell_what_was_sent() -> None:
    def work(report: Callable[[str], None]) -> str:
        report("begun")
        raise KeyError(WRITER)

    looks = list(watched(work))
    assert looks[0].progress == "begun"
    assert "KeyError" in str(looks[-1].error)
    assert WRITER not in str(looks[-1].error)


def test_a_long_silence_still_gives_a_sign_of_life() -> None:
    looks: list[Look[str, int]] = list(watched(lambda report: time.sleep(0.2) or 7, every=0.05))  # type: ignore[func-returns-value]
    assert len(looks) >= 3
    assert looks[-1].result == 7
