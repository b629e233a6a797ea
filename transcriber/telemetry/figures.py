"""The metrics' values: counted here as plain numbers, read by OpenTelemetry and for the NATS message."""

from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypedDict, Unpack, get_args

from transcriber.audio.codecs.pcm_payload import IgnoredReason
from transcriber.engine.job import CPU, Device
from transcriber.schema.admin import SwapOutcome
from transcriber.schema.messages import GapReason, Latency, SkippedRevision, Suppressed
from transcriber.telemetry.card_watch import CARD_FIGURES, CardWatch
from transcriber.telemetry.instruments import BOUNDS_MS, INSTRUMENTS

MAX_STREAM_SERIES = 300
"""Streams with series of their own. With 6 reasons each they stay below the SDK's 2,000 series an instrument."""

REQUEST_CODES = ("200", "400", "413", "429", "500", "503", "504", "none")
"""Codes of answers to requests; ``none`` was sent without a reply subject."""

LABELS = {"requests": "code", "files": "outcome", "model_swaps": "outcome", "device": "device", "model": "model"}
"""The attribute that tells series of an instrument apart, where it is not ``reason``."""

Reading = Callable[[], float]


class Readings(TypedDict, total=False):
    """Sources of gauges and of counters kept elsewhere. Also called on the exporter's thread: each may only read a number.

    ``queue_resized``, ``nats_reconnects``, ``messages_malformed``, ``messages_unsent``,
    ``consumer_resets``, ``engine_restarts``, ``config_changes`` and ``busy_s`` (seconds of all workers, running jobs included) only grow.
    """

    queue_depth: Reading
    queue_capacity: Reading
    queue_resized: Reading
    buffer_size: Reading
    streams_active: Reading
    streams_stalled: Reading
    streams_fenced: Reading
    lag_s: Reading
    consumer_resets: Reading
    nats_reconnects: Reading
    messages_malformed: Reading
    messages_unsent: Reading
    busy_s: Reading
    workers: Reading
    files_running: Reading
    rtf: Reading
    engine_restarts: Reading
    config_changes: Reading
    config_refused: Reading


@dataclass(slots=True)
class Counters:
    """Counts of payloads and windows since the start. Written on the event loop only.

    Plain numbers, because an OpenTelemetry counter costs 5 us a call and each stream sends 50 payloads a
    second. An unknown reason is a ``KeyError``.
    """

    chunks_received: int = 0
    chunks_dropped: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            ("bad_input", "slow_consumer", "overlap", "contended", "too_many_streams"), 0
        )
    )
    chunks_odd: dict[str, int] = field(default_factory=lambda: dict.fromkeys(get_args(IgnoredReason), 0))
    chunks_filtered: int = 0
    flushes_empty: int = 0
    partials: int = 0
    language_changes: int = 0
    publish_retries: int = 0
    revisions: int = 0
    revisions_left_out: dict[str, int] = field(default_factory=lambda: dict.fromkeys(get_args(SkippedRevision), 0))
    speakers_left_out: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("busy", "failed"), 0))
    model_swaps: dict[str, int] = field(default_factory=lambda: dict.fromkeys(get_args(SwapOutcome), 0))
    jobs_enqueued: int = 0
    jobs_redone: int = 0
    jobs_shortened: int = 0
    jobs_dropped: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("queue_full", "engine_error", "shutdown"), 0)
    )
    text_trimmed: int = 0
    text_suppressed: dict[str, int] = field(default_factory=lambda: dict.fromkeys(get_args(Suppressed), 0))
    requests: dict[str, int] = field(default_factory=lambda: dict.fromkeys(REQUEST_CODES, 0))
    files: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("done", "failed", "cancelled"), 0))
    gaps: dict[str, int] = field(default_factory=lambda: dict.fromkeys(get_args(GapReason), 0))


class LatencyHistogram:
    """Counts of values by upper bound, since the start. Event loop only."""

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS_MS) + 1)
        self._sum_ms = 0.0
        self._max_ms = 0.0

    def record(self, value_ms: float) -> None:
        self._counts[bisect_left(BOUNDS_MS, value_ms)] += 1
        self._sum_ms += value_ms
        self._max_ms = max(self._max_ms, value_ms)

    def summary(self) -> Latency:
        count = sum(self._counts)
        return Latency(count=count, sum_ms=self._sum_ms, p50_ms=self._quantile(0.5), p95_ms=self._quantile(0.95))

    def _quantile(self, share: float) -> float | None:
        rank = share * sum(self._counts)
        below = 0
        for count, bound_ms in zip(self._counts, (*BOUNDS_MS, self._max_ms), strict=True):
            below += count
            if count and below >= rank:
                return bound_ms
        return None


class BusyFraction:
    """Share of the workers' time spent on jobs, between two calls of this object: 0 to 1.

    Every reader has its own, so that readers do not shorten each other's intervals.
    """

    def __init__(self, readings: Readings, clock: Callable[[], float]) -> None:
        self._readings, self._clock = readings, clock
        self._at_s, self._busy_s, self._fraction = clock(), _read(readings, "busy_s"), 0.0

    def __call__(self) -> float:
        at_s, busy_s = self._clock(), _read(self._readings, "busy_s")
        capacity_s = (at_s - self._at_s) * max(1, _read(self._readings, "workers"))
        if capacity_s > 0:
            self._fraction = min(1.0, max(0.0, (busy_s - self._busy_s) / capacity_s))
            self._at_s, self._busy_s = at_s, busy_s
        return self._fraction


class Figures:
    """Everything in ``INSTRUMENTS``. Written on the event loop; ``points`` may be read from any thread.

    Attributes:
        device: source of what whisper runs on.
        model: source of the name of the model that is loaded; empty: none yet.
        card: the GPU that is watched, if any.
    """

    def __init__(self, *, per_stream: bool, clock: Callable[[], float]) -> None:
        self.latencies = {i.key: LatencyHistogram() for i in INSTRUMENTS if i.kind == "histogram"}
        self._per_stream, self._clock = per_stream, clock
        self._shared = Counters()
        self._streams: dict[str, Counters] = {}
        self._readings: Readings = {}
        self.device: Callable[[], Device] = lambda: CPU
        self.model: Callable[[], str] = str
        self.card: CardWatch | None = None

    def counters(self, stream: str | None) -> Counters:
        """The counters of ``stream``, or the shared ones: without a stream, by default, and beyond the limit.

        A stream keeps its counters: series that end or start again would break sums and rates.
        """
        if not self._per_stream or stream is None:
            return self._shared
        if stream not in self._streams and len(self._streams) < MAX_STREAM_SERIES:
            self._streams[stream] = Counters()
        return self._streams.get(stream, self._shared)

    def attributes(self, stream: str) -> dict[str, str]:
        """The attributes of a value of ``stream``."""
        return {"stream": stream} if stream in self._streams else {}

    def observe(self, **readings: Unpack[Readings]) -> None:
        self._readings.update(readings)

    def busy_fraction(self) -> BusyFraction:
        """A busy fraction for one more reader."""
        return BusyFraction(self._readings, self._clock)

    def points(self, key: str, busy: BusyFraction) -> Iterator[tuple[float, dict[str, str]]]:
        """Values and attributes of one counter or gauge at this moment; ``busy`` is the reader's. None of what is not known."""
        if key == "worker_busy":
            yield busy(), {}
        elif key == "device":
            device = self.device()
            attributes = {"device": device.name, "description": device.description, "reason": device.reason}
            yield 1, {name: value for name, value in attributes.items() if value}
        elif key == "model":
            if name := self.model():
                yield 1, {"model": name}
        elif key in CARD_FIGURES:
            yield from self.card.points(key) if self.card else ()
        elif key not in Counters.__slots__:
            yield _read(self._readings, key), {}
        else:
            # The copy is atomic in the interpreter; the loop may add streams meanwhile.
            streams = self._streams.copy()
            for counters, attributes in ((self._shared, {}), *((c, {"stream": s}) for s, c in streams.items())):
                value = getattr(counters, key)
                if isinstance(value, dict):
                    label = LABELS.get(key, "reason")
                    yield from ((count, {**attributes, label: name}) for name, count in value.items())
                else:
                    yield value, attributes


def _read(readings: Readings, key: str) -> float:
    """The value of that source; 0 without one."""
    reading: Reading | None = readings.get(key)  # type: ignore[assignment]  # a TypedDict asked by a variable
    return reading() if reading else 0
