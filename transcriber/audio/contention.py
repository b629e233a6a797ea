"""Two publishers on one stream: one is transcribed, and the other is reported.

In: which recording each message with audio claims to belong to, and when it arrived. Out: whether it is accepted. A publisher that
starts over begins another recording, too; so the first message of another one is always accepted. The older one is refused as long
as the newer one continues: two that replaced each other with every payload would be hundreds of sessions.

Decisions depend on the messages and their times alone, so that a daemon that resumes in durable mode decides the same.
"""

from enum import Enum, auto
from typing import NamedTuple

from transcriber.audio.codecs.stream_decoder import parse_encoding
from transcriber.audio.format import AudioFormat, parse_content_type
from transcriber.audio.headers import AudioHeaders
from transcriber.errors import BadInputError

PAUSE_S = 2.0
"""A publisher that sends nothing for so long may be replaced by the other one."""

FORGET_S = 10.0
"""A publisher that sent nothing for so long is gone: a message that matches it begins a new recording."""

NEAR_FRAMES = 480_000
"""Offsets further apart do not belong to one recording: 10 s at 48 kHz."""


class RecordingClaim(NamedTuple):
    """Which recording a message claims to belong to; None where it does not say.

    Attributes:
        session: its ``Audio-Session``.
        kind: the ``Content-Type`` of its format, or the name of an encoding.
        offset: its ``Audio-Offset``; for a recording, the latest.
    """

    session: str | None = None
    kind: str | None = None
    offset: int | None = None


class Contenders(NamedTuple):
    """The publishers of a stream: a value, so that it can be stored and restored.

    Attributes:
        heard: the accepted recording.
        heard_at_s: when its last message arrived, in seconds.
        other: the recording that it replaced; None if there is none.
        other_at_s: when its last message arrived, in seconds.
        noticed: whether ``other`` has sent anything since.
    """

    heard: RecordingClaim
    heard_at_s: float
    other: RecordingClaim | None = None
    other_at_s: float = 0.0
    noticed: bool = False


class Verdict(Enum):
    """The decision on one message."""

    ACCEPTED = auto()
    CONTENTION_OVER = auto()  # accepted, and the other publisher is gone
    CONTENTION_BEGUN = auto()  # refused, for the first time
    REFUSED = auto()


REFUSALS = frozenset({Verdict.CONTENTION_BEGUN, Verdict.REFUSED})


class Contention:
    """Decides which messages of one stream are accepted."""

    __slots__ = ("_at_s", "_default", "_now", "_offset", "_type")

    def __init__(self, default: AudioFormat, now: Contenders | None = None) -> None:
        """``default`` is the format of streams without a ``Content-Type``; ``now``: restored publishers."""
        self._default = default
        self._now: Contenders | None = None
        self._at_s = 0.0  # when the accepted recording's last message arrived
        self._offset: int | None = None  # its latest
        self._type: str | None = None  # its latest ``Content-Type``
        self._set(now)

    @property
    def now(self) -> Contenders | None:
        """The present publishers; None if there are none."""
        now = self._now
        if now is None:
            return None
        return now._replace(heard=now.heard._replace(offset=self._offset), heard_at_s=self._at_s)

    @property
    def detail(self) -> str:
        """Which recording is refused, in one line for its publisher."""
        other = self._now.other if self._now is not None else None
        sign = None if other is None else other.session or other.kind
        return f"two publishers on one stream: {sign!a} is refused while the newer one continues"

    def reset(self) -> None:
        """The recording has ended: the next message is accepted, whichever it belongs to."""
        self._set(None)

    def judge(self, headers: AudioHeaders, at_s: float) -> Verdict:
        """A message with audio arrived, at ``at_s`` seconds by the clock of messages."""
        now = self._now
        if now is not None and not now.noticed:  # then it nearly always belongs to the accepted recording
            session, kind, offset = headers.session, headers.content_type, headers.offset
            last = self._offset
            if (
                (session is None or session == now.heard.session)
                and (kind is None or kind == self._type)
                and (offset is None or last is None or -NEAR_FRAMES < offset - last < NEAR_FRAMES)
            ):
                self._at_s = at_s
                if offset is not None:
                    self._offset = offset
                return Verdict.ACCEPTED
        return self._judge(headers, at_s)

    def _judge(self, headers: AudioHeaders, at_s: float) -> Verdict:
        now = self.now
        claim = self._claim(headers)
        if (
            now is not None
            and now.other is not None
            and _is_of(claim, now.other)
            and not _is_of(claim, now.heard)
            and _both_go_on(now, at_s)
        ):
            self._now = now._replace(other=_joined(now.other, claim), other_at_s=at_s, noticed=True)
            return Verdict.REFUSED if now.noticed else Verdict.CONTENTION_BEGUN
        if now is None or not _is_of(claim, now.heard, after_any_hole=True):
            self._type = headers.content_type
            self._set(Contenders(claim, at_s, *((now.heard, now.heard_at_s) if now is not None else ())))
            return Verdict.ACCEPTED
        self._type = headers.content_type or self._type
        gone = now.noticed and at_s - now.other_at_s >= FORGET_S
        heard = _joined(now.heard, claim)
        self._set(now._replace(heard=heard, heard_at_s=at_s, noticed=now.noticed and not gone))
        return Verdict.CONTENTION_OVER if gone else Verdict.ACCEPTED

    def _set(self, now: Contenders | None) -> None:
        """Time and offset change with every message, so they are separate attributes."""
        self._now = now
        self._at_s, self._offset = (now.heard_at_s, now.heard.offset) if now is not None else (0.0, None)

    def _claim(self, headers: AudioHeaders) -> RecordingClaim:
        kind = None
        if headers.content_type is not None:
            if self._now is not None and headers.content_type == self._type:
                kind = self._now.heard.kind
            else:
                kind = self._kind(headers.content_type)
        elif self._now is None:
            kind = self._default.content_type
        return RecordingClaim(headers.session, kind, headers.offset)

    def _kind(self, content_type: str) -> str | None:
        """The format or encoding; None if it cannot be read: then the payload is reported."""
        if encoding := parse_encoding(content_type):
            return encoding
        try:
            return parse_content_type(content_type, self._default).content_type
        except BadInputError:
            return None


def _both_go_on(now: Contenders, at_s: float) -> bool:
    return at_s - now.heard_at_s < PAUSE_S and at_s - now.other_at_s < FORGET_S


def _is_of(claim: RecordingClaim, recording: RecordingClaim, *, after_any_hole: bool = False) -> bool:
    """Whether a message can belong to a recording; ``after_any_hole``: however much of it is missing before."""
    if claim.session is not None and claim.session != recording.session:
        return False
    if claim.kind is not None and recording.kind is not None and claim.kind != recording.kind:
        return False
    if claim.session is not None or claim.offset is None or recording.offset is None:
        return True
    ahead = claim.offset - recording.offset
    return ahead > -NEAR_FRAMES and (after_any_hole or ahead < NEAR_FRAMES)


def _joined(recording: RecordingClaim, claim: RecordingClaim) -> RecordingClaim:
    """The recording after a message of it."""
    offset = recording.offset if claim.offset is None else claim.offset
    return RecordingClaim(recording.session, claim.kind or recording.kind, offset)
