"""What faults act upon: daemons that are restarted when they end, and the brokers they are connected to.

As in a cluster: a daemon that ends by itself is started again, and a broker that died comes back with the same disk.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from bench.chaos.daemons import COULD_NOT_START, Clock, Daemon, FakeDaemon, last_words
from bench.chaos.faults import Fault, Kind
from bench.chaos.one_broker import Brokers
from bench.chaos.plan import Model
from bench.lib.daemon import PLAIN
from bench.lib.staged import Staged

AUDIO, TEXT = "AUDIO", "TRANSCRIPTS"

READY_S = 10.0
"""For a new daemon to become ready; the run continues without it."""

SLOW_JOB_S = 0.3
SET_BACK_S = 3600.0
"""By how much a clock is set back at most."""

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


class World(Staged):
    """As long as the ``async with`` block lasts.

    Attributes:
        faults: how many of each kind were done.
        history: what was done, and when.
    """

    def __init__(
        self, folder: Path, model: Model, settings: dict[str, str], brokers: Brokers, *, daemons: int = 1, clock: bool
    ) -> None:
        """``clock``: the daemons' clock can be set back."""
        super().__init__()
        self.faults: Counter[Kind] = Counter()
        self._restarts = 0
        self._errors: list[str] = []
        self.history: list[str] = []
        self._began_s = time.monotonic()
        self._folder = folder
        self._brokers = brokers
        self._clock = Clock(folder / "clock") if clock else None
        self._job_file = folder / "job_s"
        self._job_s = settings.get("FAKE_JOB_S", "0")
        self._class = FakeDaemon if model == "fake" else Daemon
        real = {"WHISPER_MODEL": model, "WHISPER_MODEL_PATH": ""}
        self._settings = SETTINGS | (PLAIN | {"INPUT_SAMPLE_RATE": "16000"} if model == "fake" else real) | settings
        self._settings |= {"FAKE_JOB_FILE": str(self._job_file)} | (self._clock.environment if self._clock else {})
        parts = [{"PARTITION": str(part)} for part in range(daemons)] if daemons > 1 else [{}]
        self._parts = parts
        self._slots: list[list[Daemon]] = [[] for _ in parts]  # daemons that must live
        self._all: list[Daemon] = []

    async def _enter(self) -> None:
        self.set_job_s(self._job_s)
        await self._stack.enter_async_context(self._brokers)
        self._stack.callback(self._kill_all)
        self._provision()
        for slot in range(len(self._slots)):
            await self._ready(self._start(slot))
        self._began_s = time.monotonic()

    @property
    def urls(self) -> list[str]:
        """The brokers, without the bad network."""
        return self._brokers.urls

    @property
    def restarts(self) -> int:
        """Daemons and brokers started again."""
        return self._restarts + self._brokers.restarts

    @property
    def errors(self) -> list[str]:
        """What no fault excuses: daemons that crash, or do not end on SIGTERM; brokers whose copies stay incomplete."""
        return self._errors + self._brokers.errors

    async def supervise(self) -> None:
        """Start daemons again that end by themselves, until cancelled."""
        while True:
            await asyncio.sleep(_POLL_S)
            for slot, daemons in enumerate(self._slots):
                for daemon in [d for d in daemons if not d.running and not d.expected_to_end]:
                    daemons.remove(daemon)
                    what = f"a daemon ended by itself, status {daemon.process.returncode}: {last_words(daemon)}"
                    self._note(what)
                    if daemon.process.returncode != COULD_NOT_START:
                        self._errors.append(what)
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
                self.set_job_s(str(SLOW_JOB_S))
                await asyncio.sleep(fault.hold_s)
                self.set_job_s(self._job_s)
            case Kind.CLOCK_SET_BACK if self._clock:
                self._clock.set_back(fault.chance * SET_BACK_S)
                await asyncio.sleep(fault.hold_s)
                self._clock.set_back(0.0)
            case _:
                await self._brokers.do(fault)
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

    def set_job_s(self, seconds: str) -> None:
        """For daemons that read it meanwhile: never half written."""
        fresh = self._job_file.with_suffix(".new")
        fresh.write_text(seconds)
        fresh.replace(self._job_file)

    def _provision(self) -> None:
        """A cluster's job makes the streams; one daemon alone does it itself."""
        if len(self._slots) > 1:
            environment = os.environ | self._settings | {"NATS_URL": ",".join(self.urls)}
            command = [sys.executable, "-m", "transcriber", "provision"]
            subprocess.run(command, env=environment, check=True, capture_output=True)

    def _start(self, slot: int) -> Daemon:
        log = self._folder / f"daemon-{len(self._all)}.log"
        daemon = self._class(self._brokers.daemon_url, log, self._settings | self._parts[slot])
        daemon.start()
        self._all.append(daemon)
        self._slots[slot].append(daemon)
        return daemon

    def _restart(self, slot: int) -> Daemon:
        self._restarts += 1
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
            self._errors.append(error)

    def _kill_all(self) -> None:
        for daemon in self._all:
            daemon.kill()
            daemon.close()

    def _note(self, what: str) -> None:
        self.history.append(f"{time.monotonic() - self._began_s:6.2f} s  {what}")
