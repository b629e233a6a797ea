"""One stream: the sessions that follow each other on one subject.

In: payloads with their headers. Out: what happened, in order: a session started, windows, silences and
gaps, a session ended.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from transcriber.audio.format import AudioFormat
from transcriber.audio.headers import AudioHeaders
from transcriber.audio.payload import Odd, Sound, read_sound
from transcriber.audio.session import Gap, Session, Silence, Window
from transcriber.audio.vad.detector import Network
from transcriber.audio.window import Cutting
from transcriber.errors import BadInputError
from transcriber.schema.messages import GapReason


@dataclass(frozen=True, slots=True)
class Started:
    """A session's first payload came."""

    session: Session


@dataclass(frozen=True, slots=True)
class Ended:
    """No more audio will come; its windows may still be on their way."""

    session: Session


Event = Started | Window | Silence | Gap | Odd | Ended


class Stream:
    """Sorts payloads into sessions. ``session`` is the open one, or None."""

    __slots__ = ("_cutting", "_default", "_exact_offsets", "_max_hole_s", "_network", "_new_id", "session")

    def __init__(
        self,
        default: AudioFormat,
        cutting: Cutting,
        network: Network | None,
        *,
        max_hole_s: float,
        new_id: Callable[[], str],
        exact_offsets: bool = False,
        session: Session | None = None,
    ) -> None:
        """``network`` hears speech; it is needed if ``cutting`` listens. ``session`` is one to go on with.

        ``exact_offsets``: they are our own count, as of a file, and no publisher's.
        """
        self.session = session
        self._default = default
        self._cutting = cutting
        self._network = network
        self._max_hole_s = max_hole_s
        self._exact_offsets = exact_offsets
        self._new_id = new_id

    def feed(
        self, payload: bytes, headers: AudioHeaders, lost_before: GapReason | None = None, *, eager: bool = True
    ) -> list[Event]:
        """Take one message; returns what it brought about.

        ``eager`` says whether windows should be closed where speech has ended, or rather be filled up.
        An empty payload is a heartbeat: it opens no session, but its offset and ``Audio-End`` count. What is passed over
        of a payload that can be read is ``Odd``.

        Raises:
            BadInputError: the payload cannot be read; nothing was taken. ``skip`` says so in the stream.
        """
        session = self.session
        sound = read_sound(payload, headers.content_type, session.format if session else None, self._default)
        events: list[Event] = [*sound.odd]
        if session is not None and self._is_over(session, sound, headers):
            events += self.end()
        if self.session is None and (sound.frames or sound.headed):
            events += self._open(sound.format, headers.session)
        if (session := self.session) is None:
            return events
        events += self._take(session, sound, headers, lost_before, eager=eager)
        return events + self.end() if headers.end else events

    def skip(self, detail: str, fmt: AudioFormat | None = None, *, end: bool = False) -> list[Event]:
        """A payload could not be read, ``detail`` says why: a gap of 0 frames.

        ``fmt`` is what it was expected to hold; ``end``: its headers say that the stream ends after it.
        """
        events = [] if self.session else self._open(fmt or self._default, None)
        events += self.session.skip(detail) if self.session else []
        return events + self.end() if end else events

    def pause(self) -> list[Event]:
        """Nothing comes for the time being; returns the windows that were open. The session goes on."""
        return list(self.session.pause()) if self.session else []

    def rest(self, silent_s: float, *, pause_s: float, end_s: float) -> list[Event]:
        """Nothing came for ``silent_s`` seconds: after ``pause_s`` of them the open windows are over, after ``end_s`` the session."""
        return self.end() if silent_s >= end_s else self.pause() if silent_s >= pause_s else []

    def end(self, lost_before: GapReason | None = None) -> list[Event]:
        """Close the open session, if any; returns its last windows and its end."""
        session, self.session = self.session, None
        return [*session.close(lost_before), Ended(session)] if session else []

    def _open(self, fmt: AudioFormat, session_id: str | None) -> list[Event]:
        session_id = session_id or self._new_id()
        self.session = Session(
            session_id,
            fmt,
            self._cutting,
            self._network,
            max_hole_s=self._max_hole_s,
            exact_offsets=self._exact_offsets,
        )
        return [Started(self.session)]

    @staticmethod
    def _take(
        session: Session, sound: Sound, headers: AudioHeaders, lost_before: GapReason | None, *, eager: bool
    ) -> Sequence[Event]:
        """Feed a payload where it belongs; an offset out of reach costs no audio."""
        data, offset, at, unfit = sound.data, headers.offset, headers.captured_at, sound.unfit
        try:
            return session.feed(data, offset=offset, captured_at=at, lost_before=lost_before, eager=eager, unfit=unfit)
        except BadInputError as error:
            heard = session.feed(data, captured_at=at, lost_before=lost_before, eager=eager, unfit=unfit)
            return [Odd("header", str(error)), *heard]

    @staticmethod
    def _is_over(session: Session, sound: Sound, headers: AudioHeaders) -> bool:
        """Whether this payload belongs to another recording than ``session``."""
        return (
            (headers.session is not None and headers.session != session.id)
            or (
                sound.format is not session.format
                and sound.format != session.format
                and (sound.frames > 0 or sound.headed)
            )
            or (headers.offset is not None and session.began_again(headers.offset, sound.frames))
        )
