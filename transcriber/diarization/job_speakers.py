"""Who speaks in a job's audio: found in the worker's thread, read where its text is published.

In: the audio of a window or of a passage, and the voices of its session. Out: turns, and the voices known after it.
"""

import math
from collections.abc import Callable

from transcriber.audio.resampler import TARGET_SAMPLE_RATE
from transcriber.diarization.live_labeller import HEARD_S, Labelled, LiveLabeller
from transcriber.diarization.voices import KnownVoices, Samples, VoiceTurn, joined
from transcriber.errors import EngineError

AFTER_S = 0.5
"""How much of what follows a piece is heard with it: a network is least sure at the ends of what it hears."""


class ChannelVoices:
    """The voices of one channel, as of its latest window that was labelled: one writer, the worker's thread, in the order of its jobs.

    Attributes:
        known: assigned as a whole, so that any thread may read it.
        window: number of the latest window. Worker thread only.
    """

    __slots__ = ("known", "window")

    def __init__(self, known: KnownVoices = ()) -> None:
        self.known, self.window = known, -1


class JobSpeakers:
    """Of one job: written by the worker's thread, read when it is done.

    Attributes:
        turns: by start, in seconds from the job's first sample; None: not found.
        known: the voices after it; None: as before.
        left_out: why there are no turns: ``busy``, as other jobs waited, or ``failed``.
        error: of the labeller, in a line; "" without one.
    """

    __slots__ = ("_find", "error", "known", "left_out", "turns")

    def __init__(self, find: Callable[[Callable[[], bool]], tuple[tuple[VoiceTurn, ...], KnownVoices | None]]) -> None:
        """``find`` finds the turns and the voices known after them; it is given what says whether to give up."""
        self.turns: tuple[VoiceTurn, ...] | None = None
        self.known: KnownVoices | None = None
        self.left_out = self.error = ""
        self._find = find

    def find(self, *, busy: bool, should_abort: Callable[[], bool] = lambda: False) -> None:
        """Find the turns; ``busy``: leave them out. Worker thread only; what fails is noted, not raised.

        Raises:
            EngineError: ``should_abort`` returned True.
        """
        if busy:
            self.left_out = "busy"
            return
        try:
            self.turns, self.known = self._find(should_abort)
        except EngineError:
            raise
        except Exception as error:  # noqa: BLE001 - the text is worth more than its labels
            self.left_out, self.error = "failed", f"{type(error).__name__}: {error}"


def window_speakers(
    labeller: LiveLabeller, samples: Samples, lead_s: float, tail_s: float, voices: ChannelVoices, number: int
) -> JobSpeakers:
    """Of window ``number``, which has so much of ``samples``, (n,) float32 at 16 kHz, before and after it.

    A window that failed and is labelled after a later one teaches nothing: what is known after that one is stored with it.
    """

    def find(_: Callable[[], bool]) -> tuple[tuple[VoiceTurn, ...], KnownVoices | None]:
        if number < voices.window:
            return labeller.look_back(samples, voices.known), None
        turns, voices.known = _follow(labeller, samples, lead_s, tail_s, voices.known)
        voices.window = number
        return turns, voices.known

    return JobSpeakers(find)


def _follow(labeller: LiveLabeller, samples: Samples, lead_s: float, tail_s: float, known: KnownVoices) -> Labelled:
    """Label a window of any length: one that is longer than what the labeller hears at once, piece by piece."""
    own_s = len(samples) / TARGET_SAMPLE_RATE - lead_s - tail_s
    if own_s <= HEARD_S:
        return labeller.follow(samples, lead_s, tail_s, known)
    turns: list[VoiceTurn] = []
    pieces = math.ceil(own_s / (HEARD_S / 2))
    for number in range(pieces):
        first, last = number == 0, number == pieces - 1
        begin_s, end_s = (lead_s + own_s * cut / pieces for cut in (number, number + 1))
        after_s = tail_s if last else AFTER_S
        heard = samples[: round((end_s + after_s) * TARGET_SAMPLE_RATE)]
        found, known = labeller.follow(heard, begin_s, after_s, known)
        least_s, most_s = 0.0 if first else begin_s, math.inf if last else end_s
        cut = (turn._replace(start_s=max(turn.start_s, least_s), end_s=min(turn.end_s, most_s)) for turn in found)
        turns += (turn for turn in cut if turn.start_s < turn.end_s)
    return Labelled(joined(turns), known)


def passage_speakers(labeller: LiveLabeller, samples: Samples, known: KnownVoices) -> JobSpeakers | None:
    """Of (n,) float32 at 16 kHz, n of any size, by the voices ``known``; none is added. None: there are none."""

    def find(should_abort: Callable[[], bool]) -> tuple[tuple[VoiceTurn, ...], None]:
        def proceed() -> None:
            if should_abort():
                raise EngineError("given up before its speakers were found")

        return labeller.look_back(samples, known, proceed), None

    return JobSpeakers(find) if known else None


def label_once(labeller: LiveLabeller, samples: Samples, lead_s: float) -> None:
    """Label a window, which has so much of ``samples``, (n,) float32 at 16 kHz, before it: to find out how long that takes."""
    _follow(labeller, samples, lead_s, 0.0, ())


def load_labeller(hold_back_s: float) -> LiveLabeller:
    """One for all streams and workers, with its networks; words within ``hold_back_s`` are left to the next window. Blocks."""
    from transcriber.diarization.networks import voice_networks  # noqa: PLC0415 - their runtime takes time and memory

    return LiveLabeller(voice_networks(), hold_back_s)
