"""Dialogues as the daemon labels them: window by window, again in its second pass, and as a file.

In: samples, a labeller. Out: turns of each way, in seconds from the first sample. Windows are cut as the daemon cuts them in its
defaults, the network that hears speech included; nothing is transcribed, as turns do not depend on text.
"""

import hashlib
import pickle
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.lib.offline import part_of
from bench.lib.recordings import Recording, Samples
from bench.lib.voices.annotated import Turn
from bench.lib.windows import events_of
from transcriber.audio.session import Silence, Window
from transcriber.audio.vad.detector import Network
from transcriber.config import Settings
from transcriber.diarization.file_labeller import FileLabeller
from transcriber.diarization.live_labeller import LiveLabeller
from transcriber.diarization.pieces import Networks
from transcriber.diarization.voices import KnownVoices, VoiceTurn
from transcriber.engine.job import WHISPER_SAMPLE_RATE
from transcriber.engine.transcript import Transcript
from transcriber.pipeline.passages import Part, Passage, Passages, audio_of

Answer = tuple[Any, float]
"""Of a network, and what it took: seconds of a processor."""

PIECE = 10 * WHISPER_SAMPLE_RATE
"""Samples in which a file comes."""

NO_TEXT = Transcript("", None, None, None, None, 0.0)


class WindowLabels(NamedTuple):
    """A window, in seconds from the first sample, and what labelling it took: seconds of a processor."""

    start_s: float
    end_s: float
    labelled_s: float


@dataclass(slots=True)
class Live:
    """One session.

    Attributes:
        first: turns as first published, each cut to its window.
        revised: those that stand after the second pass.
        windows: those with speech, in order.
        known: the voices known at the end.
        revised_s: what labelling passages took, in seconds of a processor.
        processor_s: a clock of them.
    """

    first: list[Turn] = field(default_factory=list)
    revised: list[Turn] = field(default_factory=list)
    windows: list[WindowLabels] = field(default_factory=list)
    known: KnownVoices = ()
    revised_s: float = 0.0
    processor_s: Callable[[], float] = time.thread_time


class RememberingNetworks:
    """Networks, and what they answered to the same samples before, so that another way to label is tried in a fraction of the time."""

    def __init__(self, networks: Networks, store: Path | None) -> None:
        self._networks, self._store = networks, store
        self._saved_s = 0.0
        self._known: dict[tuple[str, str], Answer] = {}
        if store and store.exists():
            self._known = pickle.loads(store.read_bytes())  # noqa: S301 - our own

    def activity(self, samples: Samples) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = self._answer("activity", self._networks.activity, samples)
        return found

    def voice(self, samples: Samples) -> Samples:
        found: Samples = self._answer("voice", self._networks.voice, samples)
        return found

    def processor_s(self) -> float:
        """A clock for this thread: it counts what an answer took whenever it was computed."""
        return time.thread_time() + self._saved_s

    def keep(self) -> None:
        if self._store:
            self._store.write_bytes(pickle.dumps(self._known))

    def _answer(self, name: str, network: Callable[[Samples], Any], samples: Samples) -> Any:
        if not self._store:
            return network(samples)
        key = name, hashlib.sha256(samples.tobytes()).hexdigest()
        if key in self._known:
            self._saved_s += self._known[key][1]
        else:
            started_s = time.thread_time()
            answer = network(samples)
            self._known[key] = answer, time.thread_time() - started_s
        return self._known[key][0]


def live(
    samples: Samples,
    labeller: LiveLabeller,
    settings: Settings,
    gate: Network,
    processor_s: Callable[[], float] = time.thread_time,
) -> Live:
    """The session of ``samples``, (n,) float32 at 16 kHz, by a clock of processor time."""
    found, passages = Live(processor_s=processor_s), Passages(WHISPER_SAMPLE_RATE)
    again: list[tuple[float, float, list[Turn]]] = []
    for event, _ in events_of(Recording("dialogue", "", samples), settings, gate):
        match event:
            case Window():
                _follow(found, event, labeller)
                whole = passages.add(part_of(event, NO_TEXT))
            case Silence():
                whole = passages.add(Part.of_silence(event))
            case _:
                whole = passages.gap(event.start_frame, event.frames)
        again += [_look_back(found, passage, labeller) for passage in whole]
    again += [_look_back(found, passage, labeller) for passage in passages.end()]
    # A window that is in no passage keeps its first labels.
    kept = found.first
    for start_s, end_s, _ in again:
        kept = [part for turn in kept for part in _outside(turn, start_s, end_s)]
    found.revised = sorted([*kept, *(turn for *_, turns in again for turn in turns)], key=lambda turn: turn[1])
    return found


def whole_file(
    samples: Samples, networks: Networks, processor_s: Callable[[], float] = time.thread_time
) -> tuple[list[Turn], float]:
    """Turns of a file, and the seconds of a processor that they took."""
    started_s = processor_s()
    labeller = FileLabeller(networks)
    for at in range(0, len(samples), PIECE):
        labeller.push(samples[at : at + PIECE], at)
    turns = list(_clipped(labeller.turns(), 0.0, 0.0, len(samples) / WHISPER_SAMPLE_RATE))
    return turns, processor_s() - started_s


def resident_mb() -> float:
    """Memory of this process."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 1e6


def _follow(found: Live, window: Window, labeller: LiveLabeller) -> None:
    start_s = window.start_frame / WHISPER_SAMPLE_RATE
    end_s = start_s + window.frames / WHISPER_SAMPLE_RATE
    cut, started_s = window.cut, found.processor_s()
    labelled = labeller.follow(cut.samples, cut.lead_s, cut.tail_s, found.known)
    found.windows.append(WindowLabels(start_s, end_s, found.processor_s() - started_s))
    found.known = labelled.known
    found.first += _clipped(labelled.turns, start_s - cut.lead_s, start_s, end_s)


def _look_back(found: Live, passage: Passage, labeller: LiveLabeller) -> tuple[float, float, list[Turn]]:
    """Its range, and its turns by the voices known by now."""
    start_s = passage.start_frame / WHISPER_SAMPLE_RATE
    end_s = start_s + passage.frames / WHISPER_SAMPLE_RATE
    sound, started_s = audio_of(passage, [part.audio for part in passage.parts if part.audio]), found.processor_s()
    turns = labeller.look_back(sound.samples, found.known)
    found.revised_s += found.processor_s() - started_s
    return start_s, end_s, list(_clipped(turns, start_s - sound.lead_s, start_s, end_s))


def _clipped(turns: Sequence[VoiceTurn], zero_s: float, start_s: float, end_s: float) -> Iterator[Turn]:
    """Of turns from ``zero_s`` on, what is within the range."""
    for turn in turns:
        begin_s, stop_s = max(zero_s + turn.start_s, start_s), min(zero_s + turn.end_s, end_s)
        if begin_s < stop_s:
            yield str(turn.voice), begin_s, stop_s


def _outside(turn: Turn, start_s: float, end_s: float) -> Iterator[Turn]:
    speaker, begin_s, stop_s = turn
    if begin_s < min(stop_s, start_s):
        yield speaker, begin_s, min(stop_s, start_s)
    if max(begin_s, end_s) < stop_s:
        yield speaker, max(begin_s, end_s), stop_s
