"""A whole recording, cut as a file is: into windows at pauses, and silences between them.

In: its format and its PCM in pieces. Out: windows, silences and gaps that cover it, in order.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from transcriber.audio.codecs.pcm import count_frames
from transcriber.audio.format import AudioFormat
from transcriber.audio.media.pieces import Piece
from transcriber.audio.offsets import Offsets, OffsetsSnapshot
from transcriber.audio.session import Gap, Session, Silence, Window
from transcriber.audio.vad.detector import Network
from transcriber.audio.window_policy import WindowPolicy
from transcriber.errors import BadInputError, TooLongError


@dataclass(frozen=True, slots=True)
class Clip:
    """A whole recording. ``parts`` tile it, for each channel that is transcribed separately."""

    session: Session
    parts: list[Window | Silence | Gap]


@dataclass(frozen=True, slots=True)
class ClipCutter:
    """Cuts clips into windows. Any thread.

    Attributes:
        policy: how they are cut.
        network: detects speech; needed if ``policy.needs_detector``.
        max_s: seconds of audio that are accepted.
    """

    policy: WindowPolicy
    network: Network | None
    max_s: float

    def cut(self, session_id: str, fmt: AudioFormat, pieces: Iterable[tuple[int, bytes] | Piece]) -> Clip:
        """The clip of these pieces: index of the first frame, whole frames of ``fmt``, and possibly why audio is missing there.

        Raises:
            TooLongError: more audio than is accepted.
            BadInputError: no audio, or none that can be read.
        """
        session = Session(session_id, fmt, self.policy, self.network, max_hole_s=self.max_s)
        session.offsets = Offsets(fmt, OffsetsSnapshot(0, exact=True))
        found: list[Window | Silence | Gap] = []
        place, rest = 0, b""
        for frame, data, *missing in pieces:
            self.check_length(frame + count_frames(data, fmt), fmt.rate)
            found += session.feed(rest, offset=place)
            place, rest = frame, data
            if any(missing):
                found += [*session.feed(rest, offset=place), *session.skip(*missing)]
        if place > session.clock:  # it lies behind a hole
            found += session.feed(rest, offset=place)
            rest = b""
        found += session.close(rest=rest)
        if not session.received:
            raise BadInputError("there is no audio in it")
        return Clip(session, found)

    def check_length(self, frames: int, rate: int) -> None:
        """Check a length in frames.

        Raises:
            TooLongError: it is more than is accepted.
        """
        if frames > self.max_s * rate:
            raise TooLongError(f"more than {self.max_s:g} s of audio")
