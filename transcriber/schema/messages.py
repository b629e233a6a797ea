"""Published messages, as pydantic models: one flat JSON object a message.

The JSON Schema and the AsyncAPI document are generated from these models. A field whose value is not
known is present and ``null``. Times in a stream are frames at the stream's own rate, counted from the
session's start; the same in seconds are unrounded doubles.
"""

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, TypeAdapter

from transcriber.schema.base import Frames, MessageModel, Milliseconds, Probability, Seconds
from transcriber.schema.checkpoint import Checkpoint

SCHEMA_VERSION: Literal[1] = 1

GapReason = Literal["queue_full", "slow_consumer", "lost_input", "bad_input", "engine_error", "shutdown"]
LOST_REASONS: frozenset[GapReason] = frozenset({"slow_consumer", "lost_input"})
"""Reasons of gaps whose frames are lost; the frames of all others were received, and are dropped."""

Suppressed = Literal["no_speech", "token_cap", "log_probability", "repetition", "rate", "max_payload"]
"""Why text is suppressed: each is also a series of ``transcriber.text.suppressed``. ``max_payload``: only its end, as the broker
accepts no larger message."""

SkippedRevision = Literal["same", "shorter", "doubted", "busy", "suspect", "gone"]
"""Why a second pass gives no ``revision``: its text is the same, or shorter; a guard doubts it, or it is less likely; there was no time;
an earlier daemon may have died of it; or its audio is no longer stored."""

StreamState = Literal["started", "stalled", "silent", "contended", "resumed", "flushed"]

JobState = Literal["queued", "running", "done", "failed", "cancelled"]
"""Of a file job."""

ENDED_STATES: frozenset[JobState] = frozenset({"done", "failed", "cancelled"})
"""The final states of a job."""

BRIDGED_S = 0.2
"""A hole up to this is filled with silence, and the window stays open: a cut costs more words than the hole, up to twice
as long (``bench/holes.py``), and no other filling is clearly better.
"""

MAX_DETAIL = 200
"""Characters."""

MAX_HELD_BACK = 20
"""Windows with suppressed text, and gaps, that are reported beside a result; a ``verbose_json`` has all of them."""

Speaker = Annotated[
    str | None,
    Field(
        description="channel, from `0`, with `SPEAKERS=channels`; a voice, from `A`, with `SPEAKERS=voices`, then of text the one"
        " that most of its words have; null: all, or not distinguished"
    ),
]

Flushed = Annotated[bool, Field(description="the window ended here because the publisher asked for it: `Audio-Flush`")]


class Word(MessageModel):
    """One word of a transcript."""

    word: str = Field(description="as written, with its punctuation")
    start: Seconds = Field(description="seconds from the session's start")
    end: Seconds = Field(description="seconds from the session's start")
    confidence: Probability | None
    speaker: str | None = Field(None, description="its voice, from `A`; null: not distinguished by voice")


class Turn(MessageModel):
    """One stretch of one speaker, by voice."""

    speaker: str = Field(description="from `A`")
    start: Seconds = Field(description="seconds from the session's start")
    end: Seconds = Field(description="seconds from the session's start")


class HeldBack(MessageModel):
    """Text of whisper that a guard suppressed."""

    start: Seconds = Field(description="of its window, from the session's start")
    end: Seconds
    reason: Suppressed


class Untranscribed(MessageModel):
    """Audio that was not transcribed; if it ends where it begins, its length is not known."""

    start: Seconds
    end: Seconds
    reason: GapReason


class Timing(MessageModel):
    """Processing times of a window."""

    queue_ms: Milliseconds = Field(description="from entering the queue to the worker")
    processing_ms: Milliseconds = Field(description="inside whisper calls only")
    handover_ms: Milliseconds = Field(description="from the result to the NATS client")
    end_to_end_ms: Milliseconds = Field(description="from the arrival of the completing payload to the NATS client")
    rtf: float = Field(ge=0, description="processing time over the window's duration")


class Message(MessageModel):
    """The fields of every message."""

    schema_: Literal[1] = Field(SCHEMA_VERSION, alias="schema", description="version of this schema")
    stream: str = Field(description="last token of the audio's subject")
    session: str = Field(description="`Audio-Session`, else a ULID; durable: else the sequence of its first payload")
    rate: int = Field(gt=0, description="the stream's own sample rate, Hz")
    start_frame: Frames = Field(description="first frame that this message is about, counted from the session's start")
    frames: Frames = Field(description="number of frames that it is about")
    start: Seconds = Field(description="start_frame / rate")
    duration: Seconds = Field(description="frames / rate")
    received_at: AwareDatetime = Field(description="wall clock when the completing payload arrived")
    first_seq: int | None = Field(None, description="durable: stream sequence of the first payload that it is about")
    last_seq: int | None = Field(None, description="durable: stream sequence of the completing payload")
    lag_s: Seconds | None = Field(None, description="durable: seconds since the broker stored that payload")
    checkpoint: Checkpoint | None = Field(None, description="durable: for the daemon that resumes")


class Transcribed(Message):
    """Text of a range of frames."""

    segment: int = Field(
        ge=0, description="number of the window in its session, from 0; a gap takes its number with it"
    )
    rev: int = Field(ge=0)
    text: str = Field(
        description="empty if there was no speech; where a guard suppressed it, only the words that the window before held back;"
        " where it is too large for the broker, its beginning"
    )
    suppressed: Suppressed | None = Field(description="why whisper's text is suppressed")
    words: tuple[Word, ...] | None = Field(
        description="in order; the first may lie before the range, as the window before held them back; null: not known, or"
        " too large for one message"
    )
    language: str | None = Field(description="ISO 639-1")
    confidence: Probability | None = Field(description="exp(avg_logprob)")
    avg_logprob: Annotated[float, Field(le=0)] | None
    no_speech_prob: Probability | None = Field(
        description="always null: whisper.cpp reads it from the wrong row of its logits"
    )
    speech_final: bool = Field(description="speech had ended when the window was closed")
    speaker: Speaker
    turns: tuple[Turn, ...] | None = Field(
        None,
        description="who speaks when in the range, by voice, in order of their starts; those of two overlap where both speak;"
        " null: a partial, or voices are not distinguished, or it was not found",
    )
    model: str
    timing: Timing
    captured_at: AwareDatetime | None = Field(description="capture time of the first frame, from `Audio-Time`")


class Final(Transcribed):
    """The text of a window; changes only through a `revision`."""

    type: Literal["final"] = "final"
    flushed: Flushed = False


class Partial(Transcribed):
    """A preliminary text of the open window; replaces the one before."""

    type: Literal["partial"] = "partial"


class Revision(Transcribed):
    """A later transcription of a `gap`, or a better one of several `final`s."""

    type: Literal["revision"] = "revision"
    last_segment: int = Field(ge=0, description="number of the last window it covers; `segment` is the first")
    replaces: tuple[str, ...] = Field(
        min_length=1, description="`Nats-Msg-Id` of each message that it replaces; each is replaced at most once"
    )


class Silence(Message):
    """A window without speech, which whisper was not run on."""

    type: Literal["silence"] = "silence"
    speaker: Speaker
    flushed: Flushed = False


class Gap(Message):
    """Audio that was not transcribed; with 0 frames, of unknown length."""

    type: Literal["gap"] = "gap"
    reason: GapReason
    speaker: Speaker
    detail: str | None = Field(
        None,
        max_length=MAX_DETAIL,
        pattern="^[ -~]*$",
        description="more than `reason` says, such as what is wrong with a payload: one line; null: nothing",
    )
    flushed: Flushed = False


class Status(Message):
    """A change of the stream's state at `start_frame`."""

    type: Literal["status"] = "status"
    state: StreamState


class Progress(Message):
    """Progress of a file job; not stored. `frames` and `duration` are the part that is done, from its start."""

    type: Literal["progress"] = "progress"
    state: JobState
    total: Seconds | None = Field(description="length of the file in seconds; null: not known")
    eta: Seconds | None = Field(description="seconds until it is done, at the present speed; null: not known")
    attempt: int = Field(ge=0, description="`attempts` of the record: ten completed windows offset one")
    error: str | None = Field(description="why it failed, or was restarted")


class End(Message):
    """The end of a session: its last message, with its frame account.

    `received = transcribed + silent + dropped` and `frames = received + lost`, to the frame. Where channels are transcribed
    separately, a frame counts as dropped if it was for any of them, else as transcribed if it was for any.
    """

    type: Literal["end"] = "end"
    rev: int = Field(0, ge=0)
    segments: int = Field(ge=0, description="number of finals")
    received_frames: Frames
    lost_frames: Frames
    transcribed_frames: Frames
    silent_frames: Frames
    dropped_frames: Frames
    received_s: Seconds
    lost_s: Seconds
    transcribed_s: Seconds
    silent_s: Seconds
    dropped_s: Seconds


AnyMessage = Annotated[
    Final | Partial | Silence | Gap | Revision | Status | Progress | End, Field(discriminator="type")
]
"""Any message on ``transcripts.<stream>.<type>``."""

ANY_MESSAGE: TypeAdapter[AnyMessage] = TypeAdapter(AnyMessage)


class Latency(MessageModel):
    """A histogram since the start: counts of values up to each bound, and above the last."""

    count: int
    sum_ms: float
    p50_ms: float | None = Field(description="upper bound of the median's bucket; in the last one the largest value")
    p95_ms: float | None = Field(description="the same of the 95th percentile")


class Metrics(MessageModel):
    """The metrics of one daemon, on `transcriber.metrics.<instance>`; counters since its start."""

    schema_: Literal[1] = Field(SCHEMA_VERSION, alias="schema")
    type: Literal["metrics"] = "metrics"
    instance: str
    at: AwareDatetime
    metrics: dict[str, int | float | Latency | dict[str, int]] = Field(
        description="by instrument name; counters with a reason are objects, reason to count"
    )


def held_back(message: AnyMessage) -> HeldBack | None:
    """The suppressed text of a message as ``HeldBack``; None if there is none."""
    if not isinstance(message, Final) or message.suppressed is None:
        return None
    return HeldBack(start=message.start, end=message.start + message.duration, reason=message.suppressed)


def untranscribed(message: AnyMessage) -> Untranscribed | None:
    """A gap as ``Untranscribed``; None if the message is none, or if it was bridged for its length."""
    if not isinstance(message, Gap) or 0 < message.frames <= BRIDGED_S * message.rate:
        return None
    return Untranscribed(start=message.start, end=message.start + message.duration, reason=message.reason)


def message_id(stream: str, session: str, start_frame: int, kind: str, rev: int, channel: int = 0) -> str:
    """``Nats-Msg-Id``: the same range of the same session always has the same one."""
    return f"{stream}:{session}:{channel}:{start_frame}:{kind}:{rev}"
