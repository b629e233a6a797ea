"""What faults act upon: a broker with its disk, a bad network, and daemons that are restarted when they end.

As in a cluster: a daemon that ends by itself is started again, and a broker that died comes back with the same disk.
"""

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from bench.chaos.plan import Fault, Kind, Model
from bench.lib.daemon import PLAIN
from transcriber.testing.broker import EmbeddedBroker
from transcriber.testing.daemon import DaemonProcess
from transcriber.testing.faulty_proxy import FaultyProxy

AUDIO, TEXT = "AUDIO", "TRANSCRIPTS"

READY_S = 10.0
"""For a new daemon to become ready; the run continues without it."""

STOP_S = 20.0
"""For a daemon to end after SIGTERM."""

COULD_NOT_START = 3
"""Exit status of a daemon that finds no broker: its supervisor has to restart it."""

DISK_BYTES = 256 * 2**20
SLOW_JOB_S = 0.3
_POLL_S = 0.02

SETTINGS = {
    "DURABLE": "1",
    "PROVISION": "1",
    "MAX_ATTEMPTS": "100",
    "AUDIO_MAX_BYTES": str(112 * 2**20),  # with the text less than the three quarters of its disk that JetStream takes
    "TRANSCRIPT_MAX_BYTES": str(64 * 2**20),
    # What is cut must not depend on how long the broker was away.
    "HEARTBEAT_TIMEOUT_SECS": "60",
    "STREAM_IDLE_SECS": "120",
    "METRICS_NATS_SECS": "0.2",
    "LOG_FORMAT": "json",
    "OMP_NUM_THREADS": "1",
}


async def until(condition: Callable[[], bool], patience_s: float) -> bool:
    """Wait for ``condition()``; False if it did not come in time."""
    deadline_s = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > deadline_s:
            return False
        await asyncio.sleep(_POLL_S)
    return True


class Daemon(DaemonProcess):
    """The real daemon, with a real model.

    Attributes:
        expected_to_end: we ended it.
    """

    def __init__(self, url: str, log: Path, settings: dict[str, str]) -> None:
        super().__init__(url, "demo")
        self._environment |= settings
        self._log.close()
        self._log = log.open("w+b")  # kept to debug failures
        self.expected_to_end = False

    def signal(self, number: signal.Signals) -> None:
        if self.running:
            self.process.send_signal(number)

    def kill(self) -> None:
        self.expected_to_end = True
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """Its log stays where it is."""
        self._log.close()

    async def end(self) -> str | None:
        """SIGTERM; what went wrong."""
        self.expected_to_end = True
        self.signal(signal.SIGTERM)
        if not await until(lambda: not self.running, STOP_S):
            self.kill()
            return f"a daemon did not end within {STOP_S:.0f} s of SIGTERM"
        status = self.process.wait()
        if status == -signal.SIGTERM and not self.log():
            return None  # the interpreter was not up yet, and had nothing to lose
        return f"a daemon ended with status {status} after SIGTERM" if status else None


class FakeDaemon(Daemon):
    """The real daemon, with the fake model."""

    arguments: ClassVar[tuple[str, ...]] = ("-m", "transcriber.testing.fake_daemon")


class World:
    """As long as the ``async with`` block lasts.

    Attributes:
        faults: how many of each kind were done.
        restarts: daemons and brokers started again.
        errors: what no fault excuses: daemons that crash, or do not end on SIGTERM.
        history: what was done, and when.
    """

    def __init__(self, folder: Path, model: Model, settings: dict[str, str], *, daemons: int = 1, disk: bool) -> None:
        self.faults: Counter[Kind] = Counter()
        self.restarts = 0
        self.errors: list[str] = []
        self.history: list[str] = []
        self._began_s = time.monotonic()
        self._folder = folder
        self._store = folder / "store"
        self._disk = disk
        self._job_file = folder / "job_s"
        self._job_s = settings.get("FAKE_JOB_S", "0")
        self._class = FakeDaemon if model == "fake" else Daemon
        real = {"WHISPER_MODEL": model, "WHISPER_MODEL_PATH": ""}
        self._settings = SETTINGS | (PLAIN | {"INPUT_SAMPLE_RATE": "16000"} if model == "fake" else real) | settings
        self._settings["FAKE_JOB_FILE"] = str(self._job_file)
        parts = [{"PARTITION": str(part)} for part in range(daemons)] if daemons > 1 else [{}]
        self._parts = parts
        self._slots: list[list[Daemon]] = [[] for _ in parts]  # daemons that must live
        self._all: list[Daemon] = []
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._set_job_s(self._job_s)
        self._store.mkdir()
        if self._disk:
            self._stack.enter_context(_small_disk(self._store))
        self._start_broker(-1)
        self._stack.callback(self._stop_broker)
        self._proxy = await self._stack.enter_async_context(FaultyProxy(self._broker.port))
        self._stack.callback(self._kill_all)
        try:
            self._provision()
            for slot in range(len(self._slots)):
                await self._ready(self._start(slot))
        except BaseException:
            await self._stack.aclose()
            raise
        self._began_s = time.monotonic()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    @property
    def url(self) -> str:
        """The broker, without the bad network."""
        return self._broker.url

    async def supervise(self) -> None:
        """Start daemons again that end by themselves, until cancelled."""
        while True:
            await asyncio.sleep(_POLL_S)
            for slot, daemons in enumerate(self._slots):
                for daemon in [d for d in daemons if not d.running and not d.expected_to_end]:
                    daemons.remove(daemon)
                    what = f"a daemon ended by itself, status {daemon.process.returncode}: {_last_words(daemon)}"
                    self._note(what)
                    if daemon.process.returncode != COULD_NOT_START:
                        self.errors.append(what)
                    self._restart(slot)

    async def do(self, fault: Fault) -> None:
        """Let it happen, and repair it."""
        self._note(f"{fault.kind}, {fault.hold_s:.1f} s")
        slot = int(fault.chance * len(self._slots))
        match fault.kind:
            case Kind.DAEMON_KILLED:
                self._take(slot).kill()
                await asyncio.sleep(fault.hold_s)
                self._restart(slot)
            case Kind.DAEMON_REPLACED:
                await self._end(self._take(slot))
                await asyncio.sleep(fault.hold_s)
                self._restart(slot)
            case Kind.DAEMON_ROLLED:
                old = self._take(slot)
                await self._ready(self._restart(slot))
                await asyncio.sleep(fault.hold_s)
                await self._end(old)
            case Kind.DAEMON_FROZEN:
                daemon = self._slots[slot][-1]
                daemon.signal(signal.SIGSTOP)
                await asyncio.sleep(fault.hold_s)
                daemon.signal(signal.SIGCONT)
            case Kind.TWO_DAEMONS:
                await self._two_daemons(slot, fault)
            case Kind.SLOW_WORKER:
                self._set_job_s(str(SLOW_JOB_S))
                await asyncio.sleep(fault.hold_s)
                self._set_job_s(self._job_s)
            case _:
                await self._broker_fault(fault)
        self.faults[fault.kind] += 1
        self._note(f"{fault.kind}: repaired")

    async def end(self) -> None:
        """Stop all daemons in order; each must end well."""
        for daemons in self._slots:
            while daemons:
                await self._end(daemons.pop())

    async def _two_daemons(self, slot: int, fault: Fault) -> None:
        """One that was given up wakes up beside the one that took over; then either ends."""
        old = self._take(slot)
        old.signal(signal.SIGSTOP)
        new = self._restart(slot)
        await self._ready(new)
        old.signal(signal.SIGCONT)
        await asyncio.sleep(fault.hold_s)
        if fault.chance * len(self._slots) % 1 < 0.5:
            self._slots[slot].append(old)
            old = new
        if old in self._slots[slot]:  # else it has ended by itself, and has a successor
            self._slots[slot].remove(old)
        old.kill()

    async def _broker_fault(self, fault: Fault) -> None:
        match fault.kind:
            case Kind.BROKER_KILLED:
                await self._restart_broker(fault.hold_s)
            case Kind.BROKER_FROZEN:
                self._broker.process.send_signal(signal.SIGSTOP)
                await asyncio.sleep(fault.hold_s)
                self._broker.process.send_signal(signal.SIGCONT)
            case Kind.DISK_FULL:
                ballast = self._store / "ballast"
                _fill(ballast)
                await asyncio.sleep(fault.hold_s)
                ballast.unlink()
                await self._restart_broker(0.0)
            case Kind.CONNECTION_CUT:
                await self._proxy.cut()
            case Kind.CONNECTION_HUNG:
                self._proxy.black_hole(True)
                await asyncio.sleep(fault.hold_s)
                self._proxy.black_hole(False)
            case _:
                self._proxy.delay_s = 0.05 + 0.2 * fault.chance
                await asyncio.sleep(fault.hold_s)
                self._proxy.delay_s = 0.0

    def _start_broker(self, port: int) -> None:
        log = str(self._folder / "broker.log")
        self._broker = EmbeddedBroker("--jetstream", "--store_dir", str(self._store), "--log", log, port=port)
        self._broker.start()

    def _stop_broker(self) -> None:
        """The one that there is by then."""
        self._broker.stop()

    async def _restart_broker(self, away_s: float) -> None:
        """Kill it, and bring it back on its port and its disk."""
        port = self._broker.port
        self._broker.process.kill()
        self._broker.stop()
        await asyncio.sleep(away_s)
        self._start_broker(port)
        self.restarts += 1

    def _set_job_s(self, seconds: str) -> None:
        """For daemons that read it meanwhile: never half written."""
        fresh = self._job_file.with_suffix(".new")
        fresh.write_text(seconds)
        fresh.replace(self._job_file)

    def _provision(self) -> None:
        """A cluster's job makes the streams; one daemon alone does it itself."""
        if len(self._slots) > 1:
            environment = os.environ | self._settings | {"NATS_URL": self.url}
            command = [sys.executable, "-m", "transcriber", "provision"]
            subprocess.run(command, env=environment, check=True, capture_output=True)

    def _start(self, slot: int) -> Daemon:
        log = self._folder / f"daemon-{len(self._all)}.log"
        daemon = self._class(self._proxy.url, log, self._settings | self._parts[slot])
        daemon.start()
        self._all.append(daemon)
        self._slots[slot].append(daemon)
        return daemon

    def _restart(self, slot: int) -> Daemon:
        self.restarts += 1
        return self._start(slot)

    def _take(self, slot: int) -> Daemon:
        """The daemon of ``slot``, which from now on is not one of those that must live."""
        return self._slots[slot].pop()

    async def _ready(self, daemon: Daemon) -> None:
        try:
            async with asyncio.timeout(READY_S):
                await daemon.ready()
        except TimeoutError:
            self._note("a new daemon is not ready yet")

    async def _end(self, daemon: Daemon) -> None:
        if error := await daemon.end():
            self.errors.append(error)

    def _kill_all(self) -> None:
        for daemon in self._all:
            daemon.kill()
            daemon.close()

    def _note(self, what: str) -> None:
        self.history.append(f"{time.monotonic() - self._began_s:6.2f} s  {what}")


def _last_words(daemon: Daemon) -> str:
    """What it died of: the end of its traceback, else its last line."""
    lines = daemon.log().partition("Exception ignored in")[0].splitlines() or [""]
    return next((line for line in reversed(lines) if re.match(r"[\w.]*(Error|Exception)\b", line)), lines[-1])


def may_fill_a_disk() -> bool:
    """Whether we may mount a small one; only root may, and not everywhere."""
    try:
        with tempfile.TemporaryDirectory() as folder, _small_disk(Path(folder)):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


@contextlib.contextmanager
def _small_disk(folder: Path) -> Iterator[None]:
    """Mount one at ``folder``, in memory."""
    size = f"size={DISK_BYTES}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "none", str(folder)], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _fill(path: Path) -> None:
    """Take all that is left of the disk, to the last byte."""
    with path.open("wb", buffering=0) as file:
        for block in (2**20, 4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(block))
