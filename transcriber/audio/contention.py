"""Two publishers on one stream: one is heard, and it is said that there is another.

In: what each message with audio says of the recording that it belongs to, and when it came. Out: whether it is heard. A
publisher that begins again is another recording, too; so the first message of another one is always heard. Who comes back
after that, while the newer one goes on, is not: two that pushed each other out with every payload would be hundreds of
sessions.

What is decided depends on the messages and their times alone, so that whoever goes on in durable mode decides the same.
"""

from enum import Enum, auto
from typing import NamedTuple

from transcriber.audio.codecs.stream_decoder import parse_encoding
from transcriber.audio.format import AudioFormat, parse_content_type
from transcriber.audio.headers import AudioHeaders
from transcriber.errors import BadInputError

PAUSE_S = 2.0
"""Who sends nothing for so long may be replaced by the other one."""

FORGET_S = 10.0
"""Who was not heard of for so long is gone: what looks like it is a new recording."""

NEAR_FRAMES = 480_000
"""Offsets that are further apart are not of one count: 10 s at 48 kHz."""


class Claim(NamedTuple):
    """Which recording a message belongs to; None where it does not say.

    Attributes:
        session: its ``Audio-Session``.
        kind: the ``Content-Type`` of its format, or the name of an encoding.
        offset: its ``Audio-Offset``; of a recording, the latest.
    """

    session: str | None = None
    kind: str | None = None
    offset: int | None = None


class Contenders(NamedTuple):
    """Who publishes: a value, so that whoever goes on from a message decides alike.

    Attributes:
        heard: the recording that is heard, and when it last was, in seconds.
        other: the one that it pushed out, and when that was last heard of; None if there is none.
        noticed: whether ``other`` has gone on since.
    """

    heard: Claim
    heard_at_s: float
    other: Claim | None = None
    other_at_s: float = 0.0
    noticed: bool = False


class Verdict(Enum):
    """On one message."""

    HEARD = auto()
    ALONE = auto()  # heard, and the other publisher is gone
    NOTICED = auto()  # refused, and that is news
    REFUSED = auto()


REFUSALS = frozenset({Verdict.NOTICED, Verdict.REFUSED})


class Contention:
    """Of one stream."""

    __slots__ = ("_at_s", "_default", "_now", "_offset", "_type")

    def __init__(self, default: AudioFormat, now: Contenders | None = None) -> None:
        """``default`` is the format of streams that say nothing; ``now``: who publishes, as somebody else knew it."""
        self._default = default
        self._now: Contenders | None = None
        self._at_s = 0.0  # when the recording that is heard last was
        self._offset: int | None = None  # the latest of it
        self._type: str | None = None  # the latest ``Content-Type`` of the recording that is heard
        self._set(now)

    @property
    def now(self) -> Contenders | None:
        """Who publishes; None: nobody does at present."""
        now = self._now
        if now is None:
            return None
        return now._replace(heard=now.heard._replace(offset=self._offset), heard_at_s=self._at_s)

    @property
    def detail(self) -> str:
        """Who is not heard, in one line for its publisher."""
        other = self._now.other if self._now is not None else None
        sign = None if other is None else other.session or other.kind
        return f"two publishers on one stream: {sign!a} is not heard while the newer one goes on"

    def over(self) -> None:
        """The recording has ended: whoever comes is heard."""
        self._set(None)

    def judge(self, headers: AudioHeaders, at_s: float) -> Verdict:
        """A message with audio came, at ``at_s`` seconds by the clock of messages."""
        now = self._now
        if now is not None and not now.noticed:  # then nearly always the recording that is heard goes on
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
                return Verdict.HEARD
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
            return Verdict.REFUSED if now.noticed else Verdict.NOTICED
        if now is None or not _is_of(claim, now.heard, after_any_hole=True):
            self._type = headers.content_type
            self._set(Contenders(claim, at_s, *((now.heard, now.heard_at_s) if now is not None else ())))
            return Verdict.HEARD
        self._type = headers.content_type or self._type
        gone = now.noticed and at_s - now.other_at_s >= FORGET_S
        heard = _joined(now.heard, claim)
        self._set(now._replace(heard=heard, heard_at_s=at_s, noticed=now.noticed and not gone))
        return Verdict.ALONE if gone else Verdict.HEARD

    def _set(self, now: Contenders | None) -> None:
        """Time and offset change with every message, and are kept apart."""
        self._now = now
        self._at_s, self._offset = (now.heard_at_s, now.heard.offset) if now is not None else (0.0, None)

    def _claim(self, headers: AudioHeaders) -> Claim:
        kind = None
        if headers.content_type is not None:
            if self._now is not None and headers.content_type == self._type:
                kind = self._now.heard.kind
            else:
                kind = self._kind(headers.content_type)
        elif self._now is None:
            kind = self._default.content_type
        return Claim(headers.session, kind, headers.offset)

    def _kind(self, content_type: str) -> str | None:
        """None if it says nothing that is read: then that is said of the payload."""
        if encoding := parse_encoding(content_type):
            return encoding
        try:
            return parse_content_type(content_type, self._default).content_type
        except BadInputError:
            return None


def _both_go_on(now: Contenders, at_s: float) -> bool:
    return at_s - now.heard_at_s < PAUSE_S and at_s - now.other_at_s < FORGET_S


def _is_of(claim: Claim, recording: Claim, *, after_any_hole: bool = False) -> bool:
    """Whether a message can belong to a recording; ``after_any_hole``: however much of it is missing before."""
    if claim.session is not None and claim.session != recording.session:
        return False
    if claim.kind is not None and recording.kind is not None and claim.kind != recording.kind:
        return False
    if claim.session is not None or claim.offset is None or recording.offset is None:
        return True
    ahead = claim.offset - recording.offset
    return ahead > -NEAR_FRAMES and (after_any_hole or ahead < NEAR_FRAMES)


def _joined(recording: Claim, claim: Claim) -> Claim:
    """The recording after a message of it."""
    offset = recording.offset if claim.offset is None else claim.offset
    return Claim(recording.session, claim.kind or recording.kind, offset)
