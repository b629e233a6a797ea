"""One stream: the sessions that follow each other on one subject.

In: payloads with their headers. Out: what happened, in order: a session started, windows, silences and
gaps, a session ended.
"""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from transcriber.audio.codecs.pcm_payload import IgnoredPart, PcmPayload, read_payload
from transcriber.audio.format import AudioFormat, parse_content_type
from transcriber.audio.headers import NO_HEADERS, AudioHeaders
from transcriber.audio.session import Flushed, Gap, Session, Silence, Window
from transcriber.audio.vad.detector import Network
from transcriber.audio.window_policy import WindowPolicies
from transcriber.errors import BadInputError
from transcriber.schema.messages import GapReason


@dataclass(frozen=True, slots=True)
class Started:
    """A session's first payload arrived."""

    session: Session


@dataclass(frozen=True, slots=True)
class Ended:
    """No more audio will arrive; its windows may not be published yet."""

    session: Session


Event = Started | Window | Silence | Gap | Flushed | IgnoredPart | Ended


class Stream:
    """Sorts payloads into sessions. ``session`` is the open one, or None."""

    __slots__ = ("_default", "_exact_offsets", "_max_hole_s", "_network", "_new_id", "_policies", "session")

    def __init__(
        self,
        default: AudioFormat,
        policies: WindowPolicies,
        network: Network | None,
        *,
        max_hole_s: float,
        new_id: Callable[[], str],
        exact_offsets: bool = False,
        session: Session | None = None,
    ) -> None:
        """``network`` detects speech; it is needed if ``policies`` need a detector. ``session`` is one to resume.

        ``exact_offsets``: they are counted by this process, as for a file, not by a publisher.
        """
        self.session = session
        self._default = default
        self._policies = policies
        self._network = network
        self._max_hole_s = max_hole_s
        self._exact_offsets = exact_offsets
        self._new_id = new_id

    def feed(
        self, payload: bytes, headers: AudioHeaders, lost_before: GapReason | None = None, *, eager: bool = True
    ) -> list[Event]:
        """Take one message; returns the events that it causes.

        ``eager`` says whether windows should be closed where speech has ended, or rather be filled up.
        An empty payload is a heartbeat: it opens no session, but its offset, ``Audio-Flush`` and ``Audio-End`` count. What is ignored of a
        payload that can be read is an ``IgnoredPart``.

        Raises:
            BadInputError: the payload cannot be read; nothing was taken. ``skip`` adds the gap.
        """
        session = self.session
        pcm = read_payload(payload, headers.content_type, session.format if session else None, self._default)
        events: list[Event] = [*pcm.ignored]
        if session is not None and self._is_over(session, pcm, headers):
            events += self.end()
        if self.session is None and (pcm.frames or pcm.has_wav_header):
            events += self._open(pcm.format, headers.session)
        if (session := self.session) is None:
            return events
        events += self._take(session, pcm, headers, lost_before, eager=eager)
        events += self.flush() if headers.flush else []
        return events + self.end() if headers.end else events

    def skip(
        self,
        detail: str,
        headers: AudioHeaders = NO_HEADERS,
        fmt: AudioFormat | None = None,
        *,
        end: bool = False,
        flush: bool = False,
    ) -> list[Event]:
        """A payload could not be read, ``detail`` says why: a gap of 0 frames.

        The session that it opens, if none is open, is that of its ``headers``, and of ``fmt`` where that is known. ``end``, ``flush``: the
        stream, the open windows end after it.
        """
        events = [] if self.session else self._open(fmt or self._expected_format(headers), headers.session)
        events += self.session.skip(detail) if self.session else []
        events += self.flush() if flush else []
        return events + self.end() if end else events

    def _expected_format(self, headers: AudioHeaders) -> AudioFormat:
        """Of a payload of a new session that cannot be read."""
        if headers.content_type is not None:
            with contextlib.suppress(BadInputError):  # it may be why
                return parse_content_type(headers.content_type, self._default)
        return self._default

    def end_speech(self) -> list[Event]:
        """Returns the open windows in which speech has ended; the session goes on."""
        return list(self.session.end_speech()) if self.session else []

    def pause(self) -> list[Event]:
        """Audio pauses; returns the windows that were open. The session stays open."""
        return list(self.session.pause()) if self.session else []

    def flush(self) -> list[Event]:
        """The open windows end here; returns them. The session goes on."""
        return list(self.session.flush()) if self.session else []

    def time_out(self, silent_s: float, *, pause_s: float, end_s: float) -> list[Event]:
        """Nothing arrived for ``silent_s`` seconds: after ``pause_s`` the open windows are closed, after ``end_s`` the session."""
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
            self._policies,
            self._network,
            max_hole_s=self._max_hole_s,
            exact_offsets=self._exact_offsets,
        )
        return [Started(self.session)]

    @staticmethod
    def _take(
        session: Session, pcm: PcmPayload, headers: AudioHeaders, lost_before: GapReason | None, *, eager: bool
    ) -> Sequence[Event]:
        """Feed a payload at its place; without its offset if that is out of reach."""
        data, offset, at, unusable = pcm.data, headers.offset, headers.captured_at, pcm.unusable
        try:
            return session.feed(
                data, offset=offset, captured_at=at, lost_before=lost_before, eager=eager, unusable=unusable
            )
        except BadInputError as error:
            events = session.feed(data, captured_at=at, lost_before=lost_before, eager=eager, unusable=unusable)
            return [IgnoredPart("header", str(error)), *events]

    @staticmethod
    def _is_over(session: Session, pcm: PcmPayload, headers: AudioHeaders) -> bool:
        """Whether this payload belongs to another recording than ``session``."""
        return (
            (headers.session is not None and headers.session != session.id)
            or (
                pcm.format is not session.format
                and pcm.format != session.format
                and (pcm.frames > 0 or pcm.has_wav_header)
            )
            or (headers.offset is not None and session.restarted(headers.offset, pcm.frames))
        )
