"""Attackers with patience: they send little, or read nothing, and hold on. In: a port. Out: how long they could."""

import asyncio
import socket
import time
from dataclasses import dataclass

from bench.gateway.attacks import posted, request
from bench.gateway.web_sockets import handshake

LOOK_S, DRIP_S = 0.1, 1.0
ESTABLISHED = 1
SMALL_BYTES = 4096
"""Of the buffer of one who does not read."""
SLACK_S = 15.0
"""Beyond the limit, on a machine that has other things to do."""


@dataclass(frozen=True, slots=True)
class Patience:
    """One kind.

    Attributes:
        first: what it sends at once.
        drip: what it sends each second after that.
        limit_s: after which it must be cut off.
        status: of the answer that it may get.
        reads: whether it reads; else it fills the gateway's buffers.
    """

    name: str
    first: bytes
    drip: bytes
    limit_s: float
    status: int = 0
    reads: bool = True
    count: int = 20


PATIENT = (
    Patience("says nothing", b"", b"", 10),
    Patience("slow headers", b"GET / HTTP/1.1\r\nHost: localhost\r\n", b"X: a\r\n", 10),
    Patience("stray bytes after an answer", b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n", b"\r\n", 15, 200),
    Patience(
        "a body that is not read",
        request("POST", "/nowhere", length="9999").replace(b"close", b"keep-alive"),
        b"a",
        15,
        404,
    ),
    Patience("no more of a body", posted(b"--xyz\r\n", length="9999"), b"", 30, 408),
    Patience(
        "reads no answer",
        b"GET /web/publisher.js HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20_000,
        b"",
        45,
        200,
        reads=False,
    ),
    Patience("answers no ping", handshake("/v1/streams/patient/transcript"), b"", 45, 101, reads=False),
)


async def patiently(port: int, kind: Patience) -> tuple[int, str]:
    """(status, what is wrong) of so many at once."""
    found = await asyncio.gather(*(_one(port, kind) for _ in range(kind.count)))
    return next((one for one in found if one[1]), found[0])


async def _one(port: int, kind: Patience) -> tuple[int, str]:
    loop, answer, began_s = asyncio.get_running_loop(), b"", time.monotonic()
    with socket.socket() as client:
        client.setblocking(False)
        if not kind.reads:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BYTES)
        await loop.sock_connect(client, ("127.0.0.1", port))
        sending, dripped_s = asyncio.create_task(loop.sock_sendall(client, kind.first)), began_s
        try:
            while _open(client):
                if (now_s := time.monotonic()) - began_s > kind.limit_s + SLACK_S:
                    return 0, f"still open after {now_s - began_s:.0f} s"
                if sending.done() and now_s - dripped_s > DRIP_S:
                    sending, dripped_s = asyncio.create_task(loop.sock_sendall(client, kind.drip)), now_s
                answer += _read(client) if kind.reads else b""
                await asyncio.sleep(LOOK_S)
        except OSError:
            pass
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        answer += _read(client)
    status = int(answer.split(maxsplit=2)[1]) if answer.startswith(b"HTTP/") else 0
    return status, "" if status in {kind.status, 0} and (
        status or not kind.reads or not kind.status
    ) else f"{status}: {answer[:200]!r}"


def _open(client: socket.socket) -> bool:
    return client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == ESTABLISHED


def _read(client: socket.socket) -> bytes:
    try:
        return client.recv(2**16)
    except OSError:  # nothing is there, or it was reset
        return b""
