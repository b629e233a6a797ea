"""The state of a stream that a stored message carries for the daemon that resumes, as pydantic models. Plain data; no I/O."""

from base64 import b64decode

from pydantic import AwareDatetime, Field, field_validator

from transcriber.schema.base import Frames, StateModel


class PlaceState(StateModel):
    """Where one channel resumes."""

    frame: Frames = Field(description="first frame of its next window")
    lead: Frames = Field(description="frames before it that the window includes again")
    run_start: Frames = Field(description="first frame of the uninterrupted audio that it belongs to")
    number: int = Field(ge=0, description="of its next window")
    goes_on: bool = Field(False, description="whether the last words before it were left to it")
    follows: bool = Field(False, description="whether the window before it was cut in the middle of speech")
    settings: dict[str, bool | int | float | str | None] = Field(
        {}, description="live settings of that window, where they are not the environment's"
    )


class WrittenState(StateModel):
    """The end of a speaker's text, whose audio is the left context of the next window; in seconds of the session."""

    until_s: float = Field(description="end of the last word; negative: the next window does not follow it")
    words: tuple[tuple[str, float, float], ...] = Field(description="each with its start and end")
    held: tuple[tuple[str, float, float, float], ...] = Field(
        description="words that the next window is to publish: start, end, confidence"
    )
    language: str | None
    from_s: float = Field(0.0, description="words before this are published already")


class SpokenState(StateModel):
    """What a speaker's windows have shown about the language."""

    language: str | None = Field(None, description="to transcribe the next window in; null: not known yet")
    sure: bool = Field(False, description="whether it is detected again only if the text is unlikely")
    scores: tuple[tuple[str, float], ...] = Field(
        (),
        description="natural logarithms; not sure: of the highest probabilities; sure: of the odds of other languages",
    )
    speech_s: float = Field(0.0, ge=0, description="seconds of speech that these are based on, while not sure")


class VoiceState(StateModel):
    """A voice that a session has shown."""

    vector: str = Field(description="its direction: 192 float16, little-endian, in base64")
    weight_s: float = Field(ge=0, allow_inf_nan=False, description="seconds of speech that it is taken from")

    @field_validator("vector")
    @classmethod
    def _is_base64(cls, vector: str) -> str:
        """A checkpoint that cannot be read is none; one whose voices cannot be decoded later would stop its stream."""
        b64decode(vector, validate=True)
        return vector


class SpeakerState(StateModel):
    """The state of one speaker, or of all together, between windows."""

    said: str = Field(description="prompt for the next window")
    written: WrittenState
    spoken: SpokenState = SpokenState()
    voices: tuple[VoiceState, ...] = Field((), description="in the order of their labels")


class AccountState(StateModel):
    """The outcomes of all frames so far."""

    sums: dict[str, int] = Field(description="frames by outcome, of those before `settled`")
    settled: Frames
    open: tuple[tuple[tuple[int, int, str], ...], ...] = Field(
        description="by channel: start, end and outcome beyond it"
    )


class OffsetsState(StateModel):
    """State of the publisher's `Audio-Offset`."""

    origin: float = Field(description="offset of frame 0, in frames")
    jitter: float = Field(ge=0, description="recent deviation, in frames")
    last: int = Field(ge=0, description="the furthest offset")
    frames: Frames = Field(description="frames of its payload")
    placed: Frames = Field(description="frame of the session at which that payload begins")
    unit: float = Field(ge=0, description="offsets in a frame; 0: they do not count")
    odd: int = Field(ge=-1, description="steps that matched the unit `guess`; -1: the unit is known")
    guess: float = Field(ge=0)
    exact: bool = Field(False, description="whether they are counted by the daemon, as for a file")


class ClaimState(StateModel):
    """What identifies a recording on a stream."""

    session: str | None = Field(description="its `Audio-Session`")
    kind: str | None = Field(description="`Content-Type`, or name of an encoding")
    offset: int | None = Field(description="the latest `Audio-Offset`")


class ContendersState(StateModel):
    """The publishers of the stream."""

    heard: ClaimState = Field(description="the accepted recording")
    heard_at_s: float = Field(description="when its last payload arrived, Unix time")
    other: ClaimState | None = Field(description="the recording that it replaced")
    other_at_s: float
    noticed: bool = Field(description="whether the replaced one has sent anything since")


class SessionState(StateModel):
    """An open session, after its stored messages."""

    id: str
    format: str = Field(description="`Content-Type`")
    clock: Frames = Field(description="frame at which the payload `seq` of the checkpoint begins")
    received: Frames | None = Field(None, description="frames that came before `clock`; null: all that were not lost")
    offsets: OffsetsState | None = Field(None, description="as of then; null: there were none")
    contenders: ContendersState | None = Field(None, description="as of then; null: none")
    heard_at: AwareDatetime | None = Field(description="when audio was last stored before that")
    captured: tuple[int, AwareDatetime] | None = Field(description="a frame, and when it was captured")
    skipped_at: int | None = Field(description="frame at which unreadable payloads were last reported")
    flushed_at: int | None = Field(None, description="frame at which an `Audio-Flush` was last answered")
    places: tuple[PlaceState, ...]
    account: AccountState
    segments: int = Field(ge=0)
    ending: bool = Field(description="no more audio will arrive; its `end` is not published yet")
    language: str | None = Field(description="set by its publisher; null: each speaker's is detected")
    prompt: str = Field("", description="names and terms set by its publisher")
    traceparent: str | None
    statuses: int = Field(ge=0, description="number of `status` messages published")
    unknown_gaps: int = Field(ge=0, description="number of gaps of unknown length published")
    speakers: tuple[SpeakerState, ...]


class Checkpoint(StateModel):
    """All that a starting daemon needs to resume after this message."""

    instance: str = Field(description="the daemon that stored it")
    seq: int = Field(
        ge=0, description="stream sequence from which audio is to be read; audio before it is acknowledged"
    )
    attempts: int = Field(ge=0, description="daemons that began the next window and did not finish it")
    owed_from: int | None = Field(
        None,
        ge=0,
        description="sequence of a transcript: speech after it may get a second pass; null: not known",
    )
    session: SessionState | None = Field(description="null: between sessions")
