"""Ports that nobody else gets."""

import random
import socket
from collections import deque

_reserved: deque[socket.socket] = deque(maxlen=200)


def free_port() -> int:
    """A port that nobody else gets before a daemon opens it, or while its broker is dead.

    It is none of those that the kernel deals out by itself, and a UDP socket of the same number keeps others who ask here off it.
    """
    while True:
        port = random.SystemRandom().randrange(10_000, 30_000)
        lock = socket.socket(type=socket.SOCK_DGRAM)
        try:
            lock.bind(("127.0.0.1", port))
            with socket.socket() as tried:
                tried.bind(("127.0.0.1", port))
        except OSError:
            lock.close()
            continue
        if len(_reserved) == _reserved.maxlen:
            _reserved.popleft().close()
        _reserved.append(lock)
        return port
