"""The live view in a real browser: a run that grows under it, a recording that is played, and what a reader does with them."""

import os
import re
import sys
from pathlib import Path

import pytest
from playwright.sync_api import expect

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

from helpers import serving
from written_runs import BARE, CUT, RIGHT, WRONG, a_run, steady, write_evaluation, write_group, write_status

from medgrpo.training.run_directory import RunDirectory, append_lines, process_identity

pytestmark = pytest.mark.browser
SERVER = Path(__file__).parents[1] / "ui" / "serve_live.py"
ATTACK = (
    "<reasoning><img src=x onerror=window.__pwn=1> ${window.__pwn=1} {{value}}</reasoning>"
    "<answer><script>window.__pwn=1</script></answer>"
)
PLANNED = 60


def at(run: RunDirectory, step: int, phase: str = "training") -> None:
    """The run as its trainer, which is this process, would report it."""
    me = os.getpid()
    write_status(run, phase=phase, pid=me, identity=process_identity(me), step=step, total=PLANNED)


def grow(run: RunDirectory, first: int, last: int) -> None:
    lines = steady(PLANNED)
    append_lines(
        run.metrics_file, [{"step": step, "time": 2.0 * step, **lines[step - 1]} for step in range(first, last + 1)]
    )
    at(run, last)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    a_run(folder / "other", steady(30), training={"learning_rate": 0.01})
    return folder


@pytest.fixture(scope="module")
def mine(folder) -> RunDirectory:
    run = a_run(folder / "mine")
    grow(run, 1, 10)
    write_evaluation(run, 0, [WRONG, RIGHT, BARE])
    write_group(run, 1, 0, [RIGHT, WRONG, BARE, CUT, ATTACK])
    run.log_file(1).write_text("".join(f"step {n}/60: reward 1.0 <b>\n" for n in range(1, 11)))
    return run


@pytest.fixture(scope="module")
def live(mine, folder):
    command = [sys.executable, str(SERVER), str(folder)]
    with serving(command=command, environment=dict(os.environ)) as address:
        yield address


def keep(page, selector: str) -> None:
    """Remember the element, to see later whether it was replaced."""
    page.eval_on_selector(selector, "element => { element.kept = true; }")


def kept(page, selector: str) -> bool:
    return page.eval_on_selector(selector, "element => element.kept === true")


def test_a_run_is_watched_through_a_reload(open_page, live, mine):
    page = open_page(base=live).page
    state = page.locator("#run-state .run")
    expect(state).to_have_attribute("data-step", "10", timeout=15000)
    expect(state).to_contain_text("step 10 of 60, about 2 min left")
    expect(page.locator("#run-rewards path.band")).to_have_count(8)
    expect(page.locator("#run-charts figure").last).to_contain_text("Loss")
    first = page.locator("#run-rewards path.band").first.get_attribute("d")

    for part in ("#run-rewards svg", "#run-charts svg", "#group-view article", "#held-view article"):
        if page.locator(part).count():
            keep(page, part)
    page.wait_for_timeout(3500)  # some looks at a run that does nothing
    assert kept(page, "#run-rewards svg")
    assert kept(page, "#group-view article")

    grow(mine, 11, 25)
    expect(state).to_have_attribute("data-step", "25", timeout=10000)
    expect(page.locator("#run-rewards path.band").first).not_to_have_attribute("d", first)
    assert kept(page, "#group-view article")  # its part did not change

    page.reload()
    expect(state).to_have_attribute("data-step", "25", timeout=15000)
    expect(page.locator("#run-rewards path.band")).to_have_count(8)
    at(mine, 25, "evaluating")
    expect(state).to_contain_text("answering held-out cases", timeout=10000)


def test_completions_are_inspected_while_the_run_goes_on(open_page, live, mine):
    page = open_page(base=live).page
    group = page.locator("#group-view")
    expect(group.locator("article")).to_have_count(5, timeout=15000)
    first = group.locator("article").first
    expect(first).to_contain_text("correctness 1.00")
    expect(first.locator("details.why")).not_to_have_attribute("open", "")
    first.locator("details.why summary").click()
    expect(first.locator("details.why")).to_contain_text("Exactly one reasoning block", timeout=30000)
    first.locator("details.reasoning summary").first.click()
    expect(first.locator(".reasoning-body").first).to_be_visible()

    write_group(mine, 20, 0, [RIGHT, RIGHT])
    write_group(mine, 20, 1, [RIGHT, WRONG])
    page.locator("#group-step input").click()
    page.get_by_role("option", name=re.compile("^all")).click()
    expect(group.locator("article")).to_have_count(2, timeout=10000)
    expect(group).not_to_contain_text("nothing is learned from this group")
    page.locator("#group-filter label", has_text="Right but malformed").click()
    expect(group.locator("article")).to_have_count(5, timeout=10000)
    expect(group.locator("article").first).to_contain_text("Completion 3")
    page.locator("#group-filter label", has_text="No spread").click()
    expect(group).to_contain_text("nothing is learned from this group", timeout=10000)
    assert page.evaluate("window.__pwn") is None


def test_held_out_answers_log_and_two_runs(open_page, live, mine):
    write_evaluation(mine, 20, [RIGHT, RIGHT, BARE])
    page = open_page(base=live).page
    page.get_by_role("tab", name="Held-out", exact=True).click()
    held = page.locator("#held-view")
    expect(held.locator("article")).to_have_count(2, timeout=15000)
    expect(held).to_contain_text("learned")
    expect(page.locator("#held-table")).to_contain_text("McNemar, exact")
    page.locator("#held-step input[type=number]").fill("0")
    page.keyboard.press("Tab")
    expect(held.locator("article")).to_have_count(1, timeout=10000)

    page.get_by_role("tab", name="Log", exact=True).click()
    expect(page.locator("#run-log pre")).to_contain_text("step 10/60: reward 1.0 <b>")
    with page.expect_download() as download:
        page.locator("#run-log-download").click()
    assert download.value.suggested_filename == "mine.log"
    assert Path(download.value.path()).read_text() == mine.log_file(1).read_text()

    page.get_by_role("tab", name="Two runs").click()
    page.locator("#run-other input").click()
    page.get_by_role("option", name="other", exact=True).click()
    expect(page.locator("#run-overlay [data-name=other]")).not_to_have_count(0, timeout=10000)
    expect(page.locator("#run-overlay table")).to_contain_text("training.learning_rate")

    page.locator("#chosen input").click()
    page.get_by_role("option", name="gone").click()
    expect(page.locator("#run-state")).to_contain_text("There is no run 'gone': choose one", timeout=10000)
    expect(page.locator("#run-rewards figure")).to_have_count(0)


def test_a_chart_is_read_with_pointer_and_keys(open_page, live, mine):
    page = open_page(base=live).page
    plot = page.locator("#run-rewards .plot").first
    expect(plot).to_be_visible(timeout=15000)
    box = plot.bounding_box()
    plot.hover(position={"x": 1, "y": box["height"] / 2})
    read = plot.locator(".read")
    expect(read).to_contain_text(re.compile(r"^step 1\n"), use_inner_text=True)
    text = read.inner_text()
    values = {line.rpartition("  ")[0]: float(line.rpartition("  ")[2]) for line in text.splitlines()[1:]}
    wanted = steady(PLANNED)[0]
    assert values["reward"] == pytest.approx(wanted["reward"], abs=0.02)
    assert values["format"] == pytest.approx(0.5 * wanted["rewards/format/mean"], abs=0.02)
    plot.focus()
    page.keyboard.press("ArrowRight")
    expect(read).not_to_have_text(text)
    page.keyboard.press("Tab")
    expect(read).to_be_hidden()


def test_a_recording_plays_as_if_live(open_page, live):
    page = open_page(base=live).page
    page.locator("#chosen input").click()
    page.get_by_role("option", name="recorded:smollm2-135m", exact=True).click()
    state = page.locator("#run-state .run")
    expect(state).to_contain_text("recording", timeout=10000)
    expect(state).to_have_attribute("data-step", re.compile("^[1-9]"), timeout=15000)
    page.locator("#replay-play").click()
    expect(page.locator("#replay-play")).to_have_text("Play")
    step = state.get_attribute("data-step")
    page.wait_for_timeout(2500)
    assert state.get_attribute("data-step") == step
    page.evaluate(  # one right after the other: Play begins before the server has answered about the speed
        """() => {
          [...document.querySelectorAll("#replay-speed label")].find((each) => each.innerText.includes("100×")).click();
          document.querySelector("#replay-play").click();
        }"""
    )
    expect(state).to_have_attribute("data-phase", "finished", timeout=60000)
    expect(page.locator("#replay-play")).to_have_text("Play again")
    page.locator("#replay-scrub input[type=number]").fill("5")
    page.keyboard.press("Tab")
    expect(state).to_have_attribute("data-step", "5", timeout=10000)
    expect(state).to_have_attribute("data-phase", "training")
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
