"""Broker, daemon, gateway and page by one command, the quickstart's: what it prints is right, and all of it ends with it."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin

from tests.support.daemon import run
from tests.support.waiting import PATIENCE_S, until
from transcriber.testing.speech import load_speech
from transcriber.testing.wer import word_errors, words

ROOT = next(folder for folder in Path(__file__).parents if (folder / "pyproject.toml").exists())
(QUICKSTART,) = re.findall(
    r"^transcriber (serve --embedded .*)$", (ROOT / "docs/quickstart.md").read_text(), re.MULTILINE
)
SERVE = [sys.executable, "-m", "transcriber", *shlex.split(QUICKSTART.replace("--websocket 9222", "--websocket 0"))]
DEMO = [sys.executable, "-m", "transcriber", "demo", "--web", "--model", "demo"]
PAGE = re.compile(r"page: (http://127\.0\.0\.1:\d+)/#/key/(tr-\S+)")
ORIGIN = Origin("https://captions.example")
SPEECH = load_speech()[0]


class AllInOne:
    """A command that starts all, until its page is there; ``said`` is what it has written before, in stderr or in stdout."""

    def __init__(self, command, **env):
        ours = {"GATEWAY_PORT": "0", "HEALTH_PORT": "0", "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            command, env=os.environ | ours | env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert self.process.stdout
        self.said = ""
        for line in self.process.stdout:
            self.said += line
            if found := PAGE.search(line):
                self.url, self.key = found.groups()
                break
        else:
            raise AssertionError(self.said)
        self.children = children(self.process.pid)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.communicate()

    def get(self, path):
        return httpx.get(f"{self.url}{path}", headers={"Authorization": f"Bearer {self.key}"}, timeout=PATIENCE_S)


def children(parent):
    """Command line by process id."""
    pids = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return {int(pid): Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode() for pid in pids}


def running(pid):
    """Whether there is such a process; one that has ended, and nobody has waited for, is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def messages(received, kind):
    """Those that were read whole, of what nats-server sent."""
    found = re.findall(rb"MSG text\.desk\.%b .*?\r\n(\{[^\r]*\})\r\n" % kind.encode(), received, re.DOTALL)
    return [json.loads(message) for message in found]


@pytest.fixture(scope="module")
def started():
    """All that tests have started, until these tests are over."""
    found: list[AllInOne] = []
    yield found
    for one in found:
        one.__exit__()


@pytest.fixture
def served(started):
    """One that runs; its subjects are others than the defaults, on which gateway and daemon agree, and its broker is its own."""
    theirs = {"AUDIO_SUBJECT": "radio.*", "TRANSCRIPT_SUBJECT_PREFIX": "text", "GATEWAY_ORIGINS": ORIGIN}
    theirs |= {"NATS_URL": "nats://elsewhere.example", "NATS_CREDS": "/nowhere"}
    if not started or started[-1].process.poll() is not None:
        started.append(AllInOne(SERVE, **theirs))
    return started[-1]


def test_the_key_that_is_printed_opens_the_page_and_nothing_else_does(served):
    assert httpx.get(f"{served.url}/").text.startswith("<!doctype html>")
    assert httpx.get(f"{served.url}/v1/models").status_code == 401
    assert "demo" in [model["id"] for model in served.get("/v1/models").json()["data"]]
    assert served.said.count(served.key) == 1
    ready, *lines = served.said.splitlines()[-4:]
    assert json.loads(ready)["msg"] == "ready"
    assert [line.split(":")[0] for line in lines] == ["broker", "WebSocket", "page"]


async def test_pages_that_are_named_publish_and_subscribe_by_websocket_on_this_machine(served):
    (url,) = re.findall(rf"WebSocket: (ws://127\.0\.0\.1:\d+)  for pages from {ORIGIN}", served.said)
    with pytest.raises(InvalidStatus, match="403"):
        connect(url, origin=Origin("https://elsewhere.example"))

    with connect(url, origin=ORIGIN) as nats:
        nats.send('CONNECT {"verbose":false,"headers":true}\r\nSUB text.desk.* 1\r\n')
        nats.send(f"PUB radio.desk {len(SPEECH.pcm)}\r\n".encode() + SPEECH.pcm + b"\r\n")
        # While it runs: one that ends between two reports may be in none.
        await until(lambda: served.get("/v1/streams").json()["streams"], "the gateway's list of streams")
        nats.send("HPUB radio.desk 26 26\r\nNATS/1.0\r\nAudio-End: 1\r\n\r\n\r\n")
        received = b""
        while not messages(received, "end"):
            piece = nats.recv(PATIENCE_S)
            received += piece if isinstance(piece, bytes) else piece.encode()
    finals = [final["text"] for final in messages(received, "final")]

    assert word_errors(SPEECH.text, " ".join(finals)) < 0.2 * len(words(SPEECH.text))
    assert [stream["stream"] for stream in served.get("/v1/streams").json()["streams"]] == ["desk"]


def test_what_keeps_it_from_starting_is_one_line_and_a_status(served):
    """The port is taken by another gateway, which looks as if it were the one that was started."""
    port = int(served.url.rpartition(":")[2])
    web = run("serve", "--embedded", "--web", WHISPER_MODEL="demo", GATEWAY_PORT=port)
    websocket = run("serve", "--embedded", "--websocket", str(port), WHISPER_MODEL="demo")
    keys = run("serve", "--embedded", "--web", WHISPER_MODEL="demo", GATEWAY_PORT=0, GATEWAY_KEYS_FILE="/nowhere")

    assert web[0] == websocket[0] == 3
    assert keys == (2, "transcriber: the gateway did not start: GATEWAY_KEYS_FILE=/nowhere: No such file or directory")
    assert web[1].startswith(
        f"transcriber: the gateway did not start: GATEWAY_PORT={port} on 127.0.0.1 cannot be opened"
    )
    assert "address already in use" in websocket[1]
    assert web[1].count("\n") == websocket[1].count("\n") == 0


def test_ctrl_c_ends_all_of_it_in_order(served):
    assert sorted(re.findall(r"nats-server|transcriber gateway", " ".join(served.children.values()))) == [
        "nats-server",
        "transcriber gateway",
    ]
    served.process.send_signal(signal.SIGINT)
    output, _ = served.process.communicate(timeout=PATIENCE_S)

    assert served.process.returncode == 0
    assert [pid for pid in served.children if running(pid)] == []
    assert "Traceback" not in output, output
    last = [json.loads(line) for line in output.splitlines() if '"stopped"' in line]
    assert [line["logger"] for line in last] == ["transcriber.service", "transcriber.gateway.server"]


async def test_nothing_survives_a_command_that_is_killed(tmp_path):
    with AllInOne(DEMO, TMPDIR=str(tmp_path)) as demo:
        demo.process.kill()
        assert len(demo.children) >= 2
        await until(lambda: not any(running(pid) for pid in demo.children), "the end of all that it had started")
