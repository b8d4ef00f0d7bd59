"""Frame, chat tabs and looks in a real browser."""

import re

import pytest
from helpers import serving
from playwright.sync_api import expect

pytestmark = pytest.mark.browser

CONTRAST = """() => {
  const parse = (c) => c.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor);
    if (c.length < 4 || c[3] === 1) return c; } return [255, 255, 255]; };
  const low = [];
  for (const e of document.querySelectorAll('h1, h2, h3, p, span, b, summary, button, .text, label, textarea')) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own || e.disabled || !e.offsetParent || e.closest('[hidden]')) continue;
    const [a, b] = [light(parse(getComputedStyle(e).color)), light(behind(e))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) low.push(`${e.className || e.tagName}: ${e.textContent.trim().slice(0, 30)} ${ratio.toFixed(2)}`);
  }
  return low;
}"""


def say(page, variant, text):
    done = page.locator(f'#talk-{variant} article[data-phase="done"]')
    before = done.count()
    page.fill(f"#box-{variant} textarea", text)
    page.click(f"#send-{variant}")
    expect(done).to_have_count(before + 1, timeout=20000)
    expect(page.locator(f"#send-{variant}")).to_be_enabled()


def test_a_conversation_goes_on_and_can_be_cleared(open_page):
    page = open_page().page
    page.get_by_role("tab", name="GRPO model", exact=True).click()
    say(page, "grpo", "SHORT: a red toe")
    assert page.input_value("#box-grpo textarea") == ""
    say(page, "grpo", "SHORT: and now?")
    expect(page.locator("#talk-grpo article")).to_have_count(2)
    expect(page.locator("#talk-grpo .asked").nth(1)).to_have_text("SHORT: and now?")
    last = page.locator("#talk-grpo article").nth(1)
    first_answer = last.get_attribute("data-id")
    page.click("#again-grpo")
    expect(last).not_to_have_attribute("data-id", first_answer, timeout=15000)
    expect(page.locator("#clear-grpo")).to_be_enabled(timeout=15000)
    expect(page.locator('#talk-grpo article[data-phase="done"]')).to_have_count(2, timeout=15000)
    # An answer that is still being delivered to the browser when Clear is pressed comes back once: press it again then.
    empty = page.locator('#talk-grpo article[data-phase="empty"]')
    for _ in range(5):
        page.click("#clear-grpo")
        page.wait_for_timeout(1000)
        if empty.count():
            break
    expect(empty).to_have_count(1)
    expect(page.locator("#talk-grpo article")).to_have_count(1)


def test_stop_in_a_conversation(open_page):
    page = open_page().page
    page.get_by_role("tab", name="Base model", exact=True).click()
    page.fill("#box-base textarea", "LONG")
    page.click("#send-base")
    expect(page.locator("#talk-base .answer .text")).to_contain_text("word word", timeout=10000)
    page.click("#stop-base")
    expect(page.locator("#talk-base article")).to_have_attribute("data-phase", "stopped", timeout=1000)
    expect(page.locator("#talk-base .answer .text")).to_contain_text("word word")


def test_an_empty_message_is_a_sentence(open_page):
    page = open_page().page
    page.get_by_role("tab", name="Base model", exact=True).click()
    page.fill("#box-base textarea", "   ")
    page.click("#send-base")
    expect(page.locator("#alerts-base .alert-problem")).to_be_visible()
    assert page.input_value("#box-base textarea") == "   "


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(open_page, scheme):
    page = open_page("?case=chest-pain", color_scheme=scheme).page
    expect(page.locator("#case textarea")).to_have_value(re.compile("A 45"))
    page.click("#run")
    page.wait_for_function("() => document.querySelector('#panel-grpo .reasoning .text:not(:empty)')")
    assert page.evaluate(CONTRAST) == []
    expect(page.locator("#run")).to_be_enabled(timeout=20000)
    assert page.evaluate(CONTRAST) == []
    page.get_by_role("tab", name="Rewards", exact=True).click()
    page.wait_for_timeout(800)
    assert page.evaluate(CONTRAST) == []


def test_a_telephone(open_page):
    page = open_page("?case=chest-pain", viewport={"width": 390, "height": 844}).page
    expect(page.locator("#case textarea")).to_have_value(re.compile("A 45"))
    page.click("#run")
    expect(page.locator("#panel-grpo article")).to_have_attribute("data-phase", "done", timeout=20000)
    for name in ("Compare", "Base model"):
        page.get_by_role("tab", name=name, exact=True).click()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.get_by_role("tab", name="Compare", exact=True).click()
    base, grpo = (page.locator(f"#panel-{variant} article").bounding_box() for variant in ("base", "grpo"))
    assert grpo["y"] >= base["y"] + base["height"]
    page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    for button in ("#run", "#stop"):
        box = page.locator(button).bounding_box()
        assert 0 <= box["y"] <= 844 - box["height"]
        assert box["height"] >= 44


def test_talk_mode_and_theme(open_page):
    page = open_page("?talk=1", color_scheme="light").page
    size = "e => parseFloat(getComputedStyle(document.querySelector(e)).fontSize)"
    assert page.evaluate(size, "#case textarea") >= 22
    page.locator('[data-do="talk"]').click()
    assert page.evaluate(size, "#case textarea") == 16
    page.locator('[data-do="theme"]').click()
    expect(page.locator("body")).to_have_class(re.compile("dark"))
    page.reload()
    page.wait_for_selector("#case textarea")
    expect(page.locator("body")).to_have_class(re.compile("dark"))


def test_without_an_adapter_the_page_teaches(open_page):
    with serving("base-only") as base:
        page = open_page(base=base).page
        expect(page.locator("#panel-grpo")).to_contain_text("No adapter for")
        page.fill("#case textarea", "SHORT")
        page.click("#run")
        expect(page.locator("#panel-base article")).to_have_attribute("data-phase", "done", timeout=15000)
        expect(page.locator("#panel-grpo")).to_contain_text("Train one")
        page.get_by_role("tab", name="GRPO model", exact=True).click()
        expect(page.locator("#talk-grpo")).to_contain_text("No adapter for")
        page.goto("about:blank")


def test_the_page_opens_while_the_model_loads(open_page):
    with serving("loading") as base:
        page = open_page(base=base).page
        page.fill("#case textarea", "SHORT")
        page.click("#run")
        expect(page.locator("#panel-grpo article")).to_have_attribute("data-phase", "done", timeout=20000)
        expect(page.locator(".status")).to_contain_text("ready", timeout=5000)
        page.goto("about:blank")


def test_without_a_model_the_page_says_how_to_get_one(open_page):
    with serving("down") as base:
        page = open_page(base=base).page
        expect(page.locator(".status-down")).to_contain_text("run `make app`")
        page.fill("#case textarea", "SHORT")
        page.click("#run")
        expect(page.locator("#panel-base .error")).to_contain_text("run `make app`")
        expect(page.locator("#run")).to_be_enabled()
        page.goto("about:blank")
