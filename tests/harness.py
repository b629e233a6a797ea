"""What the tests with real processes share: the daemon, a publisher's hands, a listener's ears, the account."""

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter, defaultdict, deque
from pathlib import Path
from typing import Any

import nats
import numpy as np
import pytest

from bench.chaos.world import may_fill_a_disk
from bench.lib.daemon import PLAIN
from tests.stopwatch import Stopwatch
from transcriber.schema.messages import ANY_MESSAGE, End, Final, Partial, Progress, Status, Transcribed
from transcriber.testing.verify import account_errors

ROOT = Path(__file__).parents[1]
PATIENCE_S = 120.0
"""Longer than anything takes on the busiest machine: it ends a test that hangs, and proves nothing."""

PATIENT_STOP = {
    "FAKE_SET": f"transcriber.live.ingest:DRAIN_S={PATIENCE_S} transcriber.bus.micro_service:DRAIN_S={PATIENCE_S} "
    + " ".join(f"transcriber.service:{name}={PATIENCE_S}" for name in ("STOP_S", "FINISH_S", "SENT_S", "FLUSH_S"))
}
"""A daemon that gives up nothing at its stop because the machine is busy; where nothing hangs it takes no longer for it."""


_reserved: deque[socket.socket] = deque(maxlen=200)


def free_port():
    """A port that nobody else gets before a daemon opens it, or while its broker is dead.

    It is none of those that the kernel deals out by itself, and a UDP socket of the same number keeps other tests off it.
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


async def until(condition, what="the condition"):
    """Wait for ``condition()``, which may be slow to come but must come; returns what it returned."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < deadline_s, f"waited {PATIENCE_S:.0f} s in vain for {what}"
        await asyncio.sleep(0.01)
    return found


async def settled(client):
    """Wait until the broker has all, and its answers are here. Twice: nats-py's first PING overtakes what it has queued."""
    await client.flush()
    await client.flush()


@contextlib.contextmanager
def small_disk(folder, size):
    """A folder below ``folder`` that has no more room than ``size``, such as ``1m``; tests without the right to it are skipped."""
    if not may_fill_a_disk():
        pytest.skip("only root may mount a small disk")
    disk = Path(folder) / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", disk], check=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


class Daemon:
    """A real daemon process; by default with the fake model, or another ``module`` of the tests."""

    def __init__(self, url, folder, *flags, fake=True, module="tests.fake_daemon", **env):
        self.port = free_port()
        self.log_path = Path(folder) / f"daemon-{self.port}.log"
        self._command = [sys.executable, "-m", *([module] if fake else ["transcriber", "serve"]), *flags]
        self._env = os.environ | {
            "NATS_URL": url,
            "HEALTH_HOST": "127.0.0.1",
            "HEALTH_PORT": str(self.port),
            "METRICS_NATS_SECS": "0.2",
            "OMP_NUM_THREADS": "1",
        } | (PLAIN if fake else {"WHISPER_MODEL": "demo"})  # fmt: skip
        self._env |= {name: str(value) for name, value in env.items()}
        self.process: Any = None

    async def __aenter__(self):
        self.start()
        try:
            await until(self.ready_or_dead, "readiness")
            assert self.process.poll() is None, self.log()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def start(self):
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(self._command, env=self._env, cwd=ROOT, stderr=log, stdout=log)

    @property
    def resident_mb(self):
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE") / 2**20

    def probe(self, path):
        """Status and body of a probe; (0, {}) while nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)
        except OSError:
            return 0, {}

    def ready_or_dead(self):
        return self.process.poll() is not None or self.probe("/readyz")[0] == 200

    async def stop(self, number=signal.SIGTERM):
        """Send a signal and wait; returns status and seconds, as on a machine with nothing else to do."""
        watch = Stopwatch()
        self.process.send_signal(number)
        return await self.ended(watch), watch.own_s

    async def ended(self, watch=None):
        """Wait for its end, to the last of which ``watch`` looks; returns the status."""
        if watch is None:
            watch = Stopwatch()
        await until(lambda: watch.look() or self.process.poll() is not None, "the daemon's end")
        return self.process.returncode

    def log(self):
        return self.log_path.read_text()

    def log_lines(self):
        lines = []
        for line in self.log().splitlines():
            with contextlib.suppress(ValueError):
                lines.append(json.loads(line))
        return lines

    def last_line(self, message):
        return next(line for line in reversed(self.log_lines()) if line["msg"] == message)

    def rss_mb(self):
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


class Ears:
    """Everything published, by session, parsed and checked against the models."""

    def __init__(self, url, **options):
        self._url = url
        self._options = options
        self.messages = []
        self.ids = []
        self.traceparents = []
        self.metrics = []

    async def __aenter__(self):
        self.client = await nats.connect(self._url, max_reconnect_attempts=-1, reconnect_time_wait=0.1, **self._options)
        await self.client.subscribe("transcripts.>", cb=self._hear)
        await self.client.subscribe("transcriber.metrics.>", cb=self._measure)
        await settled(self.client)
        return self

    async def __aexit__(self, *_):
        await self.client.close()

    async def _hear(self, message):
        parsed = ANY_MESSAGE.validate_json(message.data)
        assert message.subject == f"transcripts.{parsed.stream}.{parsed.type}"
        self.messages.append(parsed)
        self.ids.append(message.headers["Nats-Msg-Id"])
        self.traceparents.append(message.headers["traceparent"])

    async def _measure(self, message):
        self.metrics.append(json.loads(message.data)["metrics"])

    def of(self, kind, stream=None):
        return [m for m in self.messages if isinstance(m, kind) and stream in {None, m.stream}]

    async def ends(self, count):
        """Wait for so many sessions to end; returns their ends."""
        return await until(lambda: len(self.of(End)) >= count and self.of(End), f"{count} ends")

    def text(self, stream):
        return " ".join(final.text for final in self.of(Final, stream))

    def check_accounts(self):
        """Each session that ended is tiled by the finals, silences and gaps of each speaker, and its sums are right.

        Partials are of open windows: none comes after the final of its segment, and each knows more than the one before.

        Publishers that use one ``Audio-Session`` for several recordings get what they ask for, and are left out.
        """
        starts = Counter((m.stream, m.session) for m in self.of(Status) if m.state == "started")
        sessions, ids = defaultdict(list), []
        for message, message_id in zip(self.messages, self.ids, strict=True):
            if starts[message.stream, message.session] == 1 and not isinstance(message, Progress):
                sessions[message.stream, message.session].append(message)
                ids.append(message_id)
        assert len(set(ids)) == len(ids)
        for key, messages in sessions.items():
            if isinstance(messages[-1], End):
                check_session(messages)
            assert not any(isinstance(m, End) for m in messages[:-1]), f"{key}: something came after the end"
        return sessions


def check_session(messages):
    *before, end = messages
    assert isinstance(before[0], Status)
    assert before[0].state == "started"
    for speaker in {m.speaker for m in before if isinstance(m, Transcribed)}:
        check_speaker([m for m in before if isinstance(m, Transcribed) and m.speaker == speaker])
    assert account_errors(messages, end.frames) == []
    for name in ("received", "lost", "transcribed", "silent", "dropped"):
        assert getattr(end, f"{name}_s") == getattr(end, f"{name}_frames") / end.rate


def check_speaker(transcribed):
    """Finals come in order, each after its own partials."""
    segments = [m.segment for m in transcribed if isinstance(m, Final)]
    assert segments == sorted(set(segments))
    starts = {m.segment: m.start_frame for m in transcribed if isinstance(m, Final)}
    told: dict[int, int] = defaultdict(int)
    heard: dict[int, int] = defaultdict(int)
    for message in transcribed:
        segment = message.segment
        if isinstance(message, Final):
            told[segment] = -1
        elif isinstance(message, Partial):
            assert told[segment] >= 0, f"a partial of segment {segment} after its final"
            assert message.rev == told[segment] + 1
            assert message.frames > heard[segment]
            assert message.start_frame == starts.get(segment, message.start_frame)
            assert not message.speech_final
            told[segment], heard[segment] = message.rev, message.frames


def level(thousandths, frames):
    """A payload of constant level: the fake model hears it as the text ``thousandths``."""
    return np.full(frames, round(thousandths * 32.768), "<i2").tobytes()


async def speak(client, stream, payload, **headers):
    """Publish one payload; ``offset=3`` becomes ``Audio-Offset: 3``."""
    names = {"offset": "Audio-Offset", "end": "Audio-End", "session": "Audio-Session", "content_type": "Content-Type"}
    await client.publish(
        f"audio.{stream}", payload, headers={names.get(k, k): str(v) for k, v in headers.items()} or None
    )
