"""A fixture that makes a test fail which starts a process or opens a connection."""

import socket
import subprocess

import numpy.testing  # noqa: F401 - of NumPy 2.0 it starts a process when it is imported: lscpu
import pytest


@pytest.fixture(autouse=True)
def no_process_and_no_connection(monkeypatch):
    """Neither is for unit tests; an event loop's own pair of sockets is."""

    def refuse(*_, **__):
        raise AssertionError("starts a process or opens a connection: it belongs to tests/integration or tests/e2e")

    monkeypatch.setattr(subprocess.Popen, "__init__", refuse)
    for name in ("connect", "connect_ex", "bind", "listen"):
        monkeypatch.setattr(socket.socket, name, refuse)
