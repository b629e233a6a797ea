"""What became of paced streams. In: a plan and the daemon's messages. Out: texts, gaps, ends; and how late each text came."""

import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field

from bench.lib.paced import PAYLOAD_FRAMES, Plan
from transcriber.bus.client_session import parse_transcript
from transcriber.bus.connection import NatsMessage
from transcriber.schema.messages import End, Final, Gap, Partial


@dataclass(frozen=True, slots=True)
class Account:
    """Of all streams of a plan, from their starts to their ends.

    Attributes:
        finals_s, partials_s: monotonic time at which each of ``finals`` and of ``partials`` came to us.
    """

    finals: list[Final] = field(default_factory=list)
    finals_s: list[float] = field(default_factory=list)
    partials: list[Partial] = field(default_factory=list)
    partials_s: list[float] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    ends: list[End] = field(default_factory=list)


async def account(messages: AsyncIterator[NatsMessage], plan: Plan) -> Account:
    """All that comes until every stream has ended."""
    came = Account()
    while len(came.ends) < len(plan.names):
        match parse_transcript(await anext(messages)):
            case Final() as final:
                came.finals.append(final)
                came.finals_s.append(time.monotonic())
            case Partial() as partial:
                came.partials.append(partial)
                came.partials_s.append(time.monotonic())
            case Gap() as gap:
                came.gaps.append(gap)
            case End() as end:
                came.ends.append(end)
            case _:
                pass
    return came


def after_audio_ms(plan: Plan, texts: Iterable[Final | Partial], heard_s: Iterable[float]) -> list[float]:
    """Of each text: from when the payload with its last frame was due, to when the text came to us at ``heard_s``.

    The daemon's look ahead is included: where a window is best cut is known up to 1.5 s later. The silence after which speech
    has ended is not: it is part of its window.
    """
    times_s = dict(zip(plan.names, plan.due_s, strict=True))
    return [
        1000 * float(at_s - times_s[text.stream][(text.start_frame + text.frames - 1) // PAYLOAD_FRAMES])
        for text, at_s in zip(texts, heard_s, strict=True)
    ]
