"""Where somebody speaks: a cheap look at the energy, and where that is not sure that nobody does, a network.

In: one channel of one uninterrupted run at 16 kHz, in pieces of any size. Out: for every frame of 32 ms its power and how
likely it holds speech. The frames do not depend on how the run was sliced.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from transcriber.audio.resampler import TARGET_SAMPLE_RATE

FRAME_SAMPLES = 512
"""32 ms at 16 kHz."""

CONTEXT_SAMPLES = 64
"""What the network hears of the frame before."""

PRE_ROLL_FRAMES = 10
"""What the network hears of the time before it woke: it needs some sound to judge by, and energy notices speech late."""

PAST_SAMPLES = PRE_ROLL_FRAMES * FRAME_SAMPLES + CONTEXT_SAMPLES

HANG_OVER_FRAMES = 31
"""How long the network goes on after the last rise of energy: 1 s, so that it sees the ends of speech and short pauses."""

FIRST_FRAMES = 31
"""In the first second of a run everything is a rise, for nobody knows yet how loud its noise is."""

SILENCE = 1e-8
"""Mean square, -80 dBFS: what is not above it is silence, whatever came before."""

RISE = 1.6
"""2 dB above the noise floor; noise and hum alone stay below it, words at 0 dB SNR do not (``bench/gate.py``)."""

LOUD, MAX_GAIN = 0.01, 10**1.5
"""The network is sure of speech that is loud: it hears a quiet run up to 30 dB louder, its loudest frames at -20 dBFS."""

FADE = 0.993
"""How far the loudest frame of a run still counts one frame later: 1 dB less after a second, so that pauses stay quiet."""

MEAN_FRAMES = 3
GROUP_FRAMES, GROUPS = 8, 12
"""The noise floor is the least mean of ``MEAN_FRAMES`` in the last 12 groups of 8 frames, 3 s: longer than a breath."""

MIN_SPEECH_FRAMES = 3
"""So many frames of a window must hold speech, some 0.1 s: a click is shorter."""

SURE_FRAMES = 10
PULSE_SAMPLES = 64
"""4 ms: within that time an offset, hum and rumble hardly change; speech does."""


class State(NamedTuple):
    """What a network remembers of one stream: two (1, 1, 128) float32, not to be written to."""

    hidden: NDArray[np.float32]
    cell: NDArray[np.float32]


class Network(Protocol):
    """Tells how likely rows of 64 + 512 samples hold speech; ``Silero`` is one."""

    def new_state(self) -> State: ...

    def __call__(self, rows: NDArray[np.float32], state: State) -> tuple[NDArray[np.float32], State]: ...


class Frames(NamedTuple):
    """Consecutive frames of a run.

    Attributes:
        power: (n,) float32, mean square.
        speech: (n,) float32 in [0, 1], how likely there is speech; 0 where energy alone says that there is none.
    """

    power: NDArray[np.float32]
    speech: NDArray[np.float32]


class SpeechDetector:
    """One channel of one uninterrupted run. Whether the network hears a frame depends on the run up to it, and on no slice."""

    __slots__ = ("_energy", "_network", "_past", "_rest", "_state")

    def __init__(self, network: Network) -> None:
        self._network = network
        self._energy = EnergyGate()
        # Context and pre-roll, before the rest. It begins short: the network takes made-up silence, and a hum that
        # sets in after it, for speech.
        self._past = np.zeros(CONTEXT_SAMPLES, np.float32)
        self._rest = np.empty(0, np.float32)  # less than a frame
        self._state: State | None = None  # None while the network rests

    def push(self, samples: NDArray[np.float32]) -> Frames:
        """Feed (n,) float32 in [-1, 1] at 16 kHz; returns the frames that they complete, perhaps none."""
        count = (len(self._rest) + len(samples)) // FRAME_SAMPLES
        if not count:
            self._rest = np.concatenate((self._rest, samples))
            return Frames(np.empty(0, np.float32), np.empty(0, np.float32))
        audio = np.concatenate((self._past, self._rest, samples))
        end = len(self._past) + count * FRAME_SAMPLES
        fresh = audio[len(self._past) : end].reshape(count, FRAME_SAMPLES)
        power = np.einsum("ij,ij->i", fresh, fresh) / np.float32(FRAME_SAMPLES)
        speech = np.zeros(count, np.float32)
        known = len(self._past) // FRAME_SAMPLES
        gains = self._energy.push(power.tolist(), _moving(fresh, power).tolist())
        for first, last in _runs(gains):
            if gains[first]:
                speech[first:last] = self._hear(audio, known + first, gains[first:last])
            else:
                self._state = None
        self._rest = audio[end:].copy()
        self._past = audio[max(0, end - PAST_SAMPLES) : end].copy()
        return Frames(power, speech)

    def flush(self) -> Frames:
        """The last frame, filled up with zeros, if any samples remain. Nothing may be pushed after it."""
        missing = -len(self._rest) % FRAME_SAMPLES
        return self.push(np.zeros(missing, np.float32))

    def _hear(self, audio: NDArray[np.float32], first: int, gains: list[float]) -> NDArray[np.float32]:
        """Frames of ``audio``, which begins with the context of its frame 0, by the network: one for each of ``gains``."""
        begin, last, state = first, first + len(gains), self._state
        if state is None:
            begin, state = max(0, first - PRE_ROLL_FRAMES), self._network.new_state()
            gains = [gains[0]] * (first - begin) + gains
        start, end = begin * FRAME_SAMPLES, last * FRAME_SAMPLES
        contexts = audio[start:end].reshape(-1, FRAME_SAMPLES)[:, :CONTEXT_SAMPLES]
        frames = audio[start + CONTEXT_SAMPLES : end + CONTEXT_SAMPLES].reshape(-1, FRAME_SAMPLES)
        rows = np.concatenate((contexts, frames), axis=1)
        rows *= np.array(gains, np.float32)[:, np.newaxis]
        speech, self._state = self._network(rows, state)
        return speech[first - begin :]


class EnergyGate:
    """Opens where the energy rises above the noise of the last seconds, which it learns as it goes."""

    __slots__ = ("_frames", "_hang_over", "_last", "_least", "_loudest", "_lows")

    def __init__(self) -> None:
        self._frames = 0
        self._hang_over = 0
        self._last: deque[float] = deque(maxlen=MEAN_FRAMES)
        self._least = float("inf")  # of the open group
        self._lows: deque[float] = deque(maxlen=GROUPS)
        self._loudest = 0.0

    def push(self, powers: Iterable[float], moving: Iterable[float]) -> list[float]:
        """For the next frames, by their power and that of what moves in them: the gain at which they are worth hearing.

        It is 0 where there is surely no speech.
        """
        gains = []
        for power, moved in zip(powers, moving, strict=True):
            self._loudest = max(power, FADE * self._loudest)
            gain = min(MAX_GAIN, max(1.0, (LOUD / max(self._loudest, SILENCE)) ** 0.5))
            gains.append(gain if self._open(moved) else 0.0)
        return gains

    def _open(self, power: float) -> bool:
        """Whether there may be speech in the next frame."""
        # Scalars: three frames at a time come live, and for so few an array costs more.
        self._last.append(power)
        mean = sum(self._last) / len(self._last)
        self._least = min(self._least, mean)
        floor = max(SILENCE, min(self._least, min(self._lows, default=self._least)))
        unknown = self._frames < FIRST_FRAMES and mean > SILENCE
        if unknown or mean > RISE * floor:
            self._hang_over = HANG_OVER_FRAMES
        else:
            self._hang_over -= self._hang_over > 0
        self._frames += 1
        if self._frames % GROUP_FRAMES == 0:
            self._lows.append(self._least)
            self._least = float("inf")
        return self._hang_over > 0


def has_speech(speech: NDArray[np.float32], threshold: float) -> bool:
    """Whether a window with these frames, (n,) float32 in [0, 1], holds words that are worth whisper's time."""
    return bool(np.count_nonzero(speech >= threshold) >= MIN_SPEECH_FRAMES)


def speech_seconds(speech: NDArray[np.float32], threshold: float) -> float:
    """Seconds of these frames, (n,) float32 in [0, 1], that hold speech."""
    return float(np.count_nonzero(speech >= threshold)) * FRAME_SAMPLES / TARGET_SAMPLE_RATE


def speech_probability(speech: NDArray[np.float32]) -> float:
    """How surely there is speech in these frames, (n,) float32: the mean of the surest third of a second, in [0, 1]."""
    surest = np.sort(speech)[-SURE_FRAMES:]
    return float(surest.mean()) if len(surest) else 0.0


def _moving(frames: NDArray[np.float32], power: NDArray[np.float32]) -> NDArray[np.float32]:
    """Power of (n, 512) frames around the mean of every 4 ms, (n,): offset, hum and rumble count little."""
    means = frames.reshape(-1, FRAME_SAMPLES // PULSE_SAMPLES, PULSE_SAMPLES).mean(axis=2)
    moving: NDArray[np.float32] = power - np.einsum("ij,ij->i", means, means) / np.float32(means.shape[1])
    return moving


def _runs(gains: list[float]) -> Iterator[tuple[int, int]]:
    """Stretches of frames that are all heard or all not, as (first, last + 1)."""
    changes = [i for i in range(1, len(gains)) if bool(gains[i]) != bool(gains[i - 1])]
    return pairwise([0, *changes, len(gains)])
