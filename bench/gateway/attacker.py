"""Attacks, one by one or many at once. In: attacks, a port. Out: what came of each. Event loop only."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import NamedTuple

from bench.gateway.attacks import Attack
from bench.gateway.web_sockets import CLOSE, FrameReader, frame, handshake

PATIENCE_S = 60.0
"""For an outcome; the longest limit of the gateway is half of it."""
CLOSING = frame(CLOSE, (1000).to_bytes(2, "big"))
LINGER_NONE = b"\1\0\0\0\0\0\0\0"


class Outcome(NamedTuple):
    """What came back.

    Attributes:
        code: status, or close code; 0: neither.
        wrong: why that is not as it should be; empty if it is.
    """

    code: int
    wrong: str = ""


async def attack(port: int, one: Attack) -> Outcome:
    """Carry it out."""
    try:
        async with asyncio.timeout(PATIENCE_S), _connection(port, reset=one.leaves) as (reader, writer):
            if one.path:
                outcome = await _over_socket(reader, writer, one)
            else:
                outcome = await _plain(reader, writer, one)
    except TimeoutError:
        return Outcome(-1, f"nothing within {PATIENCE_S:g} s")
    except OSError as error:
        return Outcome(0, "" if 0 in one.outcomes else f"reset without an answer: {error}")
    if outcome.code not in one.outcomes and not outcome.wrong:
        return Outcome(outcome.code, f"{outcome.code} is none of {sorted(one.outcomes)}")
    return outcome


async def attack_with(port: int, several: Iterable[Attack], at_once: int) -> AsyncIterator[tuple[Attack, Outcome]]:
    """Carry all of them out, so many at once; as they end."""
    waiting, running = iter(several), set[asyncio.Task[tuple[Attack, Outcome]]]()

    async def do(one: Attack) -> tuple[Attack, Outcome]:
        return one, await attack(port, one)

    while True:
        while len(running) < at_once and (one := next(waiting, None)) is not None:
            running.add(asyncio.create_task(do(one)))
        if not running:
            return
        done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            yield task.result()


@asynccontextmanager
async def _connection(port: int, *, reset: bool) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    if reset:
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NONE)
    try:
        yield reader, writer
    finally:
        writer.close()


async def _plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, one: Attack) -> Outcome:
    sending = asyncio.create_task(_send(writer, one.data))
    if one.leaves:
        await sending
        return Outcome(0)
    try:
        answer = await _read_all(reader)
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
    return judge(answer)


def judge(answer: bytes) -> Outcome:
    """Whether it is one answer, and, if an error, one clear one."""
    if not answer:
        return Outcome(0)
    top, _, body = answer.partition(b"\r\n\r\n")
    code = int(top.split(maxsplit=2)[1])
    if code < 400:
        return Outcome(code)
    if b"Failed to open a WebSocket connection: " in body:  # of the library, and clear
        return Outcome(code)
    try:
        message = json.loads(_unchunked(top, body))["error"]["message"]
    except (ValueError, LookupError, TypeError):
        return Outcome(code, f"the error is not ours: {answer[:300]!r}")
    clear = isinstance(message, str) and message and message.isprintable() and len(message) < 500
    return Outcome(code, "" if clear else f"no clear message: {message!r}")


def _unchunked(top: bytes, body: bytes) -> bytes:
    if b"transfer-encoding: chunked" not in top.lower():
        return body
    size, _, rest = body.partition(b"\r\n")
    return rest[: int(size, 16)]


async def _over_socket(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, one: Attack) -> Outcome:
    writer.write(handshake(one.path))
    top = await reader.readuntil(b"\r\n\r\n")
    if b" 101 " not in top[:16]:
        return Outcome(int(top.split(maxsplit=2)[1]), f"no WebSocket: {top!r}")
    sending = asyncio.create_task(_send(writer, one.data + (CLOSING if 0 in one.outcomes else b"")))
    if one.leaves:
        await sending
        return Outcome(0)
    frames, code = FrameReader(), 0
    try:
        while data := await reader.read(2**16):
            for opcode, payload in frames.add(data):
                if opcode == CLOSE:
                    code = int.from_bytes(payload[:2], "big")
                    if len(payload) <= 2 and code != 1000:
                        return Outcome(code, "no reason is given")
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
    return Outcome(0 if code == 1000 else code)


async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()


async def _read_all(reader: asyncio.StreamReader) -> bytes:
    """Until the gateway closes; what came before a reset counts."""
    answer = b""
    try:
        while data := await reader.read(2**16):
            answer += data
    except ConnectionError:
        if not answer:
            raise
    return answer
