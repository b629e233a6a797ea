"""WebSockets without a client library in the way. In: a port, a path. Out: a socket, frames as bytes, and frames from bytes."""

import socket
from collections.abc import Iterator

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
CONNECT_S = 30.0
NO_MASK = b"\0\0\0\0"
"""A mask that changes nothing: what is sent need not be copied, and the server's work is the same."""


def open_socket(port: int, path: str, *, headers: str = "") -> socket.socket:
    """Shake hands.

    Raises:
        ConnectionError: the server refuses.
    """
    found = socket.create_connection(("127.0.0.1", port), timeout=CONNECT_S)
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    found.sendall(handshake(path, headers=headers))
    head = b""
    while not head.endswith(b"\r\n\r\n"):  # byte by byte: what follows are frames
        if not (byte := found.recv(1)):
            break
        head += byte
    if b" 101 " not in head[:16]:
        found.close()
        raise ConnectionError(f"no WebSocket: {head!r}")
    return found


def handshake(path: str, *, headers: str = "") -> bytes:
    return (
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    ).encode("latin-1")


def frame(opcode: int, payload: bytes, *, final: bool = True, masked: bool = True) -> bytes:
    """A frame of a client."""
    return head(opcode, len(payload), final=final, masked=masked) + payload


def head(opcode: int, size: int, *, final: bool = True, masked: bool = True) -> bytes:
    """A frame's bytes before its payload of ``size`` bytes."""
    first, bit = bytes([opcode | 128 * final]), 128 * masked
    if size < 126:
        length = bytes([bit | size])
    elif size < 2**16:
        length = bytes([bit | 126]) + size.to_bytes(2, "big")
    else:
        length = bytes([bit | 127]) + size.to_bytes(8, "big")
    return first + length + (NO_MASK if masked else b"")


class FrameReader:
    """Frames of a server, from bytes that are cut anywhere."""

    def __init__(self) -> None:
        self._rest = b""

    def add(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """(opcode, payload) of each whole frame."""
        data = self._rest + data if self._rest else data
        at = 0
        while len(data) - at >= 2:
            size, begin = data[at + 1] & 127, at + 2
            if size == 126:
                size, begin = int.from_bytes(data[begin : begin + 2], "big"), begin + 2
            elif size == 127:
                size, begin = int.from_bytes(data[begin : begin + 8], "big"), begin + 8
            if len(data) < begin + size:
                break
            yield data[at] & 15, data[begin : begin + size]
            at = begin + size
        self._rest = data[at:]
