"""The examples of docs/browser.md as they stand there: pages in a real browser, straight to a real broker and the real daemon."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import soxr

from tests.support import wav_files
from tests.support.browser import chromium
from tests.support.browser_document import PAGE, PASSWORDS, SITE, GuardedBroker, blocks, bundled
from tests.support.waiting import PATIENCE_S
from tests.support.webm_ogg import encode
from transcriber.schema.messages import ANY_MESSAGE, End
from transcriber.testing.daemon import DaemonProcess
from transcriber.testing.speech import load_speech
from transcriber.testing.wer import word_errors

SENTENCE = "Gale warning for the north channel tonight."
RATE = 48_000
SPOKEN = np.frombuffer(load_speech()[0].pcm, "<i2")[: round(2.6 * RATE)]
RECORDED = soxr.resample(SPOKEN, RATE, wav_files.RATE)[:, None]

TRAPS = """
import * as core from "@nats-io/nats-core";
globalThis.core = core;
globalThis.caught = (what) => { try { what(); return ""; } catch (error) { return error.name; } };
"""


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    with GuardedBroker(tmp_path_factory.mktemp("broker")).running() as running:
        yield running


@pytest.fixture(scope="module")
def daemon(broker):
    with DaemonProcess(broker.url, **broker.daemon) as running:
        assert asyncio.run(running.ready()), running.log()
        yield running
        assert not re.search("violation|denies", running.log())


@pytest.fixture(scope="module")
def microphone(tmp_path_factory):
    path = tmp_path_factory.mktemp("microphone") / "speech.wav"
    path.write_bytes(wav_files.wav(np.concatenate([RECORDED, np.zeros_like(RECORDED)])))
    return path


@pytest.fixture(scope="module")
def browser(daemon, microphone):  # the daemon's start has an event loop, and so has the browser
    with chromium(f"{microphone}%noloop") as found:
        yield found


@pytest.fixture
def site(browser, broker, tmp_path):
    """Opens a page of the site with a script, whose broker is ours: the page, and what it received from the broker."""
    contexts = []

    def opened(name, script, body=""):
        ours = script.replace("broker.example.org:8443", f"127.0.0.1:{broker.websocket_port}")
        bundle = bundled(tmp_path, name, ours)
        context = browser.new_context(ignore_https_errors=True, permissions=["microphone", "local-network-access"])
        contexts.append(context)
        context.set_default_timeout(PATIENCE_S * 1000)
        page = context.new_page()
        html = body or f'<script type="module" src="{name}.bundle.js"></script>'
        page.route(f"{SITE}/", lambda route: route.fulfill(body=html, content_type="text/html"))
        page.route(f"{SITE}/{name}.bundle.js", lambda route: route.fulfill(body=bundle, content_type="text/javascript"))
        page.on("dialog", lambda dialog: dialog.accept(PASSWORDS[dialog.message.removeprefix("password of ")]))
        received: list[bytes] = []
        page.on("websocket", lambda socket: socket.on("framereceived", lambda frame: received.append(frame)))  # noqa: PLW0108 - it gets an attribute
        page.goto(f"{SITE}/")
        return page, received

    yield opened
    for context in contexts:
        context.close()


def messages(received):
    """Transcripts among what a page received."""
    return [
        ANY_MESSAGE.validate_json(line) for line in b"".join(received).split(b"\r\n") if line.startswith(b'{"schema"')
    ]


def few_errors(text):
    return word_errors(SENTENCE, text) <= 1


def test_no_block_of_the_page_is_run_by_nobody():
    run_here = ["html", "js", "sh", "js", "python"]

    assert re.findall(r"^```(\w*)\n.*?^```$", PAGE, re.DOTALL | re.MULTILINE) == ["conf", *run_here]


def test_a_page_publishes_its_microphone_and_shows_the_text(site):
    desk, _ = blocks("js")
    index, *_ = blocks("html")
    page, received = site("desk", desk, index)

    page.wait_for_function("!!document.querySelector('#start').onclick")  # once it is connected
    page.click("#start")
    page.wait_for_function("document.querySelector('#text').textContent.toLowerCase().includes('tonight')")
    page.click("#stop")
    while not (ends := [one for one in messages(received) if isinstance(one, End)]):
        page.wait_for_timeout(20)

    assert few_errors(page.inner_text("#text"))
    assert page.inner_text("#problem") == ""
    (end,) = ends
    assert end.received_s > len(SPOKEN) / RATE
    assert (end.lost_frames, end.dropped_frames) == (0, 0)


def test_a_page_shows_the_text_of_a_clip_or_what_is_wrong_with_it(site):
    _, clip = blocks("js")
    body = '<input id="file" type="file"><p id="clip"></p><script type="module" src="clip.bundle.js"></script>'
    page, _ = site("clip", clip, body)
    page.wait_for_function("!!document.querySelector('#file').onchange")  # once it is connected

    texts = []
    for content in (wav_files.wav(RECORDED), b"no audio at all"):
        page.evaluate("document.querySelector('#clip').textContent = ''")
        page.set_input_files("#file", {"name": "clip", "mimeType": "audio/wav", "buffer": content})
        page.wait_for_function("document.querySelector('#clip').textContent")
        texts.append(page.inner_text("#clip"))

    assert few_errors(texts[0])
    assert texts[1].startswith("400: ")


def test_the_traps_are_as_the_table_says(site, broker, daemon):
    page, _ = site("traps", TRAPS)
    page.wait_for_function("globalThis.core")
    connect = """async ({ servers, user, pass }) => {
      globalThis.nats = await core.wsconnect({ servers, user, pass, inboxPrefix: "_INBOX_clips" });
      const addresses = [];
      globalThis.WebSocket = class extends WebSocket {
        constructor(address) { super(address); addresses.push(address); }
      };
      await core.wsconnect({ servers: "broker.invalid", reconnect: false }).catch(() => {});
      return { addresses, attempts: nats.options.maxReconnectAttempts };
    }"""
    address = f"127.0.0.1:{broker.websocket_port}"
    connected = page.evaluate(connect, {"servers": address, "user": "clips", "pass": PASSWORDS["clips"]})
    thrown = page.evaluate("""() => [
      caught(() => nats.publish("transcriber.transcribe", new ArrayBuffer(8))),
      caught(() => nats.publish("transcriber.transcribe", new Blob(["8"]))),
      caught(() => core.headers().set("Audio-Offset", 8)),
      caught(() => nats.publish("transcriber.transcribe", new Uint8Array(2 ** 20 + 1))),
      caught(() => nats.publish("audio.desk", new Uint8Array(8))),
    ]""")
    answer = page.evaluate("""async () => {
      const reply = await nats.request("transcriber.transcribe", "no audio", { timeout: 35000 });
      return reply.headers.get("Nats-Service-Error-Code");
    }""")
    refused = page.evaluate("""async () => {
      const status = (async () => {
        for await (const { type, error } of nats.status()) if (type === "error") return error.message;
      })();
      nats.publish("audio.desk", new Uint8Array(8));
      const published = await status;
      const loop = (async () => { for await (const _ of nats.subscribe("transcripts.desk.*")) break; })();
      return [published, await loop.catch((error) => error.name)];
    }""")
    daemon.process.send_signal(signal.SIGSTOP)
    started_s = time.monotonic()
    waited = page.evaluate("() => nats.request('transcriber.transcribe', 'no audio').catch((error) => error.name)")
    waited_s = time.monotonic() - started_s
    daemon.process.send_signal(signal.SIGCONT)

    assert connected == {"addresses": ["wss://broker.invalid:443/"], "attempts": 10}
    assert thrown == ["TypeError", "TypeError", "TypeError", "InvalidArgumentError", ""]
    assert answer == "400"
    assert re.search(r'publish.*"audio\.desk"', refused[0], re.IGNORECASE)
    assert refused[1] == "PermissionViolationError"
    assert waited == "TimeoutError"
    assert waited_s >= 1


def test_a_program_in_python_relays_a_recorder(broker, daemon, tmp_path):
    (program,) = blocks("python")
    script = tmp_path / "relay.py"
    script.write_text(program)

    done = subprocess.run(
        [sys.executable, script],
        input=encode(SPOKEN.tobytes()),
        env=os.environ | {"NATS_URL": broker.url_of("relay")},
        capture_output=True,
        timeout=PATIENCE_S,
        check=False,
    )

    assert done.returncode == 0, done.stderr.decode()
    assert few_errors(done.stdout.decode())
