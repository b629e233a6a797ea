"""One channel of one uninterrupted run of audio, cut into windows.

In: its samples at 16 kHz. Out: windows of at most D seconds that follow each other without a gap. A window ends

- where speech has ended: after ``endpoint_s`` of silence, if whoever listens has time for a short window; so does one that follows
  upon a full one and in which nobody speaks: what was held back there waits for it;
- where speech begins: silence before it is a window of its own, so that what is said gets a fresh one;
- else when it is full, at the quietest place of its last 1.5 s.

Whoever hears a window also hears what came before it, ``left_s`` seconds, and what has come after the place where a full one was
cut: so no word is heard in halves (``pipeline/left_context.py`` sees to it that each is written once). Without ``left_s`` both windows
hear half a second of each other where no place is quiet, within their own length.

Boundaries are counted in the stream's own frames, so they never drift. They depend on the audio and on the settings alone,
but for the load that ``eager`` stands for.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transcriber.audio.resampler import TARGET_SAMPLE_RATE, output_samples
from transcriber.audio.vad import THRESHOLD
from transcriber.audio.vad.detector import FRAME_SAMPLES, MIN_SPEECH_FRAMES, Network, SpeechDetector, has_speech

SEARCH_S = 1.5
"""A full window is cut within so much of its end."""

HOP_SAMPLES, SMOOTH_HOPS = 160, 21
"""Places to cut are 10 ms apart, each as loud as the 210 ms around it: the closure of a stop is shorter, and no pause."""

SPEECH_DB = 10.0
"""A place that surely holds speech counts as so much louder: a pause in noise beats a soft consonant."""

QUIET_DB = 10.0
"""A place is quiet if it is so far below what is said in its window,"""

SPOKEN_QUANTILE = 0.75
"""which is as loud as this of it;"""

SILENT_DB = -60.0
"""or below this, in dBFS, whatever the rest."""

SAME_DB = 0.01

OVERLAP_S = 0.5
"""What a full window hears after its end, and without left context the next one before its start; at most a quarter of one."""

PRE_ROLL_FRAMES = 8
"""A quarter of a second: what belongs to speech before the network is sure of it."""

HELD_BACK_FRAMES = PRE_ROLL_FRAMES + MIN_SPEECH_FRAMES - 1
"""A full window of silence leaves so much to the next one: somebody may be about to speak."""

MIN_SILENCE_FRAMES = 16
"""Half a second: silence shorter than this before speech is no window of its own."""

SETTLED_FRAMES = 31
"""A second: where nobody has spoken for so long, no word is cut."""

PAUSE_FRAMES, SOON_FRAMES = 5, 8
"""A longer silence than within most words: perhaps speech ends; and so soon it is known how the window ends if it does."""

BREATH_FRAMES = 10
"""Speech frames further apart do not begin one utterance together."""

BEFORE_S = 2
"""Of the time before a window so much is known of who spoke."""

BEFORE_FRAMES = BEFORE_S * TARGET_SAMPLE_RATE // FRAME_SAMPLES

SILENT_POWER = 1e-9
"""-90 dBFS: quieter does not count."""


@dataclass(frozen=True, slots=True)
class Cutting:
    """How audio is cut; the same for all streams.

    Attributes:
        window_s: seconds of the longest window.
        quiet: whether a full window is cut at the quietest place near its end, else right there.
        endpoint_s: seconds of silence after which speech has ended; 0: nothing ends it.
        gate: whether windows without speech are told apart.
        threshold: probability in [0, 1] from which on a frame holds speech.
        apart: whether each channel is heard for itself.
        afresh: whether each window is heard by ears of its own, so that it can be cut again (``ReplayableRun``).
        left_s: seconds of the run before each window that are heard with it.
        heeds: whether somebody listens where neither ``gate`` nor ``endpoint_s`` needs it, for what is told of the windows.
    """

    window_s: float
    quiet: bool = False
    endpoint_s: float = 0.0
    gate: bool = False
    threshold: float = THRESHOLD
    apart: bool = False
    afresh: bool = False
    left_s: float = 0.0
    heeds: bool = False

    @property
    def listens(self) -> bool:
        """Whether a speech detector is needed."""
        return self.gate or self.endpoint_s > 0 or self.heeds


@dataclass(frozen=True, slots=True)
class Cut:
    """The next frames of the run.

    Attributes:
        start, frames: the range, in frames of the run.
        samples: (n,) float32 in [-1, 1] at 16 kHz: of the range, and around it what neighbours cover.
        lead_s, tail_s: seconds of ``samples`` before and after the range.
        goes_on: whether it was cut in the midst of speech, because it was full.
        speech_final: whether speech had ended.
        speech: (k,) float32, how likely each 32 ms of the range hold speech; None without a detector.
        speech_before: (m,) float32, the same of up to 2 s before it.
        silent: nobody speaks, so nobody need listen.
        next_lead: frames before its end that the next window hears again.
    """

    start: int
    frames: int
    samples: NDArray[np.float32]
    lead_s: float = 0.0
    tail_s: float = 0.0
    goes_on: bool = False
    speech_final: bool = False
    speech: NDArray[np.float32] | None = None
    speech_before: NDArray[np.float32] | None = None
    silent: bool = False
    next_lead: int = 0

    @property
    def empty(self) -> bool:
        """Whether the range is shorter than a sample."""
        return not len(self.own)

    @property
    def own(self) -> NDArray[np.float32]:
        """Those of its samples that are of the range; shared with it."""
        lead, tail = (round(seconds * TARGET_SAMPLE_RATE) for seconds in (self.lead_s, self.tail_s))
        return self.samples[lead : len(self.samples) - tail]


class WindowCutter:
    """Cuts one run. Invariant: each cut starts where the one before it ends.

    Attributes:
        cut: frames of the run that are in windows.
    """

    __slots__ = (
        "_base",
        "_cutting",
        "_deaf",
        "_detector",
        "_end",
        "_endpoint_frames",
        "_first",
        "_follows",
        "_known",
        "_lead",
        "_left",
        "_open",
        "_origin",
        "_rate",
        "_samples",
        "_speech",
        "_window",
        "cut",
    )

    def __init__(
        self,
        rate: int,
        cutting: Cutting,
        network: Network | None,
        *,
        cut: int = 0,
        lead: int = 0,
        origin: int = 0,
        deaf: int = 0,
        follows: bool = False,
    ) -> None:
        """``rate`` in Hz is the stream's; ``network`` is needed if ``cutting`` listens.

        The first window begins at frame ``cut`` of what will be pushed and hears ``lead`` frames before it; it ``follows`` upon one
        that was cut in the midst of speech. What will be pushed begins at frame ``origin`` of the run; the detector does not hear
        the first ``deaf`` frames of it, which must be whole ones of its own.
        """
        self.cut = cut
        self._rate = rate
        self._cutting = cutting
        self._origin = origin
        self._window, self._left = int(cutting.window_s * rate), int(cutting.left_s * rate)  # frames
        self._endpoint_frames = -(-int(cutting.endpoint_s * TARGET_SAMPLE_RATE) // FRAME_SAMPLES)
        self._detector = SpeechDetector(network) if network and cutting.listens else None
        self._samples: list[NDArray[np.float32]] = []  # from the open window's lead on
        self._base = output_samples(cut - lead, rate)  # the place of the first of them in the run
        self._lead = lead  # stream frames before ``cut`` that the open window hears again
        self._known = 0  # samples pushed
        self._end: int | None = None  # of the run, in frames
        self._deaf = output_samples(deaf, rate)
        self._first = self._deaf // FRAME_SAMPLES  # the detector's frame in which ``_speech`` begins
        self._speech = np.empty(0, np.float32)  # probabilities of the frames of 32 ms from there on
        self._open = _Open((output_samples(cut, rate) + FRAME_SAMPLES // 2) // FRAME_SAMPLES)
        self._follows = follows and self._left > 0

    @property
    def spoken(self) -> bool:
        """Whether anybody spoke in the open window, as far as is known; True without a detector."""
        return self._open.spoken or self._detector is None

    @property
    def last_speech(self) -> int:
        """Number of the last 32 ms of the run that held speech; without a detector, the last of all."""
        return self._open.last_speech if self._detector else self._known // FRAME_SAMPLES

    @property
    def pauses(self) -> bool:
        """Whether speech may be ending, and the window soon be ``closing``: a guess had better wait for that."""
        return self._may_end and self._silence_frames >= max(PAUSE_FRAMES, self._closing_frames - SOON_FRAMES)

    @property
    def closing(self) -> bool:
        """Whether all samples are there of the window as it ends unless somebody speaks again."""
        heard = self._silence_frames >= self._closing_frames
        return self._may_end and heard and self._end_of_speech < output_samples(self.limit, self._rate)

    @property
    def _may_end(self) -> bool:
        """Whether silence ends the open window."""
        return self._endpoint_frames > 0 and self._detector is not None and (self._open.spoken or self._follows)

    @property
    def _closing_frames(self) -> int:
        """The silence that belongs to the window which it ends."""
        return self._endpoint_frames - self._endpoint_frames // 2

    @property
    def _silence_frames(self) -> int:
        """For how many frames nobody has spoken, as far as they were looked at."""
        return self._open.next - self._open.last_speech - 1

    @property
    def _end_of_speech(self) -> int:
        """The sample at which speech has ended unless somebody speaks before."""
        return (self._open.last_speech + 1 + self._endpoint_frames) * FRAME_SAMPLES

    @property
    def open_s(self) -> float:
        """Seconds of the open window that have come so far."""
        return (self._known - output_samples(self.cut, self._rate)) / TARGET_SAMPLE_RATE

    def open_cut(self) -> Cut:
        """The open window as if it ended now; it goes on all the same."""
        frames = max(1, self._known * self._rate // TARGET_SAMPLE_RATE - self.cut)
        lead_s = (output_samples(self.cut, self._rate) - self._base) / TARGET_SAMPLE_RATE
        speech = self._window_speech(self._known) if self._detector else None
        before = self._speech_before() if self._detector else None
        return Cut(self.cut, frames, self._joined(), lead_s=lead_s, speech=speech, speech_before=before)

    def closing_cut(self) -> Cut:
        """The window as it ends unless somebody speaks again, once it is ``closing``; it goes on all the same."""
        return self._cut(self._after_speech(self._end_of_speech), speech_final=True)

    def push(self, samples: NDArray[np.float32], *, eager: bool = True) -> list[Cut]:
        """Feed (n,) float32 in [-1, 1] at 16 kHz; returns the windows that end with them, mostly none.

        ``eager`` says whether a window should be closed where speech has ended. Where windows are heard afresh, the first
        one is returned alone: the next is for other ears.
        """
        self._keep(samples)
        return self._found(self._cuts(eager=eager))

    def flush(self, samples: NDArray[np.float32], frames: int) -> list[Cut]:
        """The run of ``frames`` frames ends with these samples: returns what is left. Nothing may be pushed after it.

        Where windows are heard afresh, that is the first of them.
        """
        self._keep(samples)
        if self._detector:
            self._speech = np.concatenate((self._speech, self._detector.flush().speech))
        self._end = frames
        return self._found(self._last_cuts(frames))

    def _found(self, cuts: Iterator[Cut]) -> list[Cut]:
        return list(islice(cuts, 1 if self._cutting.afresh else None))

    def _keep(self, samples: NDArray[np.float32]) -> None:
        self._samples.append(samples[max(0, self._base - self._known) :])
        if self._detector:
            heard = samples[max(0, self._deaf - self._known) :]
            self._speech = np.concatenate((self._speech, self._detector.push(heard).speech))
        self._known += len(samples)

    def _joined(self) -> NDArray[np.float32]:
        """All samples from ``_base`` on."""
        if len(self._samples) > 1:
            self._samples = [np.concatenate(self._samples)]
        return self._samples[0]

    @property
    def _cut_there(self) -> bool:
        """Whether full windows are cut where they are full, and what they hold back is the next one's."""
        return bool(self._left) and not self._cutting.quiet

    @property
    def limit(self) -> int:
        """Where the open window is full, in frames like ``cut``."""
        return self.cut + self._window - (0 if self._left else self._lead)

    def _cuts(self, *, eager: bool) -> Iterator[Cut]:
        """Look at what came, 32 ms after 32 ms, so that it does not matter how it was sliced."""
        while True:
            limit = output_samples(self.limit, self._rate)
            if self._detector and self._open.next < self._first + len(self._speech):
                end = (self._open.next + 1) * FRAME_SAMPLES
                if end < limit:
                    began = self._open.look(self._speech[self._open.next - self._first] >= self._cutting.threshold)
                    if began and (place := self._before_speech()) is not None:
                        yield self._take(place)
                    elif eager and self._ended(end):
                        yield self._take(self._after_speech(end), speech_final=True)
                    continue
            elif self._detector:
                return
            # What is left at the run's end is one window, if it can be. Where it is cut right there, somebody must come after it.
            if self._known < limit + self._cut_there or (self._end is not None and self.limit >= self._end):
                return
            yield self._full(limit)

    def _last_cuts(self, frames: int) -> Iterator[Cut]:
        """All that is left of a run of ``frames`` frames."""
        yield from self._cuts(eager=False)
        while self.cut < frames:
            yield self._take(min(self.limit, frames))

    def _before_speech(self) -> int | None:
        """Where the silence before speech ends that has just begun, in frames; None if it is too short for a window."""
        onset = (self._open.onset - PRE_ROLL_FRAMES) * FRAME_SAMPLES
        silence = onset - output_samples(self.cut, self._rate)
        return self._frame_at(onset) if self._cutting.gate and silence >= MIN_SILENCE_FRAMES * FRAME_SAMPLES else None

    def _ended(self, end: int) -> bool:
        """Whether at sample ``end`` somebody has spoken, be it at the end of the full window before, and speaks no more."""
        return self._may_end and self._end_of_speech <= end

    def _after_speech(self, end: int) -> int:
        """Where the window ends if speech has ended at sample ``end``, in frames."""
        # The other half of the silence is for the next window: a word that comes now has begun already.
        return self._frame_at(end - self._endpoint_frames // 2 * FRAME_SAMPLES)

    def _full(self, limit: int) -> Cut:
        """Cut the window, which holds all samples up to ``limit``."""
        if self._cutting.gate and not self._heard_until(limit):
            return self._take(self._frame_at(limit - HELD_BACK_FRAMES * FRAME_SAMPLES))
        if not self._cutting.quiet:
            return self._take(self.limit, goes_on=True)
        begin = output_samples(self.cut, self._rate)
        audio = self._joined()[begin - self._base : limit - self._base]
        loudness = self._loudness(audio, begin)
        search = min(round(SEARCH_S * TARGET_SAMPLE_RATE), len(audio) // 2) // HOP_SAMPLES
        place = _least(loudness[-search:]) - search
        overlap, quiet = min(int(OVERLAP_S * self._rate), self._window // 4), True
        if loudness[place] > max(np.quantile(loudness, SPOKEN_QUANTILE) - QUIET_DB, SILENT_DB):
            rest = output_samples(overlap, self._rate) // HOP_SAMPLES
            place, quiet = _least(loudness[-search:-rest]) - search, False
        end = self._frame_at(limit + place * HOP_SAMPLES)
        if self._left:
            return self._take(end, tail=min(overlap, self.limit - end), goes_on=True)
        return self._take(end, tail=0 if quiet else overlap, next_lead=0 if quiet else overlap, goes_on=True)

    def _loudness(self, audio: NDArray[np.float32], begin: int) -> NDArray[np.float64]:
        """Of every 10 ms of ``audio``, from sample ``begin`` of the run on: (n,) float64 in dB, smoothed; speech counts more.

        The last 10 ms end with the audio.
        """
        hops, rest = divmod(len(audio), HOP_SAMPLES)
        parts = audio[rest:].reshape(hops, HOP_SAMPLES).astype(np.float64)
        power = np.einsum("ij,ij->i", parts, parts) / HOP_SAMPLES
        loudness: NDArray[np.float64] = 10 * np.log10(_smooth(power) + SILENT_POWER)
        if self._detector:
            frames = (begin + rest + HOP_SAMPLES * np.arange(hops)) // FRAME_SAMPLES - self._first
            loudness += SPEECH_DB * _smooth(self._speech[np.minimum(frames, len(self._speech) - 1)])
        return loudness

    def _heard_until(self, sample: int) -> bool:
        """Whether the open window, if it ends at ``sample``, holds speech."""
        return has_speech(self._window_speech(sample), self._cutting.threshold)

    def _window_speech(self, end: int) -> NDArray[np.float32]:
        """Probabilities of the open window's frames, up to sample ``end``."""
        begin = output_samples(self.cut, self._rate)
        first, last = ((sample + FRAME_SAMPLES // 2) // FRAME_SAMPLES - self._first for sample in (begin, end))
        return self._speech[first : max(first + 1, last)]

    def _speech_before(self) -> NDArray[np.float32]:
        """Probabilities of the frames before the open window, as far as they are kept."""
        first = (output_samples(self.cut, self._rate) + FRAME_SAMPLES // 2) // FRAME_SAMPLES - self._first
        return self._speech[max(0, first - BEFORE_FRAMES) : first]

    def _frame_at(self, sample: int) -> int:
        """The stream's frame nearest to a sample of the run; it becomes that sample or one before, never one to come."""
        nearest = (2 * sample * self._rate + TARGET_SAMPLE_RATE) // (2 * TARGET_SAMPLE_RATE)
        return min(nearest, (self._rate * (2 * sample + 1) - 1) // (2 * TARGET_SAMPLE_RATE))

    def _take(
        self, end: int, tail: int = 0, next_lead: int = 0, *, goes_on: bool = False, speech_final: bool = False
    ) -> Cut:
        """End the window at frame ``end``; it hears ``tail`` frames more, the next one ``next_lead`` of its own.

        ``goes_on``: it is full.
        """
        cut = self._cut(end, tail, next_lead, goes_on=goes_on, speech_final=speech_final)
        end_sample, samples = output_samples(end, self._rate), self._joined()
        self._follows = cut.goes_on and self._left > 0
        base = output_samples(end - cut.next_lead, self._rate)
        self._samples = [samples[base - self._base :].copy()]
        self._base, self.cut, self._lead = base, end, cut.next_lead
        first, self._first = self._first, max(self._first, end_sample // FRAME_SAMPLES - BEFORE_FRAMES)
        self._speech = self._speech[self._first - first :].copy()
        self._open = _Open((end_sample + FRAME_SAMPLES // 2) // FRAME_SAMPLES)
        return cut

    def _cut(
        self, end: int, tail: int = 0, next_lead: int = 0, *, goes_on: bool = False, speech_final: bool = False
    ) -> Cut:
        """The window as ``_take`` ends it."""
        next_lead = min(self._left, self._origin + end) if self._left else next_lead
        begin_sample, end_sample = output_samples(self.cut, self._rate), output_samples(end, self._rate)
        tail_samples = output_samples(end + tail, self._rate) - end_sample
        samples = self._joined()
        speech = self._window_speech(end_sample) if self._detector else None
        nobody = speech is not None and not has_speech(speech, self._cutting.threshold)
        silence = 0 if speech is None else self._silence_at_the_end(speech)
        if not (nobody or speech is None):
            speech_final = speech_final or 0 < self._endpoint_frames <= silence
        return Cut(
            self.cut,
            end - self.cut,
            samples[: end_sample + tail_samples - self._base],
            lead_s=(begin_sample - self._base) / TARGET_SAMPLE_RATE,
            tail_s=tail_samples / TARGET_SAMPLE_RATE,
            goes_on=goes_on and not (nobody or speech_final or silence >= SETTLED_FRAMES),
            speech_final=speech_final,
            speech=speech,
            speech_before=self._speech_before() if self._detector else None,
            silent=nobody and self._cutting.gate,
            next_lead=next_lead,
        )

    def _silence_at_the_end(self, speech: NDArray[np.float32]) -> int:
        """For how many of a window's frames, (n,) float32, nobody has spoken when it ends."""
        spoken = np.flatnonzero(speech >= self._cutting.threshold)
        return len(speech) - 1 - int(spoken[-1]) if len(spoken) else len(speech)


class _Open:
    """Who has spoken in the open window, as far as it was looked at; frames of 32 ms count from the run's start.

    Attributes:
        next: the frame to look at next.
        last_speech: the last one that held speech, or the one before the window.
        spoken: whether enough of them did to be somebody.
        onset: the one in which the latest utterance began.
    """

    __slots__ = ("_speech_frames", "last_speech", "next", "onset", "spoken")

    def __init__(self, first: int) -> None:
        self.next = self.onset = first
        self.last_speech = first - 1
        self.spoken = False
        self._speech_frames = 0  # of the latest utterance

    def look(self, speech: bool) -> bool:
        """Take note of whether the next frame holds speech; returns whether that makes somebody speak for the first time."""
        frame, self.next = self.next, self.next + 1
        if not speech:
            return False
        if frame - self.last_speech > BREATH_FRAMES or not self._speech_frames:
            self.onset, self._speech_frames = frame, 0
        self.last_speech = frame
        self._speech_frames += 1
        began = not self.spoken and self._speech_frames >= MIN_SPEECH_FRAMES
        self.spoken |= began
        return began


def _smooth(values: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Mean of the ``SMOOTH_HOPS`` values around each of (n,); fewer at the ends."""
    around = np.ones(min(SMOOTH_HOPS, len(values)))
    smooth: NDArray[np.float64] = np.convolve(values, around, "same") / np.convolve(
        np.ones(len(values)), around, "same"
    )
    return smooth


def _least(values: NDArray[np.float64]) -> int:
    """Index of the least value; where silence is digital, the middle of the latest of them."""
    least = np.flatnonzero(values <= values.min() + SAME_DB)
    latest = np.split(least, np.flatnonzero(np.diff(least) > 1) + 1)[-1]
    return int(latest[len(latest) // 2])
