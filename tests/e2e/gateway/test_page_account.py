"""The account of a page that publishes, in a real browser. The chunks, and the connections with their ends, are the test's."""

import json
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.browser import chromium, opened, program, wait_for
from tests.support.gateway import GatewayProcess
from transcriber.testing.broker import EmbeddedBroker

RATE = 1000
HELD_S = 60
PUBLISH = """async (form) => {
  const { Publisher } = await import("/web/publisher.js");
  const recorder = { contentType: form, rate: 1000, bytesPerFrame: form === "audio/webm" ? 0 : 1 };
  window.publisher = new Publisher("desk", recorder, async () => {}, (state) => (window.state = state));
  window.recorded = 0;
  window.record = (seconds) => {
    for (let i = 0; i < seconds; i += 1, recorded += 1) {
      const frames = recorder.bytesPerFrame && recorder.rate;
      publisher.send({ bytes: new Uint8Array(1000).fill(recorded).buffer, frames, duration: 1 });
    }
  };
}"""


@pytest.fixture(scope="module")
def place():
    program()  # before anything is started in vain
    with EmbeddedBroker() as broker, GatewayProcess(broker.url) as gateway, chromium() as browser:
        yield SimpleNamespace(browser=browser, url=gateway.url)


@pytest.fixture
def page(place):
    with opened(place.browser, place.url) as page:
        yield page


class Publishing:
    """A session of chunks of a second and 1000 bytes, each of its number; ``sent`` are those of the present connection."""

    def __init__(self, page, form):
        self._socket: Any = None
        self._page, self._answer, self.sent = page, None, []
        page.route_web_socket("**/audio?*", self._opened)
        page.reload()
        page.evaluate(PUBLISH, form)

    def _opened(self, socket):
        self._socket = socket
        self.sent.clear()
        socket.on_message(lambda data: self.sent.extend([data[0]] if isinstance(data, bytes) else []))
        if self._answer:
            socket.send(self._answer)

    def connected(self, position_s=0, *, resumed=True, missing=()):
        """Answer the next connection, or the one that waits, as the gateway does."""
        ranges = [{"start_frame": first * RATE, "frames": length * RATE} for first, length in missing]
        session = {"type": "session", "position": position_s * RATE, "resumed": resumed, "missing": ranges}
        self._answer = json.dumps(session)
        if self._socket:
            self._socket.send(self._answer)
        self._page.evaluate("dispatchEvent(new Event('online'))")
        self._until("window.state?.online")

    def received(self, seconds):
        """The broker has so much of this connection, or of PCM so much of the session."""
        self._page.evaluate("window.before = state.confirmed_s")
        self._socket.send(json.dumps({"type": "position", "frames": seconds * RATE, "bytes": seconds * 1000}))
        self._until("state.confirmed_s !== window.before")

    def cut(self):
        socket, self._socket, self._answer = self._socket, None, None
        socket.close()
        self._until("!state.online")

    def record(self, seconds):
        self._page.evaluate("seconds => record(seconds)", seconds)

    @property
    def account(self):
        """Seconds received, and missing."""
        return tuple(self._page.evaluate("[state.confirmed_s, state.missing_s]"))

    def wait_sent(self, count):
        wait_for(self._page, lambda: len(self.sent) >= count)

    def _until(self, condition):
        wait_for(self._page, lambda: self._page.evaluate(condition))


def test_pcm_that_was_held_too_long_stays_missing_through_a_second_break(page):
    pcm = Publishing(page, "audio/x-raw")
    pcm.connected(resumed=False)
    pcm.record(3)
    pcm.received(3)
    pcm.cut()
    pcm.record(HELD_S + 4)
    assert pcm.account == (3, 4)
    pcm.connected(3)
    assert pcm.account == (3, 4)
    pcm.wait_sent(HELD_S)
    pcm.received(10)
    assert pcm.account == (6, 4)
    pcm.cut()
    pcm.connected(67)  # where nobody has reported the gap
    assert pcm.account == (63, 4)
    pcm.cut()
    pcm.record(HELD_S + 2)
    pcm.connected(67, missing=[(2, 3)])  # one that is partly known
    assert pcm.account == (62, 7)


def test_pcm_that_arrived_unconfirmed_is_not_missing(page):
    pcm = Publishing(page, "audio/x-raw")
    pcm.connected(resumed=False)
    pcm.record(5)
    pcm.wait_sent(5)
    pcm.cut()
    pcm.record(HELD_S)
    assert pcm.account == (0, 5)  # as far as it is known
    pcm.connected(5)
    assert pcm.account == (5, 0)


def test_encoded_audio_that_was_under_way_or_held_too_long_is_missing(page):
    webm = Publishing(page, "audio/webm")
    webm.connected(resumed=False)
    webm.record(4)
    webm.wait_sent(4)
    webm.received(1)
    webm.cut()
    webm.record(HELD_S - 1)
    assert webm.account == (1, 2)
    webm.connected()
    assert webm.account == (1, 3)
    webm.wait_sent(HELD_S - 1)
    assert webm.sent == list(range(4, HELD_S + 3))
    webm.received(HELD_S - 1)
    assert webm.account == (HELD_S, 3)
    webm.cut()
    webm.record(HELD_S + 5)
    webm.connected()
    assert webm.account == (HELD_S, 8)


def test_a_container_is_sent_with_its_beginning_however_long_it_was_held(page):
    webm = Publishing(page, "audio/webm")
    webm.record(HELD_S + 3)
    webm.connected(resumed=False)
    webm.wait_sent(HELD_S)
    webm.cut()
    webm.record(2)
    webm.connected(resumed=False)
    webm.wait_sent(HELD_S)
    assert webm.sent == [0, *range(6, HELD_S + 5)]
    assert webm.account == (0, 5)
    webm.received(HELD_S)
    assert webm.account == (HELD_S, 5)
