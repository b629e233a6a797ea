"""The quickstart, and the page about tests, do what they say: their commands as they stand there, with a real broker, the daemon and the bundled model."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

from transcriber.testing.speech import load_speech
from transcriber.testing.wer import word_errors, words

ROOT = next(folder for folder in Path(__file__).parents if (folder / "pyproject.toml").exists())
PAGE = (ROOT / "docs/quickstart.md").read_text()
# The last one, all on one machine, is run in tests/e2e/gateway.
INSTALL, BROKER, DAEMON, LISTEN, PUBLISH, CLIP, FILE, _ = re.findall(
    r"^```sh\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE
)
(SHOWN,) = re.findall(r"^```text\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
(PROGRAM,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
ADDRESS = "nats://127.0.0.1:4222"
PATIENCE_S = 120.0
TEXTS = {recording.name: recording.text for recording in load_speech()}


class Desk:
    """A folder that looks like a clone in which the quickstart's installation was done, and processes that run there."""

    def __init__(self, folder):
        (folder / "transcriber").symlink_to(ROOT / "transcriber")
        self.folder = folder
        self.url = self.monitor = ""
        self.env = os.environ | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HEALTH_PORT": "0",
            "OMP_NUM_THREADS": "1",
            "TRANSCRIPT_MAX_BYTES": "50000000",  # a disk may be nearly full here
        }

    def run(self, command):
        """A command that ends; returns what it printed."""
        done = subprocess.run(
            ["bash", "-euc", command],
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @contextmanager
    def running(self, command, name):
        """A command that stays, in a terminal of its own; yields a function that waits for what it prints."""
        output = self.folder / f"{name}.log"
        with output.open("wb") as log:
            process = subprocess.Popen(
                ["bash", "-euc", f"exec {command}"], cwd=self.folder, env=self.env, stdout=log, stderr=subprocess.STDOUT
            )

        def printed(pattern):
            def found():
                ended = process.poll() is not None
                match = re.search(pattern, output.read_text())
                assert match or not ended, f"{command} has ended: {output.read_text()}"
                return match

            return until(found, f"{pattern} in what {command} prints")

        try:
            yield printed
            assert process.poll() is None, output.read_text()
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE_S)


def until(condition, what):
    """Waits for ``condition()``; returns what it returned."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < deadline_s, f"waited {PATIENCE_S:.0f} s in vain for {what}"
        time.sleep(0.02)
    return found


def subscribed(monitor, subject):
    """Whether a client has subscribed to ``subject``."""
    with urllib.request.urlopen(f"http://{monitor}/connz?subs=1", timeout=PATIENCE_S) as answer:
        return any(
            subject in connection.get("subscriptions_list", ()) for connection in json.load(answer)["connections"]
        )


def few_errors(said, text):
    """Whether the bundled model has read most of it right."""
    return word_errors(said, text) < 0.2 * len(words(said))


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """With the page's broker and daemon running; only their ports are others."""
    desk = Desk(tmp_path_factory.mktemp("desk"))
    with desk.running(f"{BROKER.strip()} --port -1 --http_port -1", "broker") as printed:
        desk.monitor = printed(r"Starting http monitor on ([\d.:]+)")[1]
        desk.url = "nats://" + printed(r"Listening for client connections on ([\d.:]+)")[1]
        desk.env["NATS_URL"] = desk.url
        with desk.running(DAEMON.strip(), "daemon") as says:
            says(r'"msg": "ready"')
            yield desk


def test_it_is_installed_as_readme_says():
    """Which the tests of README's commands do; here only what the page says is compared with them."""
    first = re.findall(r"^```sh\n(.*?)^```$", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)[0]

    *installed, last = INSTALL.splitlines()
    assert installed == first.splitlines()[:-1]
    assert last == ". .venv/bin/activate"


def test_a_publisher_is_captioned(desk):
    recording = shlex.split(PUBLISH)[2]

    with desk.running(LISTEN.strip(), "captions") as printed:
        until(lambda: subscribed(desk.monitor, "transcripts.*.*"), "the listener")
        desk.run(PUBLISH)
        text = printed(r"(?s).*harbour: end: [^\n]*\n")[0]
        lines = [line for line in text.splitlines() if line.startswith("[")]  # without advice on stderr

    shown = SHOWN.splitlines()
    assert lines[0] == shown[0]
    assert re.fullmatch(r"\[00:09\] harbour: end: .* 0\.0 s dropped, 0\.0 s lost", lines[-1])
    assert re.fullmatch(r"\[00:09\] harbour: end: .* 0\.0 s dropped, 0\.0 s lost", shown[-1])
    for said in (lines, shown):
        text = " ".join(line.partition("harbour: ")[2] for line in said[1:-1])
        assert few_errors(TEXTS[Path(recording).stem], text)


def test_a_clip_and_a_file_are_transcribed(desk):
    subtitles = desk.run(CLIP)
    text, jobs = desk.run(FILE).splitlines()

    assert subtitles.startswith("1\n00:00:0")
    said = " ".join(re.findall(r"^[A-Za-z].*$", subtitles, re.MULTILINE))
    assert few_errors(TEXTS["03_forecast"], said)
    assert few_errors(TEXTS["06_bulletin"], text)
    assert re.match(r"job=\w+\tdone\t06_bulletin\.flac\t", jobs)


def test_a_program_of_ones_own_publishes_and_subscribes(desk):
    assert ADDRESS in PROGRAM
    (desk.folder / "program.py").write_text(PROGRAM.replace(ADDRESS, desk.url))

    printed_lines = desk.run("python program.py").splitlines()

    said = " ".join(line.partition(" ")[2] for line in printed_lines)
    assert all(re.match(r"\d+\.\d+ ", line) for line in printed_lines)
    assert few_errors(TEXTS["01_gale_warning"], said)
