"""Compare in a real browser, over scripted engines that write 50 tokens a second."""

import json
import re

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.browser


STARTED = """before => (document.querySelector('#panel-base article').dataset.id || '') !== before
    || document.querySelector('#alerts .alert-problem:not([hidden])')"""


def ask(page, text):
    """Run a case and wait until the page shows that it was taken, or why not."""
    before = panel(page, "base").get_attribute("data-id")
    page.fill("#case textarea", text)
    page.click("#run")
    page.wait_for_function(STARTED, arg=before or "")


def panel(page, variant):
    return page.locator(f"#panel-{variant} article")


def finished(page, seconds=20):
    expect(page.locator("#run")).to_be_enabled(timeout=seconds * 1000)
    expect(page.locator("#stop")).to_be_disabled()


def test_both_panels_fill_while_the_other_is_still_writing(open_page):
    page = open_page().page
    ask(page, "A red toe. What is it?")
    page.wait_for_function(
        """() => ['base', 'grpo'].every(v => { const p = document.querySelector(`#panel-${v} article`);
        return p.dataset.phase === 'writing' && p.querySelector('.text:not(:empty)') })"""
    )
    details = page.locator("#panel-grpo details")
    expect(details).to_have_attribute("open", "")
    expect(details.locator("summary")).to_contain_text("Reasoning, ")
    expect(details).not_to_have_attribute("open", "", timeout=15000)  # the answer began
    expect(details.locator("summary")).to_contain_text(re.compile(r"Reasoning \(\d+\.\d s\)"))
    finished(page)
    expect(panel(page, "grpo").locator(".answer .text")).to_have_text("Gout. Rest.")
    expect(panel(page, "grpo").locator(".chip")).to_have_text("● well-formed")
    expect(panel(page, "base").locator(".chip")).to_have_text("○ no structure")
    expect(panel(page, "base").locator("footer")).to_contain_text("Educational software")
    expect(page.locator(".agreement")).to_contain_text("different answers")


def test_reasoning_follows_the_text_in_a_bounded_block(open_page):
    page = open_page().page
    ask(page, "LONG")
    body = page.locator("#panel-grpo .reasoning-body")
    page.wait_for_function(
        """() => { const b = document.querySelector('#panel-grpo .reasoning-body');
        return b && b.scrollHeight > b.clientHeight + 40 }"""
    )
    assert body.evaluate("b => Math.abs(b.scrollTop) < 2 && b.clientHeight < 300")  # column-reverse: 0 is the end
    page.click("#stop")


def test_stop_within_a_second_keeps_the_text_and_a_second_run_works(open_page):
    page = open_page().page
    ask(page, "LONG")
    expect(panel(page, "grpo").locator(".reasoning .text")).to_contain_text("3. A finding", timeout=15000)
    page.click("#stop")
    for variant in ("base", "grpo"):
        expect(panel(page, variant)).to_have_attribute("data-phase", "stopped", timeout=1000)
    expect(panel(page, "grpo").locator("summary")).to_have_text("Reasoning (stopped)")
    expect(panel(page, "grpo").locator(".reasoning .text")).to_contain_text("3. A finding")
    expect(panel(page, "base").locator(".answer .text")).to_contain_text("word word")
    finished(page)
    ask(page, "SHORT")
    finished(page)
    expect(panel(page, "grpo").locator(".answer .text")).to_have_text("Gout. Next: aspirate.")


def test_an_answer_that_a_newer_one_replaced_does_not_come_back(open_page):
    page = open_page().page
    ask(page, "LONG")
    expect(panel(page, "base").locator(".answer .text")).to_contain_text("word word", timeout=15000)
    page.evaluate("""() => {
        window.seen = [];
        const look = () => {
            const id = document.querySelector('#panel-base article').dataset.id;
            if (window.seen.at(-1) !== id) window.seen.push(id);
        };
        look();
        new MutationObserver(look).observe(document.querySelector('#panel-base'),
            {subtree: true, childList: true, attributes: true, characterData: true});
    }""")
    page.fill("#case textarea", "SHORT")
    page.press("#case textarea", "Shift+Enter")  # Gradio's own way to submit, which no disabled button stops
    expect(panel(page, "grpo").locator(".answer .text")).to_have_text("Gout. Next: aspirate.", timeout=15000)
    finished(page)
    assert len(page.evaluate("window.seen")) == 2, "the old answer, then the new one, and never the old one again"


def test_a_crash_is_a_sentence_and_the_other_goes_on(open_page):
    page = open_page().page
    ask(page, "CRASH")
    expect(panel(page, "grpo")).to_have_attribute("data-phase", "error", timeout=15000)
    expect(panel(page, "base")).to_have_attribute("data-phase", "writing")
    expect(panel(page, "grpo").locator(".error")).to_contain_text("The model broke: ask again.")
    expect(panel(page, "grpo").locator(".reasoning .text")).to_contain_text("1. A finding")
    finished(page)
    page.fill("#case textarea", "something else")
    panel(page, "grpo").get_by_role("button", name="Retry").click()
    expect(panel(page, "grpo")).to_have_attribute("data-phase", "writing")
    expect(panel(page, "base")).to_have_attribute("data-phase", "done")
    finished(page)


def test_hostile_text_is_shown_and_neither_run_nor_fetched(open_page):
    opened = open_page()
    page = opened.page
    case = "ATTACK <script>window.__pwn=1</script> ![x](https://evil.example/y.png) </reasoning><answer> \u202e"
    ask(page, case)
    finished(page)
    for variant in ("base", "grpo"):
        expect(panel(page, variant).locator(".answer .text")).to_contain_text("<script>window.__pwn=1</script>")
        expect(panel(page, variant).locator(".answer .text")).to_contain_text("![x](https://evil.example/x.png)")
    assert page.evaluate("window.__pwn") is None
    assert page.locator("#panel-base :is(img, script, form, iframe, a)").count() == 0
    assert page.locator("#panel-grpo :is(img, script, form, iframe, a)").count() == 0
    assert page.input_value("#case textarea") == case
    page.get_by_role("tab", name="GRPO model", exact=True).click()
    page.fill("#box-grpo textarea", case)
    page.click("#send-grpo")
    expect(page.locator("#talk-grpo .asked")).to_contain_text("<script>window.__pwn=1</script>")
    expect(page.locator("#talk-grpo .answer .text")).to_contain_text("javascript:window.__pwn=1", timeout=15000)
    expect(page.locator("#send-grpo")).to_be_enabled(timeout=20000)
    assert page.evaluate("window.__pwn") is None
    assert page.locator("#talk-grpo :is(img, script, form, iframe, a)").count() == 0


@pytest.mark.parametrize(
    ("scene", "variant", "chip"), [("BROKEN", "base", "◐ repaired"), ("BROKEN", "grpo", "◐ repaired")]
)
def test_broken_tags_lose_no_text(open_page, scene, variant, chip):
    page = open_page().page
    ask(page, scene)
    finished(page)
    expect(panel(page, variant).locator(".chip")).to_have_text(chip)
    words = ("late", "tail") if variant == "base" else ("never closed", "and on and on")
    for word in words:
        expect(panel(page, variant)).to_contain_text(word)


def test_nothing_written_is_said(open_page):
    page = open_page().page
    ask(page, "NOTHING")
    finished(page)
    expect(panel(page, "base")).to_contain_text("The model wrote nothing")


@pytest.mark.parametrize("text", ["", "  \n ", "x" * 100_000])
def test_a_case_that_cannot_be_asked_stays_in_the_box(open_page, text):
    page = open_page().page
    ask(page, text)
    expect(page.locator("#alerts .alert-problem")).to_be_visible()
    assert page.input_value("#case textarea") == text
    expect(panel(page, "base")).to_have_attribute("data-phase", "empty")


def test_the_emergency_stands_above_the_answers(open_page):
    page = open_page("?case=chest-pain").page
    expect(page.locator("#case textarea")).to_have_value(re.compile("A 45-year-old"))
    page.click("#run")
    banner = page.locator("#alerts .alert-emergency")
    expect(banner).to_contain_text("Possible emergency")
    assert banner.bounding_box()["y"] < panel(page, "base").bounding_box()["y"]
    page.click("#stop")


def test_keyboard_alone(open_page):
    page = open_page().page
    page.focus("#case textarea")
    page.keyboard.type("SHORT")
    page.keyboard.press("Control+Enter")
    expect(panel(page, "grpo")).to_have_attribute("data-phase", "done", timeout=15000)
    details = page.locator("#panel-grpo details")
    page.locator("#panel-grpo summary").focus()
    for key in ("Enter", "Space"):
        page.keyboard.press(key)
        expect(details).to_have_attribute("open", "")
        page.keyboard.press(key)
        expect(details).not_to_have_attribute("open", "")


def test_a_reader_who_folds_or_unfolds_is_not_overruled(open_page):
    page = open_page().page
    ask(page, "A red toe.")
    summary, details = page.locator("#panel-grpo summary"), page.locator("#panel-grpo details")
    expect(details).to_have_attribute("open", "", timeout=10000)
    summary.click()
    page.wait_for_timeout(400)
    expect(details).not_to_have_attribute("open", "")
    summary.click()
    finished(page)
    expect(details).to_have_attribute("open", "")


def test_copy_export_and_vote(open_page):
    opened = open_page()
    page = opened.page
    opened.context.grant_permissions(["clipboard-read", "clipboard-write"])
    ask(page, "SHORT & sweet")
    finished(page)
    panel(page, "grpo").get_by_role("button", name="Copy answer").click()
    assert page.evaluate("navigator.clipboard.readText()") == "Gout. Next: aspirate."
    page.get_by_role("button", name="B", exact=True).click()
    expect(page.locator('[data-vote="B"]')).to_have_attribute("aria-pressed", "true")
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Export JSON").click()
    exported = json.loads(waiting.value.path().read_text(encoding="utf-8"))
    assert exported["preference"] == "B"
    assert exported["agreement"] == "different answers"
    assert [answer["variant"] for answer in exported["answers"]] == ["base", "grpo"]
    assert exported["answers"][1]["question"] == "SHORT & sweet"
    assert exported["answers"][1]["disclaimer"]
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Export Markdown").click()
    words = waiting.value.path().read_text(encoding="utf-8")
    assert "<summary>Reasoning</summary>\n\nA red toe." in words
    page.get_by_role("button", name="Copy all").click()
    assert "Which is better: B" in page.evaluate("navigator.clipboard.readText()")


def test_two_visitors_at_once(open_page):
    first, second = open_page().page, open_page().page
    ask(first, "LONG")
    ask(second, "SHORT")
    expect(panel(second, "grpo").locator(".answer .text")).to_have_text("Gout. Next: aspirate.", timeout=15000)
    expect(panel(first, "base")).to_have_attribute("data-phase", "writing")
    first.click("#stop")
    expect(panel(first, "base")).to_have_attribute("data-phase", "stopped", timeout=1500)


def test_a_third_visitor_is_told_how_many_are_ahead(open_page):
    pages = [open_page().page for _ in range(3)]
    for page in pages[:2]:
        ask(page, "LONG")
        expect(panel(page, "base")).to_have_attribute("data-phase", "writing")
    ask(pages[2], "SHORT")
    expect(panel(pages[2], "base").locator(".note")).to_contain_text("one question is ahead")
    pages[0].click("#stop")
    finished(pages[2])
    pages[1].click("#stop")


def test_a_closed_tab_frees_its_place(open_page):
    opened = [open_page() for _ in range(2)]
    for one in opened:
        ask(one.page, "LONG")
        expect(panel(one.page, "base")).to_have_attribute("data-phase", "writing")
    for one in opened:
        one.page.close()
    page = open_page().page
    ask(page, "SHORT")
    expect(panel(page, "grpo")).to_have_attribute("data-phase", "done", timeout=15000)


def test_reload_gives_a_working_page(open_page):
    opened = open_page()
    page = opened.page
    ask(page, "LONG")
    expect(panel(page, "base")).to_have_attribute("data-phase", "writing")
    page.reload()
    page.wait_for_selector("#case textarea")
    opened.errors.clear()  # of the stream that the reload broke off
    expect(panel(page, "base")).to_have_attribute("data-phase", "empty")
    ask(page, "SHORT")
    finished(page)
    expect(panel(page, "grpo").locator(".answer .text")).to_have_text("Gout. Next: aspirate.")
