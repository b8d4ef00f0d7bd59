"""The Evaluate tab in a real browser: filter, open a case, run four cases, save them, find them again after a reload."""

import json
import os
import re
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import serving
from playwright.sync_api import expect

pytestmark = pytest.mark.browser
CONTRAST = runpy.run_path(str(Path(__file__).with_name("test_page.py")))["CONTRAST"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    runs = tmp_path_factory.mktemp("runs")
    environment = os.environ | {"MEDGRPO_ENGINE": "fake", "MEDGRPO_RUNS": str(runs)}
    with serving(command=[sys.executable, "app.py"], environment=environment) as address:
        yield address


def to_tab(page):
    tab = page.get_by_role("tab", name="Evaluate", exact=True)
    if not tab.is_visible():
        page.locator(".overflow-menu button").first.click()
        tab = page.locator(".overflow-dropdown").get_by_text("Evaluate", exact=True)
    tab.click()
    page.wait_for_selector(".ev-bar")


def choose(page, picker, option):
    page.locator(f"#{picker} input").click()
    page.get_by_role("option", name=option, exact=True).click()


def saved(page, button) -> tuple[str, str]:
    with page.expect_download() as download:
        page.click(button)
    return download.value.suggested_filename, Path(download.value.path()).read_text(encoding="utf-8")


def test_figures_filters_and_cases(open_page, base):
    page = open_page(base=base).page
    to_tab(page)
    choose(page, "evaluate-data", "Casebook hard")
    expect(page.locator(".ev-chart h2")).to_contain_text("casebook, hard split")
    chosen = page.locator('.ev-bar[aria-pressed="true"]')
    whole = chosen.locator(".ev-value").inner_text()
    register = page.locator("#evaluate-detail .ev-card h4").first.inner_text()
    choose(page, "evaluate-register", register)
    expect(page.locator(".ev-filter")).to_have_text(f"Only {register}.")
    expect(chosen.locator(".ev-value")).not_to_have_text(re.compile(re.escape(whole)))
    choose(page, "evaluate-register", "All")
    expect(chosen.locator(".ev-value")).to_have_text(re.compile(re.escape(whole.split()[0])))
    page.locator("#evaluate-outcome").get_by_text("Wrong", exact=True).click()
    expect(page.locator("#evaluate-cases .chip-ok")).to_have_count(0)
    expect(page.locator("#evaluate-cases .chip-error").first).to_contain_text("wrong")
    page.locator("#evaluate-cases .ev-list button").first.click()
    expect(page.locator(".ev-case > .case")).to_contain_text("Reference:")
    panel = page.locator(".ev-answers article").last
    expect(panel.locator("summary")).to_contain_text("Reasoning")
    panel.locator("summary").click()
    expect(panel.locator(".reasoning-body")).to_be_visible()
    page.locator(".ev-bar").first.click()
    expect(page.locator("#evaluate-outcome")).to_contain_text(page.locator(".ev-bar .ev-name").first.inner_text())


def test_four_cases_are_evaluated_saved_and_found_again(open_page, base):
    page = open_page(base=base).page
    to_tab(page)
    page.locator("#evaluate-count input[type=number]").fill("4")
    page.keyboard.press("Tab")
    page.fill("#evaluate-name input, #evaluate-name textarea", "First try")
    page.click("#evaluate-run")
    progress = page.locator(".ev-progress")
    expect(progress).to_contain_text(re.compile("[1-3] of 4 answered"), timeout=20000)
    page.reload()  # it goes on without its visitor
    page.wait_for_selector("html[data-medgrpo=ready]")
    to_tab(page)
    expect(progress).to_contain_text("4 of 4 answered", timeout=30000)
    expect(progress).to_contain_text("Done.")
    expect(page.locator("#evaluate-run")).to_be_enabled()
    choose(page, "evaluate-model", "Run on this machine")
    expect(page.locator(".ev-chart h2")).to_contain_text("4 cases")
    expect(page.locator(".ev-bar")).to_have_count(1)
    name, text = saved(page, "#evaluate-save-results")
    assert name == "first-try-grpo.jsonl"
    assert len([json.loads(line) for line in text.splitlines()]) == 4
    name, text = saved(page, "#evaluate-save-report")
    assert name == "first-try-report.md"
    assert "| GRPO | 4 |" in text


def test_stop_keeps_what_was_answered_and_it_goes_on(open_page, base):
    page = open_page(base=base).page
    to_tab(page)
    page.locator("#evaluate-count input[type=number]").fill("8")
    page.keyboard.press("Tab")
    page.fill("#evaluate-name input, #evaluate-name textarea", "Stopped")
    page.click("#evaluate-run")
    progress = page.locator(".ev-progress")
    expect(progress).to_contain_text(re.compile("[1-7] of 8 answered"), timeout=20000)
    page.click("#evaluate-stop")
    expect(progress).to_contain_text("press Evaluate again", timeout=10000)
    more = page.locator("#evaluate-more")
    expect(more).to_contain_text(re.compile("Go on: [0-9]+ answers are missing"), timeout=10000)
    more.click()
    expect(progress).to_contain_text("8 of 8 answered", timeout=60000)
    expect(more).to_be_hidden(timeout=10000)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_and_a_telephone(open_page, base, scheme):
    page = open_page(base=base, color_scheme=scheme).page
    to_tab(page)
    page.locator("#evaluate-cases .ev-list button").first.click()
    page.wait_for_selector(".ev-answers article")
    for block in page.locator("#evaluate-detail summary").all():
        block.click()
    assert page.evaluate(CONTRAST) == []
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    box = page.locator(".ev-bar svg").first.bounding_box()
    assert box["width"] > 280
