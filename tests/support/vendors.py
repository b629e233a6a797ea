"""What clients of other vendors are given: speech, and how what they made of it is judged."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
from difflib import SequenceMatcher
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soxr

from tests.support.waiting import PATIENCE_S
from transcriber.testing.speech import load_speech

ROOT = Path(__file__).parents[2]
NPM = ROOT / "tests/e2e/clients/npm"
CLIENTS = (ROOT / "docs/gateway.md").read_text().partition("\n## Clients\n")[2].partition("\n## ")[0]

SPEECH = load_speech()[0]
PAUSE_S, SPOKEN_S = 2.6, 6.0
"""A pause between two sentences, and what clients are given."""
MOST = 12
"""Of the 14 words that are spoken in that time."""


def speech(rate, begin_s=0.0, end_s=SPOKEN_S, *, quiet_s=0.0):
    """A part of harbour radio, S16LE, one channel, with silence after it."""
    part = np.frombuffer(SPEECH.pcm, "<i2")[round(48_000 * begin_s) : round(48_000 * end_s)]
    samples = soxr.resample(part, 48_000, rate)
    return samples.astype("<i2").tobytes() + bytes(2 * round(rate * quiet_s))


def words(text):
    return re.findall(r"[a-z]+", text.lower())


def assert_spoken(text):
    """Most words of the speech are there, in order, and few others."""
    found = words(text)
    expected = words(SPEECH.text)[: len(found)]
    same = sum(block.size for block in SequenceMatcher(None, found, expected, autojunk=False).get_matching_blocks())
    assert len(found) >= MOST, text
    assert same >= 0.7 * len(found), (text, SPEECH.text)


def needs(package, vendor):
    """Skips a module's tests, before any fixture, where a package is absent that only the group ``clients`` brings."""
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"no {vendor}")


def documented(beginning, url):
    """What docs/gateway.md says that users of a client write, with the address of ``url``, a gateway's or a broker's."""
    (found,) = re.findall(rf"(?:`|^)(?:\w+\.)?({re.escape(beginning)}[^`\n]*)(?:`|$)", CLIENTS, re.MULTILINE)
    return re.sub(r"127\.0\.0\.1:\d+", url.partition("//")[2], found)


def as_documented(function, gateway, **options):
    """Call a function as docs/gateway.md says, with further options."""
    line = documented(f"{function.__name__}(", gateway.url)
    call = partial(function, **options)
    return eval(line, {function.__name__: call, "KEY": "none"})  # noqa: S307 - our own page


needs_node = pytest.mark.skipif(
    shutil.which("node") is None or not (NPM / "node_modules").is_dir(), reason="no node modules"
)


def node(script, *arguments, **environment):
    """Run a script beside package.json; returns the JSON that it prints."""
    ran = subprocess.run(
        ["node", NPM / script, *arguments],
        env=os.environ | environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)
