"""Where a soak takes place. In: a model. Out: a broker behind a bad network, two daemons and a gateway, all watched."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from random import Random
from typing import ClassVar, TypeVar

from nats.aio.client import Client
from nats.aio.msg import Msg

from bench.chaos import file_run, world
from bench.chaos.daemons import Daemon, last_words, until
from bench.chaos.faults import Fault
from bench.chaos.file_run import Client as FileClient
from bench.chaos.one_broker import OneBroker
from bench.chaos.plan import SPEED, Model, Recording
from bench.lib.daemon import PLAIN
from bench.lib.ports import free_port
from bench.lib.staged import Staged
from bench.soak.holdings import Counts, Watched, broker_counts
from transcriber.bus.connection import Connection
from transcriber.bus.jetstream.client import JetStream
from transcriber.config import Settings, load_settings
from transcriber.schema.messages import ANY_MESSAGE, AnyMessage, Metrics

METRICS_S = 0.2
Result = TypeVar("Result")

REST_S = 20.0
"""For the counts to become what they are at rest."""

PATIENCE_S = 90.0
"""For what must come, on a busy machine."""

LIVE_SUBJECT, CAPTIONS = "live", "captions"
"""What the live daemon takes, and where it publishes; the other one stores ``audio.*`` and ``transcripts.*``."""

DAEMONS = "live", "durable"

MODELS = "soak-a", "soak-b"
"""Other names of the model, for swaps."""

_LIVE = {
    "AUDIO_SUBJECT": f"{LIVE_SUBJECT}.*",
    "TRANSCRIPT_SUBJECT_PREFIX": CAPTIONS,
    "SERVICE": "0",
    # A busy machine's publishers are late.
    "HEARTBEAT_TIMEOUT_SECS": "60",
    "STREAM_IDLE_SECS": "120",
}
_DURABLE = (
    world.SETTINGS
    | file_run.SETTINGS
    | {"DURABLE": "1", "FAKE_WORD_S": "0", "BUFFER_DURATION_SECS": "0.75", "FAKE_JOB_S": "0.002"}
)
_FAKE = PLAIN | {"INPUT_SAMPLE_RATE": "16000"}


class WatchedDaemon(Daemon):
    """A module and its arguments, as ``python -m`` runs them, watched.

    Attributes:
        url: where it answers HTTP.
    """

    arguments: ClassVar[tuple[str, ...]] = ("-m", "bench.lib.watched")

    def __init__(self, command: str, url: str, folder: Path, name: str, settings: dict[str, str]) -> None:
        file = folder / f"{name}.json"
        super().__init__(
            url, folder / f"{name}.log", settings | {"WATCHED_COMMAND": command, "WATCHED_FILE": str(file)}
        )
        self._port = free_port()
        self._environment |= dict.fromkeys(("HEALTH_PORT", "GATEWAY_PORT"), str(self._port))
        self.url = f"http://127.0.0.1:{self._port}"
        self.watched = Watched(self, file)


@dataclass(slots=True)
class Tally:
    """What was done, and what was wrong.

    Attributes:
        done: how many of each kind.
        audio_s: seconds of audio in sessions, files and clips.
    """

    done: Counts = field(default_factory=dict)
    audio_s: float = 0.0
    errors: list[str] = field(default_factory=list)

    def count(self, kind: str, audio_s: float = 0.0, times: int = 1) -> None:
        self.done[kind] = self.done.get(kind, 0) + times
        self.audio_s += audio_s


@dataclass(slots=True)
class Shelf:
    """What we have stored in this round, and what results must be.

    Attributes:
        jobs: to which file each belongs, by its number; None: one without a result to compare.
        results: documents of each file, as they were the first time.
        frames: of each encoded recording, by its first bytes, as they were the first time.
        broken_uploads: of this round, that were repeated.
        cleared_at: when the round before ended, and no file was left.
    """

    jobs: dict[str, int | None] = field(default_factory=dict)
    results: dict[int, list[bytes]] = field(default_factory=dict)
    recordings: list[Recording] = field(default_factory=list)
    frames: dict[bytes, int] = field(default_factory=dict)
    broken_uploads: int = 0
    cleared_at: datetime | None = None


class Site(Staged):
    """As long as the ``async with`` block lasts. Event loop only.

    Attributes:
        client, connection: ours, which no fault of the network touches; the broker's death does. nats-py's own client might read no more.
        files: submits them.
        captions: what came of live streams, by stream, until somebody takes it.
        faults: how many were done.
        calm: set unless one is under way.
    """

    client: Client
    connection: Connection
    settings: Settings
    files: FileClient

    def __init__(self, folder: Path, model: Model) -> None:
        super().__init__()
        self.model, self.speed = model, SPEED[model]
        self.tally, self.shelf = Tally(), Shelf()
        self.captions: dict[str, list[AnyMessage]] = {}
        self.processes: dict[str, WatchedDaemon] = {}
        self.faults = 0
        self.calm = asyncio.Event()
        self.calm.set()
        self._folder = folder
        self._broker = OneBroker(folder, disk=False)
        self._metrics: dict[str, int] = {}
        self._reconnects: dict[str, int] = {}

    async def _enter(self) -> None:
        await self._stack.enter_async_context(self._broker)
        url = self._broker.daemon_url
        fake = self.model == "fake"
        serve = "transcriber serve"
        live = "bench.lib.daemon" if fake else serve
        durable = "transcriber.testing.fake_daemon" if fake else serve
        own = {
            "METRICS_NATS_SECS": str(METRICS_S),
            "WHISPER_MODEL": "demo",
            "LOG_FORMAT": "json",
            "OMP_NUM_THREADS": "1",
        }
        self._start("durable", durable, url, _DURABLE | (_FAKE if fake else {"FILE_WINDOW_SECS": "25"}) | own)
        self._start("live", live, url, _LIVE | own)
        self._start("gateway", "transcriber gateway", self._broker.urls[0], own)
        self.settings = load_settings(nats_url=self._broker.urls[0])
        self.connection = Connection()
        await self.connection.open(self.settings, "soak")
        self._stack.push_async_callback(self.connection.close)
        self.client = self.connection.client
        await self.client.subscribe("transcriber.metrics.*", cb=self._note)
        self.files = FileClient(self.connection, self.settings.nats_url)
        await self.client.subscribe(f"{CAPTIONS}.*.*", cb=self._take)
        watching = asyncio.create_task(self.connection.watch())
        self._stack.callback(watching.cancel)
        for name, process in self.processes.items():
            async with asyncio.timeout(PATIENCE_S):
                if not await process.ready():
                    raise SystemExit(f"{name}: {last_words(process)}")

    def _start(self, name: str, command: str, url: str, settings: dict[str, str]) -> None:
        process = self.processes[name] = WatchedDaemon(command, url, self._folder, name, settings)
        process.start()
        self._stack.callback(process.close)
        self._stack.callback(process.kill)

    async def disturb(self, fault: Fault) -> None:
        """Let something happen to the broker or on the way to it; over when both daemons publish and receive again."""
        self.faults += 1
        self.calm.clear()
        try:
            await self._broker.do(fault)
            await self.settled()
            await self.heard()
        finally:
            self.calm.set()

    async def heard(self) -> None:
        """Wait until each daemon has published its metrics twice more.

        What one publishes after it has connected again comes behind its subscriptions, and says that it has.
        """
        before, now = dict(self._metrics), self._metrics
        await self.until(
            lambda: len(now) == len(DAEMONS) and all(now[name] > before.get(name, 0) + 1 for name in now), "the daemons"
        )

    @property
    def reconnects(self) -> int:
        """Of the daemons, as far as they have said, and of ours: a busy machine's broker may be silent for too long."""
        return sum(self._reconnects.values()) + self.connection.reconnects

    async def settled(self) -> None:
        """Wait until the broker has all of ours, and we have all of its; nats-py's first PING overtakes what is queued."""
        for _ in range(2):
            await self.until_done(self.client.flush)

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for ``condition()``.

        Raises:
            TimeoutError: it did not come.
        """
        if not await until(condition, PATIENCE_S):
            raise TimeoutError(f"waited {PATIENCE_S:.0f} s in vain for {what}")

    async def until_done(self, attempt: Callable[[], Coroutine[object, object, Result]]) -> Result:
        """Try until the broker is there for it."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                with contextlib.suppress(Exception):  # whatever a broker that dies makes of it
                    return await attempt()
                await asyncio.sleep(0.1)

    async def rest(self) -> Counts:
        """The counts once nothing moves, memory apart."""
        deadline_s, before = time.monotonic() + REST_S, dict[str, int]()
        while True:
            counts = await self._counts()
            moving = {name for name in counts if bare(name) not in _NOISY and counts[name] != before.get(name)}
            if not moving or time.monotonic() > deadline_s:
                return counts
            before = counts
            await asyncio.sleep(2 * METRICS_S)

    async def _counts(self) -> Counts:
        found = await broker_counts(JetStream(self.connection))
        for name, process in self.processes.items():
            found |= {f"{name}.{key}": count for key, count in (await process.watched.counts()).items()}
        return found

    async def end(self) -> None:
        """Stop the daemons in order; what went wrong is an error, and so is a warning of a task that was lost."""
        for name, process in self.processes.items():
            if not process.running:
                self.tally.errors.append(f"{name} ended by itself: {last_words(process)}")
            elif error := await process.end():
                self.tally.errors.append(f"{name}: {error}")
            log = (self._folder / f"{name}.log").read_text(errors="replace")
            self.tally.errors += [f"{name}: {odd}" for odd in _ODD if odd in log]

    async def _note(self, message: Msg) -> None:
        metrics = Metrics.model_validate_json(message.data)
        self._metrics[metrics.instance] = self._metrics.get(metrics.instance, 0) + 1
        reconnects = metrics.metrics["transcriber.nats.reconnects"]
        self._reconnects[metrics.instance] = reconnects if isinstance(reconnects, int) else 0

    async def _take(self, message: Msg) -> None:
        parsed = ANY_MESSAGE.validate_json(message.data)
        self.captions.setdefault(parsed.stream, []).append(parsed)


Action = Callable[[Site, Random, str, float], Coroutine[object, object, None]]
"""Does something for about so many seconds: with a site, chance, a name that nobody else has, seconds."""

_NOISY = {"rss_kb", "pss_kb", "objects"}
_ODD = "Traceback", "never retrieved", "was never awaited", "ResourceWarning"


def bare(name: str) -> str:
    """``threads`` of ``live.threads``."""
    return name.rpartition(".")[2]
