"""What happens in one run. In: a seed. Out: recordings to publish, the faults meanwhile, and the daemon's settings.

A recording is one session: its payloads, and what must be published about it. All chance is here and in the seed, so
that a seed means the same run every time, but for the time that things take.
"""

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import count
from operator import attrgetter
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from bench.chaos.faults import BROKER_FAULTS, CLOCK_FAULTS, DAEMON_FAULTS, Fault, Kind, drawn, of_cluster
from transcriber.schema.messages import GapReason
from transcriber.testing.speech import SPEECH_FORMAT, load_speech

Samples = NDArray[np.int16]
Model = Literal["fake", "demo", "tiny.en"]

RATE = {"fake": 16_000, "demo": SPEECH_FORMAT.rate, "tiny.en": SPEECH_FORMAT.rate}
"""Hz; what the fake model gets must pass the resampler untouched."""

SPEED = {"fake": 20.0, "demo": 4.0, "tiny.en": 1.5}
"""Times real time."""

CLUSTER_STRETCH, CLUSTER_SPEED = 2.5, 4.0
"""A run with three brokers takes so many times as long as one with one broker, and is so many times faster than real time."""

RAMP_FLOOR, RAMP_SPAN = 330, 17_370
"""The fake model's text is the median in thousandths: from 10 to 540, below the levels at which it misbehaves."""

JITTER_FRAMES = 15
"""Less than 2 ms, which offsets may be wrong by; and less than a payload, so that they never go back."""

BEGAN_AGAIN_S = 12
"""A recording at least this long ends when its publisher's offsets begin again."""


@dataclass(frozen=True, slots=True)
class Payload:
    """One message of audio.

    Attributes:
        id: its ``Nats-Msg-Id``.
        start: place of its first frame in the session.
        due_s: seconds after the start of the run.
    """

    id: str
    data: bytes
    headers: dict[str, str]
    start: int
    due_s: float


@dataclass(frozen=True, slots=True)
class Recording:
    """One session, and the truth about it.

    Attributes:
        publisher: sends its recordings one after the other, on one stream or each on its own.
        session: its ``Audio-Session``; None: the publisher gave none.
        samples: (frames,) by the session's clock; 0 where frames were never published.
        gaps: start, length and reason of all gaps that there must be, and no others.
    """

    publisher: str
    stream: str
    session: str | None
    payloads: tuple[Payload, ...]
    samples: Samples
    gaps: tuple[tuple[int, int, GapReason], ...] = ()

    @property
    def frames(self) -> int:
        return len(self.samples)


@dataclass(frozen=True, slots=True)
class Plan:
    """One run.

    Attributes:
        name: such as ``seed-7``.
        recordings: those of one stream follow each other.
        hands: each does its faults one after the other, independently of the others.
        settings: of the daemons, named as in the environment.
        daemons: with more than one, streams are shared out among them by partitions.
        brokers: 3: a cluster, whose JetStream keeps three copies.
        command: repeats it.
    """

    name: str
    model: Model
    recordings: tuple[Recording, ...]
    hands: tuple[tuple[Fault, ...], ...]
    settings: dict[str, str]
    daemons: int = 1
    brokers: int = 1
    command: str = ""

    def undisturbed(self) -> Self:
        """The same without faults."""
        return replace(self, name=f"{self.name}-undisturbed", hands=())

    @property
    def streams(self) -> dict[str, list[Recording]]:
        """Recordings by stream, in order."""
        return self._by(attrgetter("stream"))

    @property
    def publishers(self) -> dict[str, list[Recording]]:
        """Recordings by publisher, in order."""
        return self._by(attrgetter("publisher"))

    def _by(self, name: Callable[[Recording], str]) -> dict[str, list[Recording]]:
        found: dict[str, list[Recording]] = {}
        for recording in self.recordings:
            found.setdefault(name(recording), []).append(recording)
        return found

    @property
    def audio_s(self) -> float:
        return sum(recording.frames for recording in self.recordings) / RATE[self.model]

    @property
    def kinds(self) -> set[Kind]:
        """Of all its faults."""
        return {fault.kind for hand in self.hands for fault in hand}


def from_seed(
    seed: int,
    model: Model = "fake",
    *,
    quick: bool = False,
    daemons: int = 1,
    brokers: int = 1,
    disk: bool = True,
    clock: bool = False,
) -> Plan:
    """The run of ``seed``; ``disk`` says whether a disk can be filled up here, ``clock`` whether a clock can be set back."""
    rng = random.Random(seed)
    length_s = rng.uniform(3, 4) if quick else rng.uniform(7, 12)
    if model != "fake":
        length_s *= 2.0
    number = rng.randint(1, 3)
    speed, extra = SPEED[model], {"BUFFER_DURATION_SECS": str(rng.choice((0.5, 0.75, 1.0)))} if model == "fake" else {}
    if daemons > 1:
        number, speed, extra = (12 if quick else 40), 3.0, {"BUFFER_DURATION_SECS": "1.0", "PARTITIONS": str(daemons)}
    if brokers > 1:  # elections take seconds, and each byte is stored three times
        length_s, speed = length_s * CLUSTER_STRETCH, speed * CLUSTER_SPEED / SPEED["fake"]
    publishers = [_Publisher(rng, f"s{n}", model, speed) for n in range(number)]
    if daemons == 1:  # which streams are in a part nobody can tell
        extra["MAX_STREAMS"] = str(number)
    recordings = [r for publisher in publishers for r in publisher.recordings(length_s, moves=daemons == 1)]
    slow = model == "fake" and daemons == 1  # else nobody can tell the worker, or it would never catch up
    daemon_faults = [kind for kind in DAEMON_FAULTS if slow or kind is not Kind.SLOW_WORKER]
    daemon_faults += CLOCK_FAULTS if clock else ()
    broker_faults = [kind for kind in BROKER_FAULTS if disk or kind is not Kind.DISK_FULL]
    ours = drawn(rng, daemon_faults, length_s, quick=quick)
    if brokers > 1:
        theirs = of_cluster(rng, seed, length_s, quick=quick)
        copies = 1 if Kind.REPLICAS_CHANGED in {fault.kind for fault in theirs} else brokers
        extra["STREAM_REPLICAS"] = str(copies)
    else:
        theirs = drawn(rng, broker_faults, length_s, quick=quick)
    extra["SHUTDOWN_GRACE_SECS"] = str(rng.choice((0.2, 1.0)))
    extra["FAKE_JOB_S"] = f"{rng.uniform(0.001, 0.004):.4f}"
    options = f"{' --quick' if quick else ''} --model {model} --daemons {daemons}"
    options += f" --brokers {brokers}" if brokers > 1 else ""
    command = f"python -m bench.chaos --seeds {seed}{options}"
    return Plan(f"seed-{seed}", model, tuple(recordings), (ours, theirs), extra, daemons, brokers, command)


def covering(*, disk: bool) -> Iterator[Plan]:
    """Short runs of the first seeds that together have every fault; without ``disk`` all but a full disk."""
    missing = {*DAEMON_FAULTS, *BROKER_FAULTS} - (set() if disk else {Kind.DISK_FULL})
    for seed in count():
        if not missing:
            break
        plan = from_seed(seed, quick=True, disk=disk)
        if missing & plan.kinds:
            missing -= plan.kinds
            yield plan


def steady(
    name: str, length_s: float, hand: tuple[Fault, ...], *, streams: int = 2, brokers: int = 1, **settings: str
) -> Plan:
    """Streams that last for ``length_s`` seconds, with the faults of one hand."""
    rng = random.Random(name)
    speed = SPEED["fake"] if brokers == 1 else CLUSTER_SPEED
    recordings = [_Publisher(rng, f"s{number}", "fake", speed).whole(length_s) for number in range(streams)]
    settings = {"BUFFER_DURATION_SECS": "0.5", "FAKE_JOB_S": "0.002", "STREAM_REPLICAS": str(brokers)} | settings
    command = f"python -m bench.chaos --scenario {name}"
    return Plan(name, "fake", tuple(recordings), (hand,), settings, brokers=brokers, command=command)


def fake_text(samples: Samples) -> str:
    """What the fake model transcribes in a window."""
    level = round(float(np.median(samples.astype(np.float32) / 32_768)) * 1000) if len(samples) else 0
    return str(level) if level else ""


def _ramp(rng: random.Random, frames: int) -> Samples:
    """Rises by 1 every other frame and begins again: the median gives the place of a window to about 65 frames."""
    return (RAMP_FLOOR + (np.arange(frames) // 2 + rng.randrange(RAMP_SPAN)) % RAMP_SPAN).astype(np.int16)


@cache
def _all_speech() -> Samples:
    return np.frombuffer(b"".join(recording.pcm for recording in load_speech()), "<i2")


def _speech(rng: random.Random, frames: int) -> Samples:
    """The bundled recordings, from any place on, over and over."""
    speech = _all_speech()
    return speech[(np.arange(frames) + rng.randrange(len(speech))) % len(speech)]


SOURCES: dict[Model, Callable[[random.Random, int], Samples]] = {"fake": _ramp, "demo": _speech, "tiny.en": _speech}


class _Publisher:
    """Who sends one recording after the other, and his habits."""

    def __init__(self, rng: random.Random, name: str, model: Model, speed: float) -> None:
        self._rng, self._name, self._model, self._speed = rng, name, model, speed
        self._rate = RATE[model]
        self._offsets = rng.random() < 0.5
        self._sessions = rng.random() < 0.5

    def recordings(self, length_s: float, *, moves: bool) -> list[Recording]:
        """Sessions that follow each other in ``length_s`` seconds of the run's time; if it ``moves``, perhaps each on its own stream."""
        return self._calls(length_s) if moves and self._rng.random() < 0.5 else self._sittings(length_s)

    def _calls(self, length_s: float) -> list[Recording]:
        """Two or three streams of one session each, of which one comes when the one before it has ended."""
        rng = self._rng
        number, begins_s = rng.randint(2, 3), 0.0
        recordings = []
        for call in range(number):
            ends_s = length_s * (call + rng.uniform(0.8, 1.0)) / number
            base = rng.randrange(10**6)
            stream = f"{self._name}-{call}"
            recordings.append(self._record(call, begins_s, ends_s - begins_s, base=base, says_end=True, stream=stream))
            begins_s = ends_s + rng.uniform(0, 0.1)
        return recordings

    def _sittings(self, length_s: float) -> list[Recording]:
        """Two sessions on one stream."""
        rng = self._rng
        first_s = length_s * rng.uniform(0.3, 0.7)
        long_enough = first_s * self._speed > BEGAN_AGAIN_S
        may_just_stop = self._sessions or (self._offsets and long_enough)
        says_end = not may_just_stop or rng.random() < 0.5
        base = rng.randrange(10**6) if says_end or self._sessions else 0
        first = self._record(0, 0.0, first_s, base=base, says_end=says_end)
        pause_s = rng.uniform(0, 0.5)
        base = 0 if not says_end else rng.randrange(10**6)
        return [first, self._record(1, first_s + pause_s, length_s - first_s, base=base, says_end=True)]

    def whole(self, length_s: float) -> Recording:
        """One session without a flaw."""
        return self._record(0, 0.0, length_s, base=0, says_end=True, flaws=False)

    def _record(
        self,
        number: int,
        at_s: float,
        length_s: float,
        *,
        base: int,
        says_end: bool,
        flaws: bool = True,
        stream: str | None = None,
    ) -> Recording:
        """``stream`` is its own; None: the publisher's."""
        rng, rate, session = self._rng, self._rate, f"{self._name}-{number}" if self._sessions else None
        samples = SOURCES[self._model](rng, int(length_s * self._speed * rate)).copy()
        always = {"Audio-Session": session} if session else {}
        if self._model == "fake" and rng.random() < 0.5:
            always["Content-Type"] = f"audio/x-raw;format=S16LE;rate={rate};channels=1"
        holes = self._holes(len(samples)) if flaws and self._offsets else {}
        before = {end: start for start, end in holes.items()}
        jitter = 0 if holes else rng.choice((0, 0, JITTER_FRAMES))
        bad_after = rng.choice((0.3, 0.6, 2.0)) * len(samples) if flaws else len(samples)
        payloads: list[Payload] = []
        gaps: list[tuple[int, int, GapReason]] = []

        def add(data: bytes, start: int, **headers: str) -> None:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            payload_id = f"{self._name}:{number}:{len(payloads)}"
            payloads.append(Payload(payload_id, data, always | named, start, at_s + start / rate / self._speed))

        for start, end in _cuts(rng, len(samples), rate, holes):
            offset = (
                {"Audio_Offset": str(base + start + rng.randint(0, min(jitter, end - start - 1)))}
                if self._offsets
                else {}
            )
            if start in holes:
                samples[start:end] = 0
                gaps.append((start, end - start, "lost_input"))
                continue
            # Where an offset would say nothing new it may be left out.
            if start and start not in before and rng.random() < 0.1:
                offset = {}
            if start > bad_after:
                # Nobody knows of a hole before the next payload that can be read.
                gaps.append((before.get(start, start), 0, "bad_input"))
                add(b"?", start, **offset)
                bad_after = len(samples)
            data = samples[start:end].astype("<i2").tobytes()
            add(data, start, **offset)
            if flaws and offset and rng.random() < 0.03:
                add(data, start, **offset)
            elif flaws and rng.random() < 0.03:
                add(b"", end)
        if says_end:
            offset = {"Audio_Offset": str(base + len(samples))} if self._offsets else {}
            add(b"", len(samples), Audio_End="1", **offset)
        return Recording(self._name, stream or self._name, session, tuple(payloads), samples, tuple(gaps))

    def _holes(self, frames: int) -> dict[int, int]:
        """Frames that are never published, from and to: in every other recording, one long hole or some that are bridged."""
        rng = self._rng
        if rng.random() < 0.5:
            return {}
        if rng.random() < 0.5:
            start = rng.randrange(frames // 4, frames // 2)
            return {start: start + rng.randrange(self._rate // 4, self._rate)}
        longest = self._rate // 5
        places = range(self._rate, frames - self._rate, 3 * longest)
        starts = sorted(rng.sample(places, min(5, len(places))))
        return {start: start + rng.randrange(100, longest + 1) for start in starts}


def _cuts(rng: random.Random, frames: int, rate: int, holes: Mapping[int, int]) -> Iterator[tuple[int, int]]:
    """Payloads of 1 to 400 ms, from and to; each of the ``holes`` is one of its own."""
    start = 0
    while start < frames:
        length = rng.randint(1, 200) if rng.random() < 0.05 else rng.randrange(rate // 20, rate * 2 // 5)
        reached = min(start + length, frames)
        end = holes.get(start) or min((hole for hole in holes if start < hole < reached), default=reached)
        yield start, end
        start = end
