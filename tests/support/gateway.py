"""The gateway as a real process."""

import json
import os
import signal
import subprocess
import sys
import threading
from typing import Any

import httpx
import pytest

from tests.support.waiting import PATIENCE_S
from transcriber.testing.broker import EmbeddedBroker

WITH_LIMITS = """
import importlib, json, sys
for name, value in json.loads(sys.argv.pop(1)).items():
    module, _, constant = f"transcriber.gateway.{name}".rpartition(".")
    found = importlib.import_module(module)
    getattr(found, constant)
    setattr(found, constant, value)
from transcriber.cli import main
sys.exit(main())
"""


@pytest.fixture(scope="module", name="broker")
def shared_broker():
    """A broker for all tests of a module that imports this."""
    with EmbeddedBroker() as running:
        yield running


class GatewayProcess:
    """``transcriber gateway`` on a free port, as long as the ``with`` block; settings as in the environment.

    ``url`` is where it answers, such as ``http://127.0.0.1:4711``; ``lines`` is its log so far, parsed. ``limits`` are constants
    that it has instead of its own, such as ``{"guard.BODY_S": 0.2}``, where a test would wait for long.
    """

    def __init__(self, nats_url, *arguments, limits=None, **settings):
        start = ["-c", WITH_LIMITS, json.dumps(limits)] if limits else ["-m", "transcriber"]
        self._command = [sys.executable, *start, "gateway", *arguments]
        ours = {"NATS_URL": nats_url, "GATEWAY_PORT": "0", "LOG_FORMAT": "json"}
        self._environment = os.environ | ours | {name: str(value) for name, value in settings.items()}
        self.lines: list[Any] = []
        self.other_lines: list[str] = []
        self.process: Any = None
        self._ready = threading.Event()

    def __enter__(self):
        self.process = subprocess.Popen(self._command, env=self._environment, stderr=subprocess.PIPE, text=True)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not (self._ready.wait(PATIENCE_S) and self.url):
            self.__exit__()
            raise AssertionError((self.lines, self.other_lines))
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join()
        self.process.stderr.close()

    @property
    def url(self):
        return next((line["url"] for line in list(self.lines) if line["msg"] == "gateway ready"), None)

    @property
    def websocket_url(self):
        return self.url.replace("http", "ws", 1)

    def stop(self, number=signal.SIGTERM):
        """Send a signal, and wait for the end; returns the status."""
        self.process.send_signal(number)
        status = self.process.wait(PATIENCE_S)
        self._reader.join()
        return status

    def requests(self):
        """The log's lines of requests."""
        return [line for line in list(self.lines) if line["msg"] == "request"]

    def _read(self):
        for line in self.process.stderr:
            try:
                self.lines.append(json.loads(line))
            except ValueError:
                self.other_lines.append(line)
            if self.lines and self.lines[-1]["msg"] == "gateway ready":
                self._ready.set()
        self._ready.set()


@pytest.fixture(scope="module", name="gateway")
def shared_gateway(broker):
    """A gateway for all tests of a module that imports this, at its broker."""
    with GatewayProcess(broker.url) as running:
        yield running


@pytest.fixture(name="client")
async def http_client(gateway):
    async with httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE_S) as client:
        yield client
