"""One broker on its own disk, and the bad network before it. In: faults. Out: the same broker, repaired."""

import asyncio
import contextlib
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, Self

from bench.chaos.faults import Fault, Kind
from bench.lib.ports import free_port
from bench.lib.staged import Staged
from transcriber.testing.broker import EmbeddedBroker
from transcriber.testing.faulty_proxy import FaultyProxy

DISK_BYTES = 256 * 2**20


class Brokers(Protocol):
    """What JetStream runs on, as long as the ``async with`` block lasts: a broker, or three.

    Attributes:
        restarts: brokers started again.
        errors: what no fault excuses.
    """

    restarts: int
    errors: list[str]

    @property
    def urls(self) -> list[str]:
        """Of the brokers, without the bad network."""
        ...

    @property
    def daemon_url(self) -> str:
        """What a daemon connects to, through the bad network."""
        ...

    async def do(self, fault: Fault) -> None:
        """Let it happen, and repair it."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *_: object) -> None: ...


class OneBroker(Staged):
    """A broker, whose disk can be filled up if ``disk``. Event loop only."""

    def __init__(self, folder: Path, *, disk: bool) -> None:
        super().__init__()
        self.restarts = 0
        self.errors: list[str] = []
        self._folder, self._store, self._disk = folder, folder / "store", disk

    @property
    def urls(self) -> list[str]:
        return [self._broker.url]

    @property
    def daemon_url(self) -> str:
        return self._proxy.url

    async def _enter(self) -> None:
        self._store.mkdir()
        if self._disk:
            self._stack.enter_context(_small_disk(self._store))
        self._start(free_port())  # it comes back there
        self._stack.callback(self._stop)
        self._proxy = await self._stack.enter_async_context(FaultyProxy(self._broker.port))

    async def do(self, fault: Fault) -> None:
        """As ``Brokers.do``."""
        match fault.kind:
            case Kind.BROKER_KILLED:
                await self._restart(fault.hold_s)
            case Kind.BROKER_FROZEN:
                self._broker.process.send_signal(signal.SIGSTOP)
                await asyncio.sleep(fault.hold_s)
                self._broker.process.send_signal(signal.SIGCONT)
            case Kind.DISK_FULL:
                ballast = self._store / "ballast"
                _fill(ballast)
                await asyncio.sleep(fault.hold_s)
                ballast.unlink()
                await self._restart(0.0)
            case _:
                await spoil(self._proxy, fault)

    def _start(self, port: int) -> None:
        log = str(self._folder / "broker.log")
        self._broker = EmbeddedBroker("--jetstream", "--store_dir", str(self._store), "--log", log, port=port)
        self._broker.start()

    def _stop(self) -> None:
        """The one that there is by then."""
        self._broker.stop()

    async def _restart(self, away_s: float) -> None:
        """Kill it, and bring it back on its port and its disk."""
        port = self._broker.port
        self._broker.process.kill()
        self._broker.stop()
        await asyncio.sleep(away_s)
        self._start(port)
        self.restarts += 1


async def spoil(proxy: FaultyProxy, fault: Fault) -> None:
    """Let a fault of the network happen to what goes through ``proxy``, and repair it."""
    match fault.kind:
        case Kind.CONNECTION_CUT:
            await proxy.cut()
        case Kind.CONNECTION_HUNG:
            proxy.black_hole(True)
            await asyncio.sleep(fault.hold_s)
            proxy.black_hole(False)
        case Kind.CONNECTION_SLOW:
            proxy.delay_s = 0.05 + 0.2 * fault.chance
            await asyncio.sleep(fault.hold_s)
            proxy.delay_s = 0.0
        case _:
            raise ValueError(f"{fault.kind} is no fault of a network")


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
