"""A real browser with a microphone that hears a WAV file; and axe-core, which looks for what shuts people out."""

import os
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.waiting import PATIENCE_S

AXE = "axe-core/axe.min.js"
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}


@contextmanager
def chromium(speech=None):
    """Headless Chromium, in which ``speech``, a WAV file, is what the microphone hears; without Chromium the test is skipped."""
    api = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install playwright")
    path = (
        shutil.which("chromium") or shutil.which("chromium-browser") or pytest.skip("no chromium: apt install chromium")
    )
    flags = ["--no-sandbox", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
    if speech:
        flags.append(f"--use-file-for-fake-audio-capture={speech}")
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


def axe_core():
    """The script; without it the test is skipped. ``NODE_PATH`` says where packages of npm are."""
    for folder in os.environ.get("NODE_PATH", "node_modules").split(os.pathsep):
        if (script := Path(folder) / AXE).is_file():
            return script.read_text()
    return pytest.skip("no axe-core: npm install axe-core, NODE_PATH=node_modules")


def violations(page, axe):
    """What axe-core finds: the rule, and where."""
    page.evaluate(axe)
    found = page.evaluate("rules => axe.run(document, rules)", RULES)["violations"]
    return {one["id"]: [node["html"] for node in one["nodes"]] for one in found}
