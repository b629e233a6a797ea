"""Requests and frames that mean no good. In: a random generator. Out: what to send, and what may come back. No I/O.

Each is one connection. A status of 0 stands for a connection that is closed without an answer; of a WebSocket that was accepted
the outcome is its close code, or 0 where nothing is wrong enough to close it.
"""

import gzip
import io
import json
import random
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bench.gateway.web_sockets import BINARY, CLOSE, PING, TEXT, frame, handshake, head

UPLOAD = "/v1/audio/transcriptions"
FORM = "multipart/form-data; boundary=xyz"
AUDIO_SOCKET = "/v1/streams/hostile/audio"
SOCKETS = (AUDIO_SOCKET, "/v1/realtime?intent=transcription", "/v1/streams/hostile/transcript")
CONTINUATION, PONG = 0, 10
ZEROS = bytes(10_000_000)


@dataclass(frozen=True, slots=True)
class Attack:
    """One connection.

    Attributes:
        name: of its kind.
        data: what is sent; of a WebSocket, after the handshake.
        outcomes: statuses, or close codes, that are right.
        path: of a WebSocket; empty for plain bytes.
        leaves: the client resets the connection after it has sent all.
    """

    name: str
    data: bytes
    outcomes: frozenset[int]
    path: str = ""
    leaves: bool = False


def attacks(seed: int) -> Iterator[Attack]:
    """Without end; every kind in turn, so that none is missing from a short run."""
    rng = random.Random(seed)
    while True:
        for make in MAKERS:
            yield make(rng)


def plain(name: str, data: bytes, *outcomes: int) -> Attack:
    return Attack(name, data, frozenset(outcomes))


def request(method: str, path: str, *headers: str, body: bytes = b"", length: str | None = None) -> bytes:
    size = str(len(body)) if length is None else length
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close", *headers]
    lines += [f"Content-Length: {size}"] if size != "0" or length is not None else []
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def form(file: bytes, **fields: str) -> bytes:
    parts = [
        f'--xyz\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in fields.items()
    ]
    start = '--xyz\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    return "".join(parts).encode() + start.encode() + file + b"\r\n--xyz--\r\n"


def posted(body: bytes, content_type: str = FORM, path: str = UPLOAD, **options: str) -> bytes:
    return request("POST", path, f"Content-Type: {content_type}", body=body, **options)


def damaged(rng: random.Random, data: bytes) -> bytes:
    """With some bytes changed, taken out or doubled."""
    found = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        at = rng.randrange(len(found))
        match rng.randrange(4):
            case 0:
                found[at] = rng.randrange(256)
            case 1:
                del found[at : at + rng.randint(1, 20)]
            case 2:
                found[at:at] = found[at : at + rng.randint(1, 200)]
            case _:
                found[at:at] = rng.choice((b"\r\n", b"\0", b"--xyz", b'"', b"\xff\xfe", b";", b"filename=x"))
        found = found or bytearray(b"-")
    return bytes(found)


# HTTP


def rubbish(rng: random.Random) -> Attack:
    first = rng.choice(
        (b"\x16\x03\x01", b"\0", b"\xff", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET\r\n\r\n", b"A" * 100 + b" ")
    )
    return plain("rubbish", first + rng.randbytes(rng.randint(1, 200)) + b"\r\n\r\n", 400, 404, 405, 431)


def giant_headers(rng: random.Random) -> Attack:
    size = rng.randint(70_000, 300_000)
    headers = rng.choice(("X: " + "a" * size, "\r\n".join(["X: a"] * (size // 6)), "X" * size + ": a"))
    return plain("giant headers", request("GET", "/v1/models", headers), 431)


def giant_path(rng: random.Random) -> Attack:
    path = "/" + "a/" * rng.randint(5000, 50_000)
    return plain("giant path", request("GET", path + "?" + "b=c&" * rng.randint(0, 5000)), 400, 404, 431)


def path_tricks(rng: random.Random) -> Attack:
    pieces = (
        "..",
        "%2e%2e",
        "%2E.",
        "%00",
        "%c0%af",
        "etc",
        "passwd",
        "v1",
        "streams",
        "jobs",
        "%ff",
        ".git",
        "\\..",
        "//",
        "%0d%0a",
        "%25",
    )
    path = "/" + "/".join(rng.choice(pieces) for _ in range(rng.randint(1, 8)))
    return plain("path tricks", request("GET", path), 400, 404, 503)


def names_in_paths(rng: random.Random) -> Attack:
    name = rng.choice(("a%20b", "*", "%3E", "a.b", "x" * 65, "%E2%82%AC", "$SYS", "a%0d%0ab"))
    path = rng.choice(("/v1/streams/{}/transcript", "/v1/streams/{}/transcript.vtt", "/v1/jobs/{}x", "/v1/models/{}"))
    return plain("names in paths", request("GET", path.format(name)), 400, 404, 503)


def queries(rng: random.Random) -> Attack:
    value = rng.choice(("-1", "x", "9" * 400, "%00", "1e9", "", "٣", "%ff"))
    path = f"/v1/streams/hostile/transcript?from={value}"
    return plain("queries", request("GET", path.encode().decode("latin-1")), 400)


def wrong_lengths(rng: random.Random) -> Attack:
    length = rng.choice(
        ("-1", "x", "1e3", "0x10", "99999999999999999999", "5368709121000", "1, 2", "1\r\nContent-Length: 2", "+5")
    )
    return plain("wrong lengths", posted(b"--xyz", length=length), 400, 413)


def smuggling(rng: random.Random) -> Attack:
    coding = rng.choice(("chunked", "chunked, identity", "xchunked", "gzip, chunked", "\x0bchunked"))
    body = rng.choice(
        (
            b"zz\r\nabc\r\n",
            b"-1\r\n",
            b"fffffffffffffffff\r\n",
            b"5\r\nabc\r\n0\r\n\r\n",
            b"0\r\n\r\nGET /evil HTTP/1.1\r\n\r\n",
        )
    )
    size = rng.choice(("Content-Length: 5\r\n", ""))
    start = f"POST {UPLOAD} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {FORM}\r\nConnection: close\r\n"
    data = f"{start}{size}Transfer-Encoding: {coding}\r\n\r\n".encode() + body
    return plain("smuggling", data, 400, 411, 501)


def short_bodies(rng: random.Random) -> Attack:
    data = posted(b"--xyz\r\nContent-Disposition: form-data", length=str(rng.randint(10_000, 10**9)))
    return Attack("short bodies", data, frozenset({0}), leaves=True)


def broken_forms(rng: random.Random) -> Attack:
    body = damaged(rng, form(rng.randbytes(200), model="whisper-1", response_format="json", prompt="x" * 50))
    return plain("broken forms", posted(body), 400, 404, 413, 415, 429)


def odd_forms(rng: random.Random) -> Attack:
    disposition = 'Content-Disposition: form-data; name="{}"'
    bodies: tuple[bytes, ...] = (
        b"".join(b'--xyz\r\nContent-Disposition: form-data; name="f%d"\r\n\r\n1\r\n' % number for number in range(200))
        + b"--xyz--\r\n",
        f"--xyz\r\n{disposition.format('x' * 70_000)}\r\n\r\n1\r\n--xyz--\r\n".encode(),
        f"--xyz\r\n{disposition.format('model')}\r\n\r\n{'m' * 70_000}\r\n--xyz--\r\n".encode(),
        form(b"a", model="whisper-1").replace(b"--xyz--", form(b"b", model="x")),
        form(b"", model="whisper-1"),
        form(b"a", model="\ud800".encode("utf-8", "surrogatepass").decode("latin-1"), language="\0"),
        b"--xyz\r\n" + b"X: y\r\n" * 1000 + b"\r\n--xyz--\r\n",
        b"\r\n" * 10_000,
    )
    kind = rng.choice(
        (FORM, FORM, FORM, FORM, "multipart/form-data; boundary=" + "b" * 300, "multipart/form-data; boundary=")
    )
    return plain("odd forms", posted(rng.choice(bodies), kind), 400, 404, 429)


def bombs(rng: random.Random) -> Attack:
    """Compressed zeros, and files that claim to be hours long, as audio."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.wav", ZEROS)
    sizes = (0xFFFFFFFF).to_bytes(4, "little")
    wav = b"RIFF" + sizes + b"WAVEfmt \x10\0\0\0\1\0\1\0\x80\xbb\0\0\0\x77\1\0\2\0\x10\0data" + sizes + bytes(100)
    audio = rng.choice(
        (
            gzip.compress(ZEROS),
            packed.getvalue(),
            wav[:30],
            b"fLaC" + rng.randbytes(100),
            b"OggS" + bytes(500),
            b"\x1a\x45\xdf\xa3" + b"\xff" * 300,
        )
    )
    headers = rng.choice(((), ("Content-Encoding: gzip",)))
    data = request("POST", UPLOAD, f"Content-Type: {FORM}", *headers, body=form(audio, model="whisper-1"))
    return plain("bombs", data, 200, 400, 413, 415, 422, 429)


def bad_json(rng: random.Random) -> Attack:
    body = rng.choice(
        (
            b"[" * rng.randint(1, 100_000), b'{"a":' * 50_000, b'{"scopes": NaN}', b"\xff\xfe{}", b'{"scopes": ["listen"], "scopes": 1}',
            b'{"scopes": ["\\ud800"]}', b'{"scopes": [' + b"9" * 5000 + b"]}", b'{"scopes": ["listen"], "x": 1}', b"", b"null", b'"' + b"a" * 500_000,
            json.dumps({"scopes": ["listen"], "streams": ["*" * 10_000]}).encode(),
        )
    )  # fmt: skip
    return plain("bad JSON", posted(body, "application/json", "/v1/tickets"), 400)


def too_large(rng: random.Random) -> Attack:
    data = posted(b"", "application/json", "/v1/tickets", length=str(rng.randint(2**20 + 1, 2**62)))
    return plain("too large", data, 413)


def foreign(rng: random.Random) -> Attack:
    head_ = rng.choice(
        (
            b"Host: evil.example",
            b"Host: localhost\r\nOrigin: https://evil.example",
            b"Host: localhost\r\nOrigin: null",
            b"Host: [::1",
        )
    )
    return plain("foreign", b"GET /v1/models HTTP/1.1\r\n" + head_ + b"\r\nConnection: close\r\n\r\n", 400, 403)


def methods(rng: random.Random) -> Attack:
    method = rng.choice(("PUT", "DELETE", "TRACE", "PATCH", "PROPFIND", "CONNECT", "BREW"))
    return plain("methods", request(method, rng.choice((UPLOAD, "/v1/models", "/", "/v1/streams"))), 400, 404, 405)


# Handshakes


def handshakes(rng: random.Random) -> Attack:
    path = rng.choice(SOCKETS)
    good = handshake(path)
    data = rng.choice(
        (
            good.replace(b"13", b"12"), good.replace(b"Sec-WebSocket-Key: dGhl", b"Sec-WebSocket-Key: !"),
            good.replace(b"Sec-WebSocket-Key", b"X-Key"), handshake(path, headers="Origin: https://evil.example\r\n"),
            handshake(path, headers=f"X: {'a' * rng.randint(9000, 60_000)}\r\n"), handshake(path, headers="X: a\r\n" * 200),
            handshake("/v1/streams/a.b/audio"), handshake("/nowhere"), handshake(AUDIO_SOCKET + "?content_type=x/y"),
            handshake(AUDIO_SOCKET + "?session=%00"), handshake(AUDIO_SOCKET + "?content_type=audio/x-raw;rate=-1"),
            handshake("/v1/realtime?intent=conversation"), handshake("/v1/realtime?intent=transcription&model=nothing"),
            good.replace(b"GET", b"POST"),
        )
    )  # fmt: skip
    return plain("handshakes", data, 400, 403, 404, 405, 426, 431)


# Frames


def framed(name: str, path: str, data: bytes, *outcomes: int) -> Attack:
    return Attack(name, data, frozenset(outcomes), path)


def malformed_frames(rng: random.Random) -> Attack:
    text = b'{"type": "flush"}'
    data = rng.choice(
        (
            frame(TEXT, text, masked=False), frame(rng.choice((3, 7, 11, 15)), text), frame(TEXT | 64, text), frame(TEXT | 16, text),
            frame(CONTINUATION, text), frame(PING, b"a" * 126), frame(PING, b"a", final=False), frame(TEXT, text, final=False) + frame(TEXT, text),
            frame(CLOSE, b"\x03"), frame(CLOSE, (999).to_bytes(2, "big")), frame(CLOSE, b"\x03\xe8\xff\xff"),
        )
    )  # fmt: skip
    return framed("malformed frames", rng.choice(SOCKETS), data, 1002, 1007)


def giant_frames(rng: random.Random) -> Attack:
    size = rng.choice((2**20 + 1, 2**31, 2**62))
    begun = frame(BINARY, bytes(600_000), final=False) + frame(CONTINUATION, bytes(600_000))
    data = rng.choice((head(BINARY, size), head(TEXT, size), begun))
    return framed("giant frames", rng.choice(SOCKETS), data, 1002, 1009)


def fragments(rng: random.Random) -> Attack:
    piece = frame(CONTINUATION, bytes(rng.randint(0, 2)), final=False)
    data = frame(rng.choice((TEXT, BINARY)), b"", final=False) + piece * rng.randint(2000, 20_000)
    return framed("fragments", rng.choice(SOCKETS), data, 1009)


def pings(rng: random.Random) -> Attack:
    data = frame(PING, bytes(rng.randint(0, 125))) * rng.randint(500, 20_000)
    return framed("pings", rng.choice(SOCKETS), data, 1008)


def pongs(rng: random.Random) -> Attack:
    return framed("pongs", rng.choice(SOCKETS), frame(PONG, b"x") * rng.randint(1, 2000), 0)


def not_utf8(rng: random.Random) -> Attack:
    data = rng.choice(
        (b"\xff", b'{"type": "\xc3"}', "\ud800".encode("utf-8", "surrogatepass"), b"\xf8\x88\x80\x80\x80")
    )
    whole = frame(TEXT, data[:1], final=False) + frame(CONTINUATION, data[1:])
    return framed("not UTF-8", rng.choice(SOCKETS), rng.choice((frame(TEXT, data), whole)), 1007)


def commands(rng: random.Random) -> Attack:
    """Text that is JSON, or nearly, at the audio socket and at Realtime: an error each, and the session goes on."""
    texts = (
        "", "{", "null", "[]", '"x"', "[" * 5000, '{"type": 1}', '{"type": "offset", "frame": -1}', '{"type": "offset", "frame": 1e99}',
        '{"type": "offset", "frame": true}', '{"type": "update", "language": "xx\\ud800"}', '{"type": "update", "prompt": "\\ud800"}',
        '{"type": "update", "\\ud800": 1}', '{"type": "session.update", "session": {"type": "\\ud800"}}', '{"type": "session.update", "session": 7}',
        '{"type": "session.update", "session": {"audio": {"input": {"transcription": {"prompt": "a\\ud83d"}}}}}',
        '{"type": "input_audio_buffer.append", "audio": "===="}', '{"type": "input_audio_buffer.append", "audio": ["a"]}',
        '{"type": "input_audio_buffer.commit"}', '{"type": "\\ud800"}', '{"type": "flush", "x": ' + "9" * 5000 + "}",
    )  # fmt: skip
    data = b"".join(frame(TEXT, rng.choice(texts).encode()) for _ in range(rng.randint(1, 20)))
    return framed("commands", rng.choice(SOCKETS[:2]), data, 0)


def audio(rng: random.Random) -> Attack:
    kind = rng.choice(
        ("audio/x-raw;rate=8000", "audio/wav", "audio/webm", "audio/ogg", "audio/x-raw;format=F32LE;channels=2")
    )
    data = b"".join(frame(BINARY, rng.randbytes(rng.randint(0, 3000))) for _ in range(rng.randint(1, 20)))
    return framed("audio", f"{AUDIO_SOCKET}?content_type={kind}", data, 0)


def early_frames(rng: random.Random) -> Attack:
    data = handshake(rng.choice(SOCKETS)) + rng.choice(
        (b"\xff" * 50, frame(TEXT, b"x", masked=False), rng.randbytes(500))
    )
    return Attack("early frames", data, frozenset({0, 101, 400}), leaves=True)


def leaving(rng: random.Random) -> Attack:
    data = rng.choice((frame(BINARY, bytes(1000)) * 20, head(BINARY, 100_000) + bytes(5), b"\x81"))
    return Attack("leaving", data, frozenset({0}), rng.choice(SOCKETS), leaves=True)


MAKERS: tuple[Callable[[random.Random], Attack], ...] = (
    rubbish, giant_headers, giant_path, path_tricks, names_in_paths, queries, wrong_lengths, smuggling, short_bodies, broken_forms,
    odd_forms, bombs, bad_json, too_large, foreign, methods, handshakes, malformed_frames, giant_frames, fragments, pings, pongs,
    not_utf8, commands, audio, early_frames, leaving,
)  # fmt: skip
