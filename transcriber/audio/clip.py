"""A recording that is there as a whole: cut into windows at pauses, and listened to until somebody surely speaks.

In: its format and its PCM in pieces. Out: what covers it, in order: windows with what was heard in them, silences and gaps.
A detector that hears all of a window takes a millisecond for each of its seconds, a fifth of what a short request may
cost beside whisper. Whether anybody speaks is mostly clear after half a second.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from transcriber.audio.offsets import Known, Offsets
from transcriber.audio.pcm import AudioFormat, count_frames
from transcriber.audio.resampler import TARGET_SAMPLE_RATE
from transcriber.audio.session import Gap, Session, Silence, Window
from transcriber.audio.speech import Network, SpeechDetector, has_speech, speech_probability, speech_seconds
from transcriber.audio.window import Cutting
from transcriber.errors import BadInputError, TooLongError

LISTEN_SAMPLES = TARGET_SAMPLE_RATE // 2
"""Heard at once: half a second."""


class Heard(NamedTuple):
    """What a detector makes of a window.

    Attributes:
        spoken: whether there are words in it.
        speech_s: seconds of speech; where it did not listen to the end, those of the window.
        speech_prob: how sure it is that there is any, in [0, 1].
    """

    spoken: bool
    speech_s: float
    speech_prob: float


class Listened(NamedTuple):
    """A window for the engine; ``heard`` is None where no detector listened."""

    window: Window
    heard: Heard | None


@dataclass(frozen=True, slots=True)
class Clip:
    """All of a recording. ``parts`` tile it, for each channel that is heard apart."""

    session: Session
    parts: list[Listened | Silence | Gap]


@dataclass(frozen=True, slots=True)
class Ears:
    """How clips are heard. Any thread.

    Attributes:
        cutting: how they are cut; its ``gate`` says whether windows without speech are silences.
        network: hears whether anybody speaks; None: nobody listens.
        sure: probability in [0, 1] from which on there is no need to listen further.
        max_s: seconds of audio that are taken.
    """

    cutting: Cutting
    network: Network | None
    sure: float
    max_s: float

    def cut(self, session_id: str, fmt: AudioFormat, pieces: Iterable[tuple[int, bytes]]) -> Clip:
        """The clip of these pieces: index of the first frame, and whole frames of ``fmt``.

        Raises:
            TooLongError: more audio than is taken.
            BadInputError: no audio, or none that can be read.
        """
        session = Session(session_id, fmt, replace(self.cutting, gate=False), None, max_hole_s=self.max_s)
        session.offsets = Offsets(fmt, Known(0, exact=True))
        found: list[Window | Silence | Gap] = []
        place, rest = 0, b""
        for frame, data in pieces:
            self.check_length(frame + count_frames(data, fmt), fmt.rate)
            found += session.feed(rest, offset=place)
            place, rest = frame, data
        if place > session.clock:  # it lies behind a hole
            found += session.feed(rest, offset=place)
            rest = b""
        found += session.close(rest=rest)
        if not session.received:
            raise BadInputError("there is no audio in it")
        return Clip(session, [self._listened(part) if isinstance(part, Window) else part for part in found])

    def check_length(self, frames: int, rate: int) -> None:
        """See that so many frames are not too many.

        Raises:
            TooLongError: they are.
        """
        if frames > self.max_s * rate:
            raise TooLongError(f"more than {self.max_s:g} s of audio")

    def _listened(self, window: Window) -> Listened | Silence:
        if self.network is None:
            return Listened(window, None)
        heard = listen(window.cut.samples, self.network, self.cutting.threshold, self.sure)
        if self.cutting.gate and not heard.spoken:
            return Silence(window.session, window.channel, window.start_frame, window.frames, window.places)
        return Listened(window, heard)


def listen(samples: NDArray[np.float32], network: Network, threshold: float, sure: float) -> Heard:
    """Listen to (n,) float32 at 16 kHz until somebody surely speaks, else to the end."""
    detector = SpeechDetector(network)
    speech = np.empty(0, np.float32)
    for start in range(0, len(samples), LISTEN_SAMPLES):
        speech = np.concatenate((speech, detector.push(samples[start : start + LISTEN_SAMPLES]).speech))
        if has_speech(speech, threshold) and (prob := speech_probability(speech)) >= sure:
            return Heard(True, len(samples) / TARGET_SAMPLE_RATE, prob)
    speech = np.concatenate((speech, detector.flush().speech))
    return Heard(has_speech(speech, threshold), speech_seconds(speech, threshold), speech_probability(speech))
