"""The Rewards tab in a real browser."""

import re

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.browser


def test_a_completion_is_scored_as_it_is_edited_and_a_group_reacts_to_weights(open_page):
    page = open_page().page
    page.get_by_role("tab", name="Rewards", exact=True).click()
    sheet = page.locator("#reward-sheet")
    expect(sheet.locator("tbody")).to_contain_text("correctness", timeout=15000)
    before = sheet.locator("tfoot .sum").inner_text()
    assert float(before) > 2
    page.fill("#reward-completion textarea", "<script>window.__pwn=1</script> nothing")
    expect(sheet.locator("tfoot .sum")).not_to_have_text(before)
    assert page.evaluate("window.__pwn") is None
    page.locator("#reward-ask").click()
    expect(page.locator("#reward-completion textarea")).to_have_value(
        re.compile("Gout. Rest.\\n</answer>"), timeout=15000
    )
    expect(sheet.locator("tbody")).to_contain_text("4 of 4 tags")
    group = page.locator("#group-sheet tbody tr")
    expect(group).to_have_count(4)
    expect(group.nth(0)).to_contain_text("more likely")
    first = group.nth(1).inner_text()
    page.locator("#weight-format input[type=number]").fill("3")
    page.keyboard.press("Tab")
    expect(group.nth(1)).not_to_have_text(re.compile(re.escape(first)))
    page.locator("#group-size input[type=number]").fill("6")
    page.keyboard.press("Tab")
    expect(group).to_have_count(6)
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
