"""What became of paced streams. In: a plan and the daemon's messages. Out: texts, gaps, ends; and when each text was due."""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from bench.paced import FORMAT, PAYLOAD_BYTES, Plan
from transcriber.audio.run import Run
from transcriber.audio.window import Cutting
from transcriber.bus.client import Received, parse_transcript
from transcriber.messages import End, Final, Gap


@dataclass(frozen=True, slots=True)
class Account:
    """Of all streams of a plan, from their starts to their ends.

    Attributes:
        heard_s: monotonic time at which each of ``finals`` came to us.
    """

    finals: list[Final] = field(default_factory=list)
    heard_s: list[float] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    ends: list[End] = field(default_factory=list)


async def account(messages: AsyncIterator[Received], plan: Plan) -> Account:
    """All that comes until every stream has ended."""
    came = Account()
    while len(came.ends) < len(plan.names):
        match parse_transcript(await anext(messages)):
            case Final() as final:
                came.finals.append(final)
                came.heard_s.append(time.monotonic())
            case Gap() as gap:
                came.gaps.append(gap)
            case End() as end:
                came.ends.append(end)
            case _:
                pass
    return came


def due_s(plan: Plan, finals: list[Final], window_s: float) -> list[float]:
    """Of each text: the monotonic time at which the payload that completed its window was due."""
    run = Run(FORMAT, Cutting(window_s), None)
    payload = bytes(PAYLOAD_BYTES)
    completing = [number for number in range(plan.payloads) for _ in run.push(payload, eager=True)]
    completing.append(plan.payloads)  # the stream's end completes what is left
    times_s = dict(zip(plan.names, plan.due_s, strict=True))
    return [float(times_s[final.stream][completing[final.segment]]) for final in finals]
