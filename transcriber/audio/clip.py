"""A recording that is there as a whole: cut as a file is, into windows at pauses and silences between them.

In: its format and its PCM in pieces. Out: what covers it, in order.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from transcriber.audio.format import AudioFormat
from transcriber.audio.media.pieces import Piece
from transcriber.audio.offsets import Known, Offsets
from transcriber.audio.pcm import count_frames
from transcriber.audio.session import Gap, Session, Silence, Window
from transcriber.audio.vad.detector import Network
from transcriber.audio.window import Cutting
from transcriber.errors import BadInputError, TooLongError


@dataclass(frozen=True, slots=True)
class Clip:
    """All of a recording. ``parts`` tile it, for each channel that is heard apart."""

    session: Session
    parts: list[Window | Silence | Gap]


@dataclass(frozen=True, slots=True)
class ClipCutter:
    """How clips are heard. Any thread.

    Attributes:
        cutting: how they are cut.
        network: hears whether anybody speaks; needed if ``cutting`` listens.
        max_s: seconds of audio that are taken.
    """

    cutting: Cutting
    network: Network | None
    max_s: float

    def cut(self, session_id: str, fmt: AudioFormat, pieces: Iterable[tuple[int, bytes] | Piece]) -> Clip:
        """The clip of these pieces: index of the first frame, whole frames of ``fmt``, and perhaps why something is missing there.

        Raises:
            TooLongError: more audio than is taken.
            BadInputError: no audio, or none that can be read.
        """
        session = Session(session_id, fmt, self.cutting, self.network, max_hole_s=self.max_s)
        session.offsets = Offsets(fmt, Known(0, exact=True))
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
        """See that so many frames are not too many.

        Raises:
            TooLongError: they are.
        """
        if frames > self.max_s * rate:
            raise TooLongError(f"more than {self.max_s:g} s of audio")
