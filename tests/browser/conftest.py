"""A real browser and the page it opens. Debian's chromium; `MEDGRPO_CHROMIUM` names another one."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "ui"))

from helpers import serving

FLAGS = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
FLAGS += ["--no-first-run", "--disable-gpu", "--disable-quic"]


@pytest.fixture(scope="session")
def chromium() -> Iterator[object]:
    sync_api = pytest.importorskip("playwright.sync_api")
    path = os.environ.get("MEDGRPO_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.fail("These tests drive a real browser: install Debian's with `apt-get install chromium`.")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def url() -> Iterator[str]:
    with serving() as address:
        yield address


class Opened:
    """A page with what went wrong on it: console errors, exceptions, requests to other machines."""

    def __init__(self, browser, url, **context):
        context = {"viewport": {"width": 1280, "height": 900}, "accept_downloads": True} | context
        self.context = browser.new_context(**context)
        self.page = self.context.new_page()
        self.origin = "/".join(url.split("/")[:3])
        self.errors: list[str] = []
        self.strangers: list[str] = []
        self.page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", self._request)
        self.page.goto(url)
        self.page.wait_for_selector("#case textarea")
        self.page.wait_for_selector("html[data-medgrpo=ready]")  # before that, shortcuts do nothing yet

    def _request(self, request):
        if not request.url.startswith((self.origin, "data:", "blob:")):
            self.strangers.append(request.url)


@pytest.fixture
def open_page(chromium, url):
    opened: list[Opened] = []

    def open_(path: str = "", base: str = "", **context) -> Opened:
        opened.append(Opened(chromium, (base or url) + path, **context))
        return opened[-1]

    yield open_
    for one in opened:
        one.context.close()
        assert not one.strangers, one.strangers
        assert not one.errors, one.errors
