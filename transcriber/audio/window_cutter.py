"""One channel of one uninterrupted run of audio, cut into windows.

In: its samples at 16 kHz. Out: windows of at most D seconds that follow each other without a gap. A window ends

- where speech has ended: after ``endpoint_s`` of silence, if the worker has time for a short window; so does one without speech
  that follows a full one, because words that were held back there wait for it;
- where speech begins: silence before it is a window of its own, so that speech starts a new one;
- else when it is full, at the quietest place of its last 1.5 s.

The samples of a window also include ``left_context_s`` seconds before it and, where a full one was cut, the audio that has arrived
after the cut: so no word is transcribed in halves (``pipeline/left_context.py`` publishes each once). Without left context, two
windows overlap by half a second where no place is quiet, within their own length.

Boundaries are counted in the stream's own frames, so they never drift. They depend on the audio and on the settings alone,
except for ``eager``, which depends on the load. A window has the settings of the moment at which it began.
"""

from collections.abc import Iterator
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from transcriber.audio.quiet_place import quietest_place
from transcriber.audio.resampler import TARGET_SAMPLE_RATE, output_samples
from transcriber.audio.vad.detector import FRAME_SAMPLES, MIN_SPEECH_FRAMES, Network, SpeechDetector, has_speech
from transcriber.audio.vad.speech_tracker import SpeechTracker
from transcriber.audio.window import OVERLAP_S, Cut
from transcriber.audio.window_policy import WindowPolicies, WindowPolicy

PRE_ROLL_FRAMES = 8
"""A quarter of a second: speech begins so long before the network is sure of it."""

HELD_BACK_FRAMES = PRE_ROLL_FRAMES + MIN_SPEECH_FRAMES - 1
"""A full window of silence leaves so much to the next one: speech may be about to begin."""

MIN_SILENCE_FRAMES = 16
"""Half a second: silence shorter than this before speech is no window of its own."""

SETTLED_FRAMES = 31
"""A second: after so much silence no word is cut."""

PAUSE_FRAMES, SOON_FRAMES = 5, 8
"""Silence longer than within most words, so that speech may be ending; and how many frames before a window closes that counts."""

SPEAKING_FRAMES = 16
"""Half a second: the time after speech in which somebody still counts as speaking."""

BEFORE_S = 2
"""Speech probabilities are kept for so many seconds before a window."""

BEFORE_FRAMES = BEFORE_S * TARGET_SAMPLE_RATE // FRAME_SAMPLES


class WindowCutter:
    """Cuts one run. Invariant: each cut starts where the one before it ends.

    Attributes:
        cut: frames of the run that are in windows.
    """

    __slots__ = (
        "_detect_from",
        "_detector",
        "_end",
        "_endpoint_frames",
        "_follows",
        "_lead",
        "_left",
        "_origin",
        "_policies",
        "_policy",
        "_pushed",
        "_rate",
        "_samples",
        "_samples_begin",
        "_speech",
        "_speech_begin",
        "_tracker",
        "_window",
        "cut",
    )

    def __init__(
        self,
        rate: int,
        policies: WindowPolicies,
        network: Network | None,
        *,
        cut: int = 0,
        lead: int = 0,
        origin: int = 0,
        detect_from: int = 0,
        follows: bool = False,
    ) -> None:
        """``rate`` in Hz is the stream's; ``network`` is needed if ``policies`` need a detector.

        The first window begins at frame ``cut`` of what will be pushed and includes ``lead`` frames before it; it ``follows`` one
        that was cut in the middle of speech. What will be pushed begins at frame ``origin`` of the run; the detector takes
        it from frame ``detect_from`` on, where one of its own frames must begin.
        """
        self.cut = cut
        self._rate = rate
        self._policies = policies
        self._origin = origin
        self._follow(policies.latest())
        self._detector = SpeechDetector(network) if network and self._policy.needs_detector else None
        self._samples: list[NDArray[np.float32]] = []  # from the open window's lead on
        self._samples_begin = output_samples(cut - lead, rate)  # the place of the first of them in the run
        self._lead = lead  # stream frames before ``cut`` that the open window includes again
        self._pushed = 0  # samples pushed
        self._end: int | None = None  # of the run, in frames
        self._detect_from = output_samples(detect_from, rate)
        self._speech_begin = self._detect_from // FRAME_SAMPLES  # the detector's frame in which ``_speech`` begins
        self._speech = np.empty(0, np.float32)  # probabilities of the frames of 32 ms from there on
        self._tracker = SpeechTracker((output_samples(cut, rate) + FRAME_SAMPLES // 2) // FRAME_SAMPLES)
        self._follows = follows and self._left > 0

    def _follow(self, policy: WindowPolicy) -> None:
        """Cut the open window so."""
        self._policy = policy
        self._window, self._left = int(policy.window_s * self._rate), int(policy.left_context_s * self._rate)  # frames
        self._endpoint_frames = -(-int(policy.endpoint_s * TARGET_SAMPLE_RATE) // FRAME_SAMPLES)

    @property
    def spoken(self) -> bool:
        """Whether there was speech in the open window so far; True without a detector."""
        return self._tracker.spoken or self._detector is None

    @property
    def last_speech(self) -> int:
        """Number of the last 32 ms of the run that held speech; without a detector, the last of all."""
        return self._tracker.last_speech if self._detector else self._pushed // FRAME_SAMPLES

    @property
    def speaking(self) -> bool | None:
        """Whether somebody speaks, as far as audio was examined; None without a detector."""
        return has_speech(self._speech[-SPEAKING_FRAMES:], self._policy.speech_threshold) if self._detector else None

    def latest(self, samples: int) -> NDArray[np.float32]:
        """At most so many samples before the end of those that are kept, (n,) float32 at 16 kHz."""
        found: list[NDArray[np.float32]] = []
        for block in reversed(self._samples):
            if samples <= 0:
                break
            found.insert(0, block[-samples:])
            samples -= len(block)
        return np.concatenate(found) if found else np.zeros(0, np.float32)

    @property
    def pauses(self) -> bool:
        """Whether speech may be ending, and the window soon be ``closing``: a partial should wait for that."""
        return self._may_end and self._silence_frames >= max(PAUSE_FRAMES, self._closing_frames - SOON_FRAMES)

    @property
    def closing(self) -> bool:
        """Whether all samples have arrived of the window as it ends unless speech resumes."""
        complete = self._silence_frames >= self._closing_frames
        return self._may_end and complete and self._end_of_speech < output_samples(self.limit, self._rate)

    @property
    def _may_end(self) -> bool:
        """Whether silence ends the open window."""
        return self._endpoint_frames > 0 and self._detector is not None and (self._tracker.spoken or self._follows)

    @property
    def _closing_frames(self) -> int:
        """Frames of the silence that are part of the window which it ends."""
        return self._endpoint_frames - self._endpoint_frames // 2

    @property
    def _silence_frames(self) -> int:
        """Frames without speech at the end of those examined so far."""
        return self._tracker.next - self._tracker.last_speech - 1

    @property
    def _end_of_speech(self) -> int:
        """The sample at which speech counts as ended unless it resumes before."""
        return (self._tracker.last_speech + 1 + self._endpoint_frames) * FRAME_SAMPLES

    @property
    def open_s(self) -> float:
        """Seconds of the open window that have arrived so far."""
        return (self._pushed - output_samples(self.cut, self._rate)) / TARGET_SAMPLE_RATE

    def open_cut(self) -> Cut:
        """The open window as if it ended now; it stays open."""
        frames = max(1, self._pushed * self._rate // TARGET_SAMPLE_RATE - self.cut)
        lead_s = (output_samples(self.cut, self._rate) - self._samples_begin) / TARGET_SAMPLE_RATE
        speech = self._window_speech(self._pushed) if self._detector else None
        before = self._speech_before() if self._detector else None
        return Cut(self.cut, frames, self._joined(), lead_s=lead_s, speech=speech, speech_before=before)

    def closing_cut(self) -> Cut:
        """The window as it ends unless speech resumes, once it is ``closing``; it stays open."""
        return self._cut(self._after_speech(self._end_of_speech), speech_final=True)

    def push(self, samples: NDArray[np.float32], *, eager: bool = True) -> list[Cut]:
        """Feed (n,) float32 in [-1, 1] at 16 kHz; returns the windows that end with them, mostly none.

        ``eager`` says whether a window should be closed where speech has ended. A replayable run gets the first window alone:
        the next one has a cutter of its own.
        """
        self._keep(samples)
        return self._found(self._cuts(eager=eager))

    def end_speech(self) -> list[Cut]:
        """The open window, if speech has ended in what was pushed, and it was not closed as ``push`` was not eager."""
        end = self._tracker.next * FRAME_SAMPLES
        return [self._take(self._after_speech(end), speech_final=True)] if self._ended(end) else []

    def flush(self, samples: NDArray[np.float32], frames: int) -> list[Cut]:
        """The run of ``frames`` frames ends with these samples: returns what is left. Nothing may be pushed after it.

        A replayable run gets the first window alone.
        """
        self._keep(samples)
        if self._detector:
            self._speech = np.concatenate((self._speech, self._detector.flush().speech))
        self._end = frames
        return self._found(self._last_cuts(frames))

    def end_window(self, samples: NDArray[np.float32], frames: int) -> list[Cut]:
        """The open window ends with these samples, at frame ``frames`` of the run, which goes on; returns it, and any before it."""
        self._keep(samples)
        self._end = frames
        cuts = self._found(self._last_cuts(frames))
        self._end = None
        return cuts

    def _found(self, cuts: Iterator[Cut]) -> list[Cut]:
        return list(islice(cuts, 1 if self._policy.replayable else None))

    def _keep(self, samples: NDArray[np.float32]) -> None:
        self._samples.append(samples[max(0, self._samples_begin - self._pushed) :])
        if self._detector:
            examined = samples[max(0, self._detect_from - self._pushed) :]
            self._speech = np.concatenate((self._speech, self._detector.push(examined).speech))
        self._pushed += len(samples)

    def _joined(self) -> NDArray[np.float32]:
        """All samples from ``_samples_begin`` on."""
        if len(self._samples) > 1:
            self._samples = [np.concatenate(self._samples)]
        return self._samples[0]

    @property
    def _cut_there(self) -> bool:
        """Whether full windows are cut exactly where they are full, and the words held back belong to the next one."""
        return bool(self._left) and not self._policy.quiet_cut

    @property
    def limit(self) -> int:
        """Where the open window is full, in frames like ``cut``."""
        return self.cut + self._window - (0 if self._left else self._lead)

    def _cuts(self, *, eager: bool) -> Iterator[Cut]:
        """Examine the samples frame by frame, so that it does not matter how they were sliced."""
        while True:
            limit = output_samples(self.limit, self._rate)
            if self._detector and self._tracker.next < self._speech_begin + len(self._speech):
                end = (self._tracker.next + 1) * FRAME_SAMPLES
                if end < limit:
                    began = self._tracker.add(
                        self._speech[self._tracker.next - self._speech_begin] >= self._policy.speech_threshold
                    )
                    if began and (place := self._before_speech()) is not None:
                        yield self._take(place)
                    elif eager and self._ended(end):
                        yield self._take(self._after_speech(end), speech_final=True)
                    continue
            elif self._detector:
                return
            # What is left at the run's end is one window, if it fits. Where it is cut exactly there, a window must follow it.
            if self._pushed < limit + self._cut_there or (self._end is not None and self.limit >= self._end):
                return
            yield self._full(limit)

    def _last_cuts(self, frames: int) -> Iterator[Cut]:
        """All that is left of a run of ``frames`` frames."""
        yield from self._cuts(eager=False)
        while self.cut < frames:
            yield self._take(min(self.limit, frames))

    def _before_speech(self) -> int | None:
        """Where the silence ends before speech that has just begun, in frames; None if it is too short for a window."""
        onset = (self._tracker.onset - PRE_ROLL_FRAMES) * FRAME_SAMPLES
        silence = onset - output_samples(self.cut, self._rate)
        return (
            self._frame_at(onset)
            if self._policy.speech_gate and silence >= MIN_SILENCE_FRAMES * FRAME_SAMPLES
            else None
        )

    def _ended(self, end: int) -> bool:
        """Whether speech, also that at the end of the full window before, has ended at sample ``end``."""
        return self._may_end and self._end_of_speech <= end

    def _after_speech(self, end: int) -> int:
        """Where the window ends if speech has ended at sample ``end``, in frames."""
        # The other half of the silence is part of the next window: a word that is detected now began earlier.
        return self._frame_at(end - self._endpoint_frames // 2 * FRAME_SAMPLES)

    def _full(self, limit: int) -> Cut:
        """Cut the window, which holds all samples up to ``limit``."""
        if self._policy.speech_gate and not self._has_speech(limit):
            return self._take(self._frame_at(limit - HELD_BACK_FRAMES * FRAME_SAMPLES))
        if not self._policy.quiet_cut:
            return self._take(self.limit, goes_on=True)
        begin = output_samples(self.cut, self._rate)
        audio = self._joined()[begin - self._samples_begin : limit - self._samples_begin]
        overlap = min(int(OVERLAP_S * self._rate), self._window // 4)
        place, quiet = quietest_place(
            audio,
            self._speech if self._detector else None,
            begin - self._speech_begin * FRAME_SAMPLES,
            output_samples(overlap, self._rate),
        )
        end = self._frame_at(limit + place)
        if self._left:
            return self._take(end, tail=min(overlap, self.limit - end), goes_on=True)
        return self._take(end, tail=0 if quiet else overlap, next_lead=0 if quiet else overlap, goes_on=True)

    def _has_speech(self, sample: int) -> bool:
        """Whether the open window, if it ends at ``sample``, holds speech."""
        return has_speech(self._window_speech(sample), self._policy.speech_threshold)

    def _window_speech(self, end: int) -> NDArray[np.float32]:
        """Probabilities of the open window's frames, up to sample ``end``."""
        begin = output_samples(self.cut, self._rate)
        first, last = ((sample + FRAME_SAMPLES // 2) // FRAME_SAMPLES - self._speech_begin for sample in (begin, end))
        return self._speech[first : max(first + 1, last)]

    def _speech_before(self) -> NDArray[np.float32]:
        """Probabilities of the kept frames before the open window."""
        first = (output_samples(self.cut, self._rate) + FRAME_SAMPLES // 2) // FRAME_SAMPLES - self._speech_begin
        return self._speech[max(0, first - BEFORE_FRAMES) : first]

    def _frame_at(self, sample: int) -> int:
        """The stream's frame nearest to a sample of the run; it maps to that sample or one before, never to a later one."""
        nearest = (2 * sample * self._rate + TARGET_SAMPLE_RATE) // (2 * TARGET_SAMPLE_RATE)
        return min(nearest, (self._rate * (2 * sample + 1) - 1) // (2 * TARGET_SAMPLE_RATE))

    def _take(
        self, end: int, tail: int = 0, next_lead: int = 0, *, goes_on: bool = False, speech_final: bool = False
    ) -> Cut:
        """End the window at frame ``end``; it includes ``tail`` frames after that, the next one ``next_lead`` before.

        ``goes_on``: it is full.
        """
        cut = self._cut(end, tail, next_lead, goes_on=goes_on, speech_final=speech_final)
        end_sample, samples = output_samples(end, self._rate), self._joined()
        self._follows = cut.goes_on and self._left > 0
        base = output_samples(end - cut.next_lead, self._rate)
        self._samples = [samples[base - self._samples_begin :].copy()]
        self._samples_begin, self.cut, self._lead = base, end, cut.next_lead
        first, self._speech_begin = (
            self._speech_begin,
            max(self._speech_begin, end_sample // FRAME_SAMPLES - BEFORE_FRAMES),
        )
        self._speech = self._speech[self._speech_begin - first :].copy()
        self._tracker = SpeechTracker((end_sample + FRAME_SAMPLES // 2) // FRAME_SAMPLES)
        self._follow(self._policies.latest())
        return cut

    def _cut(
        self, end: int, tail: int = 0, next_lead: int = 0, *, goes_on: bool = False, speech_final: bool = False
    ) -> Cut:
        """The window as ``_take`` ends it."""
        if self._left:  # at most what is kept: it may have just become longer
            next_lead = min(self._left, self._origin + end, self._lead + end - self.cut)
        begin_sample, end_sample = output_samples(self.cut, self._rate), output_samples(end, self._rate)
        tail_samples = output_samples(end + tail, self._rate) - end_sample
        samples = self._joined()
        speech = self._window_speech(end_sample) if self._detector else None
        silent = speech is not None and not has_speech(speech, self._policy.speech_threshold)
        silence = 0 if speech is None else self._silence_at_the_end(speech)
        if not (silent or speech is None):
            speech_final = speech_final or 0 < self._endpoint_frames <= silence
        return Cut(
            self.cut,
            end - self.cut,
            samples[: end_sample + tail_samples - self._samples_begin],
            lead_s=(begin_sample - self._samples_begin) / TARGET_SAMPLE_RATE,
            tail_s=tail_samples / TARGET_SAMPLE_RATE,
            goes_on=goes_on and not (silent or speech_final or silence >= SETTLED_FRAMES),
            speech_final=speech_final,
            speech=speech,
            speech_before=self._speech_before() if self._detector else None,
            silent=silent and self._policy.speech_gate,
            next_lead=next_lead,
        )

    def _silence_at_the_end(self, speech: NDArray[np.float32]) -> int:
        """How many frames of a window, (n,) float32, hold no speech at its end."""
        spoken = np.flatnonzero(speech >= self._policy.speech_threshold)
        return len(speech) - 1 - int(spoken[-1]) if len(spoken) else len(speech)
