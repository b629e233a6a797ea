"""A real browser with a microphone that hears a WAV file; and axe-core, which looks for what shuts people out."""

import shutil
from contextlib import contextmanager

import pytest

from tests.support.waiting import PATIENCE_S

RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}


def program():
    """Playwright's interface and the path of Chromium; without either the test is skipped."""
    api = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install playwright")
    return api, shutil.which("chromium") or pytest.skip("no chromium: apt install chromium")


@contextmanager
def chromium(speech=None):
    """Headless Chromium, in which ``speech``, a WAV file, is what the microphone hears, once."""
    api, path = program()
    flags = ["--no-sandbox", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
    if speech:
        flags.append(f"--use-file-for-fake-audio-capture={speech}%noloop")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=flags)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(browser, url, **options):
    """A page in a context of its own; what it reports as an error fails the test."""
    context = browser.new_context(**options)
    context.set_default_timeout(PATIENCE_S * 1000)
    page = context.new_page()
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda line: errors.extend([line.text] if "Content Security Policy" in line.text else []))
    try:
        page.goto(url)
        yield page
        assert errors == []
    finally:
        context.close()


def wait_for(page, condition):
    """Wait for something outside the page, while the browser's events are handled; returns what ``condition()`` gave."""
    for _ in range(int(PATIENCE_S * 50)):
        if found := condition():
            return found
        page.wait_for_timeout(20)
    raise AssertionError("waited in vain")


def violations(page):
    """What axe-core finds: the rule, and where."""
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="no axe-core: pip install axe-playwright-python"
    )
    found = axe.Axe().run(page, options=RULES).response["violations"]
    return {one["id"]: [node["html"] for node in one["nodes"]] for one in found}
