"""What a page publishes, as its WebSockets send it. In: a page of a browser. Out: its sessions, to the byte and to the frame."""

import io
import json
from urllib.parse import parse_qs, urlsplit

import av


class Connection:
    """One WebSocket of a microphone.

    Attributes:
        query: of its address.
        pieces: binary frames, each with the frame of the session with which it begins; None of encoded audio.
        commands: text frames.
        confirmed_bytes: of its binary frames, those that the broker has, as far as the page was sent it.
    """

    def __init__(self, socket):
        self.query = {name: values[0] for name, values in parse_qs(urlsplit(socket.url).query).items()}
        self.pieces, self.commands = [], []
        self._next, self.confirmed_bytes = None, 0
        socket.on("framesent", self._sent)
        socket.on("framereceived", self._received)

    @property
    def data(self):
        return b"".join(data for _, data in self.pieces)

    def _sent(self, payload):
        if isinstance(payload, bytes):
            self.pieces.append((self._next, payload))
            self._next = None if self._next is None else self._next + len(payload) // 2
            return
        command = json.loads(payload)
        self.commands.append(command)
        if command["type"] == "offset":
            self._next = command["frame"]

    def _received(self, payload):
        message = json.loads(payload)
        if message["type"] == "session":
            self._next = message["position"]
        elif message["type"] == "position":
            self.confirmed_bytes = message["bytes"]


class PageAudio:
    """All that ``page`` publishes from now on."""

    def __init__(self, page):
        self.connections = []
        page.on("websocket", self._opened)

    def _opened(self, socket):
        if urlsplit(socket.url).path.endswith("/audio"):
            self.connections.append(Connection(socket))

    @property
    def sessions(self):
        """Connections by session."""
        found: dict[str, list[Connection]] = {}
        for connection in self.connections:
            found.setdefault(connection.query["session"], []).append(connection)
        return found


def s16_frames(connections):
    """How many frames of S16LE are published from the first on, without a hole, whatever was sent twice; the samples must agree."""
    whole = bytearray()
    for start, data in sorted((piece for one in connections for piece in one.pieces), key=lambda piece: piece[0]):
        known = whole[2 * start : 2 * start + len(data)]
        assert start <= len(whole) // 2, f"a hole before {start}"
        assert known == data[: len(known)], f"other samples at {start}"
        whole += data[len(known) :]
    return len(whole) // 2


def webm_frames(data):
    """Frames at 48 kHz in a WebM file."""
    with av.open(io.BytesIO(data), "r") as container:
        return sum(frame.samples for frame in container.decode(container.streams.audio[0]))
