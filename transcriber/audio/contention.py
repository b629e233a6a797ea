"""Two publishers on one stream: one is heard, and it is said that there is another.

In: what each message says of the recording that it belongs to, and when it came. Out: whether it is to be taken. A publisher
that begins again is another recording, too; so the first message of another one is always taken. Who comes back after that,
while the newer one goes on, is not: two that pushed each other out with every payload would be hundreds of sessions.

What is decided depends on the messages and their times alone, so that whoever goes on in durable mode decides the same.
"""

from typing import NamedTuple

from transcriber.audio.pcm import AudioFormat

PAUSE_S = 2.0
"""Who sends nothing for so long may be replaced by the other one."""

FORGET_S = 10.0
"""Who was not heard of for so long is gone: what looks like it is a new recording."""

NEAR_S = 10.0
"""Offsets so far apart are not of one count."""


class Claim(NamedTuple):
    """What a message says of its recording; None where nothing.

    Attributes:
        session: its ``Audio-Session``.
        kind: its format, or what it is encoded as.
        offset: its ``Audio-Offset``; in what is kept of a recording, that of the next message.
        frames: that it has, 0 if it is encoded.
    """

    session: str | None
    kind: AudioFormat | str | None
    offset: int | None = None
    frames: int = 0


class Contenders(NamedTuple):
    """Who publishes: a value, so that whoever goes on from a message decides alike.

    Attributes:
        heard: the recording that is taken, and when it last was.
        other: the one that it pushed out, and when that was last heard of; None if there is none.
        told: whether it was said that ``other`` goes on.
    """

    heard: Claim
    heard_at_s: float
    other: Claim | None = None
    other_at_s: float = 0.0
    told: bool = False


class Contention:
    """Of one stream.

    Attributes:
        contenders: who publishes; None: nobody does at present. Can be put back to what it was.
    """

    def __init__(self, contenders: Contenders | None = None) -> None:
        self.contenders = contenders

    def over(self) -> None:
        """The recording has ended: whoever comes is welcome."""
        self.contenders = None

    def refuses(self, claim: Claim, at_s: float) -> bool:
        """Whether a message with audio, at ``at_s`` by the clock of messages, is of the publisher that is not heard."""
        now = self.contenders
        if now is None:
            self.contenders = Contenders(_after(claim, claim), at_s)
        elif _is_of(claim, now.heard):
            told = now.told and at_s - now.other_at_s < FORGET_S
            self.contenders = now._replace(heard=_after(claim, now.heard), heard_at_s=at_s, told=told)
        elif now.other and _is_of(claim, now.other) and self._goes_on(now, at_s):
            self.contenders = now._replace(other=_after(claim, now.other), other_at_s=at_s, told=True)
            return True
        else:
            self.contenders = Contenders(_after(claim, claim), at_s, now.heard, now.heard_at_s)
        return False

    @staticmethod
    def _goes_on(now: Contenders, at_s: float) -> bool:
        """Whether both publish."""
        return at_s - now.heard_at_s < PAUSE_S and at_s - now.other_at_s < FORGET_S


def _is_of(claim: Claim, recording: Claim) -> bool:
    """Whether a message can belong to a recording."""
    if claim.session is not None and claim.session != recording.session:
        return False
    if claim.kind is not None and recording.kind is not None and claim.kind != recording.kind:
        return False
    if claim.session is not None or claim.offset is None or recording.offset is None:
        return True
    rate = recording.kind.rate if isinstance(recording.kind, AudioFormat) else 48_000
    return abs(claim.offset - recording.offset) < NEAR_S * rate


def _after(claim: Claim, recording: Claim) -> Claim:
    """The recording, with where its next message belongs."""
    offset = recording.offset if claim.offset is None else claim.offset
    return Claim(
        recording.session if claim.session is None else claim.session,
        recording.kind if claim.kind is None else claim.kind,
        None if offset is None else offset + claim.frames,
    )
