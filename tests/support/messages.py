"""Messages of every kind, made from the least that a test wants to say."""

import re
from datetime import UTC, datetime
from typing import Any

from tests.support.waiting import settled
from transcriber.schema.messages import End, Final, Gap, Silence, Status, Timing, Transcribed

RATE = 48_000
TIMING = Timing(queue_ms=0, processing_ms=0, handover_ms=0, end_to_end_ms=0, rtf=0)
CUE = re.compile(r"(\d+)\n(\S+) --> (\S+)\n((?:.+\n)+)\n")


def common(start_s: float, duration_s: float, session: str = "a") -> dict[str, Any]:
    return {
        "stream": "radio",
        "session": session,
        "rate": RATE,
        "start_frame": round(start_s * RATE),
        "frames": round(duration_s * RATE),
        "start": start_s,
        "duration": duration_s,
        "received_at": datetime.now(UTC),
    }


def said(
    kind: type[Transcribed], text: str, start_s: float, duration_s: float = 5.0, session: str = "a", **more
) -> Any:
    unknown = dict.fromkeys(
        ["suppressed", "words", "language", "confidence", "avg_logprob", "no_speech_prob", "speaker", "captured_at"]
    )
    return kind(
        **common(start_s, duration_s, session), **unknown | more,
        segment=0, rev=0, text=text, speech_final=False, model="demo", timing=TIMING,
    )  # fmt: skip


def final(text: str, start_s: float, duration_s: float = 5.0, session: str = "a", *, speaker: str | None = None) -> Any:
    return said(Final, text, start_s, duration_s, session, speaker=speaker)


def gap(
    start_s: float, duration_s: float = 5.0, speaker: str | None = None, reason: Any = "queue_full", **more: Any
) -> Gap:
    return Gap(**common(start_s, duration_s), reason=reason, speaker=speaker, **more)


def silence(start_s: float, duration_s: float = 5.0, speaker: str | None = None) -> Silence:
    return Silence(**common(start_s, duration_s), speaker=speaker)


def started() -> Status:
    return Status(**common(0, 0), state="started")


def end(duration_s: float, session: str = "a") -> End:
    parts = ["received", "lost", "transcribed", "silent", "dropped"]
    account = {f"{part}_frames": 0 for part in parts} | {f"{part}_s": float(i) for i, part in enumerate(parts)}
    return End(**common(0, duration_s, session), segments=1, **account)


async def payloads_on(client, subject):
    """Payloads of messages on ``subject``, as a list that grows."""
    seen: list[bytes] = []

    async def note(message):
        seen.append(message.data)

    await client.subscribe(subject, cb=note)
    await settled(client)
    return seen
