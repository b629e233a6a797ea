"""The state of a stream that a stored message carries for the next daemon, as pydantic models. Plain data; no I/O."""

from pydantic import AwareDatetime, Field

from transcriber.schema.base import Frames, StateModel


class PlaceState(StateModel):
    """Where one channel goes on."""

    frame: Frames = Field(description="first frame of its next window")
    lead: Frames = Field(description="frames before it that the window hears again")
    run_start: Frames = Field(description="where the uninterrupted audio it is in began")
    number: int = Field(ge=0, description="of its next window")
    goes_on: bool = Field(False, description="whether the last words before it were left to it")
    follows: bool = Field(False, description="whether the window before it was cut in the midst of speech")


class WrittenState(StateModel):
    """What of a speaker's text the next window will hear again, in seconds of the session."""

    until_s: float = Field(description="end of the last word; negative: the next window does not follow upon it")
    words: tuple[tuple[str, float, float], ...] = Field(description="each with its start and end")
    held: tuple[tuple[str, float, float, float], ...] = Field(
        description="words that the next window is to publish: start, end, confidence"
    )
    language: str | None
    from_s: float = Field(0.0, description="nothing that was said before is to be published any more")


class SpokenState(StateModel):
    """What a speaker's windows have shown of the language."""

    language: str | None = Field(None, description="to hear the next window in; null: not known yet")
    sure: bool = Field(False, description="whether it is asked for again only if the text is unlikely")
    scores: tuple[tuple[str, float], ...] = Field(
        (),
        description="natural logarithms. Not sure: of the likeliest ones' probabilities; sure: of the odds of others",
    )
    speech_s: float = Field(0.0, ge=0, description="seconds of speech that these are of, while not sure")


class SpeakerState(StateModel):
    """What is kept of one speaker from window to window."""

    said: str = Field(description="prompt for the next window")
    written: WrittenState
    spoken: SpokenState = SpokenState()


class AccountState(StateModel):
    """What became of all frames so far."""

    sums: dict[str, int] = Field(description="frames by fate, of those before `settled`")
    settled: Frames
    open: tuple[tuple[tuple[int, int, str], ...], ...] = Field(description="by channel: start, end and fate beyond it")


class OffsetsState(StateModel):
    """What is known of the publisher's `Audio-Offset`."""

    origin: float = Field(description="the one of frame 0, in frames")
    jitter: float = Field(ge=0, description="frames by which they were wrong lately")
    last: int = Field(ge=0, description="the furthest")
    frames: Frames = Field(description="of its payload")
    placed: Frames = Field(description="where that began")
    unit: float = Field(ge=0, description="offsets in a frame; 0: they count nothing")
    odd: int = Field(ge=-1, description="steps that looked like `guess`; -1: the unit is known")
    guess: float = Field(ge=0)
    exact: bool = Field(False, description="they are a daemon's own count, as of a file")


class ClaimState(StateModel):
    """What tells one recording on a stream from another."""

    session: str | None = Field(description="its `Audio-Session`")
    kind: str | None = Field(description="`Content-Type`, or name of an encoding")
    offset: int | None = Field(description="the latest `Audio-Offset`")


class ContendersState(StateModel):
    """Who publishes on the stream."""

    heard: ClaimState
    heard_at_s: float = Field(description="when it last was, Unix time")
    other: ClaimState | None = Field(description="the one that it pushed out")
    other_at_s: float
    noticed: bool = Field(description="whether that one has gone on since")


class SessionState(StateModel):
    """An open session, as far as its stored messages go."""

    id: str
    format: str = Field(description="`Content-Type`")
    clock: Frames = Field(description="frame at which the payload `seq` of the checkpoint begins")
    received: Frames | None = Field(None, description="frames that came before `clock`; null: all that were not lost")
    offsets: OffsetsState | None = Field(None, description="as of then; null: there were none")
    contenders: ContendersState | None = Field(None, description="as of then; null: nobody")
    heard_at: AwareDatetime | None = Field(description="when audio was last stored before that")
    captured: tuple[int, AwareDatetime] | None = Field(description="a frame, and when it was captured")
    skipped_at: int | None = Field(description="frame at which unreadable payloads were last told of")
    places: tuple[PlaceState, ...]
    account: AccountState
    segments: int = Field(ge=0)
    ending: bool = Field(description="no more audio will come; its `end` is still to be told")
    language: str | None = Field(description="what its publisher had said by then; null: each speaker's is detected")
    prompt: str = Field("", description="names and terms that its publisher expected by then")
    traceparent: str | None
    statuses: int = Field(ge=0, description="how many were told")
    unknown_gaps: int = Field(ge=0, description="how many of no known length were told")
    speakers: tuple[SpeakerState, ...]


class Checkpoint(StateModel):
    """All that a starting daemon needs to go on after this message."""

    instance: str = Field(description="the daemon that stored it")
    seq: int = Field(
        ge=0, description="stream sequence from which audio is to be read; what is before it is acknowledged"
    )
    attempts: int = Field(ge=0, description="daemons that began with the next window and did not come back")
    owed_from: int | None = Field(
        None,
        ge=0,
        description="sequence of a transcript: what was said after it may be heard again; null: not known",
    )
    session: SessionState | None = Field(description="null: between sessions")
