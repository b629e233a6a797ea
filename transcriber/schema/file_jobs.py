"""A file that is to be transcribed, as it is asked for, recorded and answered. Plain data; no I/O.

One JSON object each: what is sent to ``transcriber.submit`` and ``transcriber.cancel``, what is answered, and the record of a
job, which is also its audit record once it is over.
"""

import re
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from transcriber.schema.languages import language_code
from transcriber.schema.messages import ENDED_STATES, MAX_HELD_BACK, HeldBack, JobState
from transcriber.ulid import CROCKFORD, new_ulid

JOB_ID = r"job=[A-Za-z0-9_-]{1,60}"
"""A job's id takes the place of a stream in ``transcripts.<job>.<type>``; no stream's name has a ``=``."""

RESULT_FORMS = ("json", "srt", "vtt", "txt")
"""Each result is the object ``<job>.<form>``."""

_FILE_CHARS = 200

WINDOWS_FOR_AN_ATTEMPT = 10
"""So many windows that are done make up for an attempt that failed."""

JobId = Annotated[str, Field(pattern=f"^{JOB_ID}$")]
Text = Annotated[str, Field(max_length=1000)]


def new_job_id() -> str:
    """One that nobody else has."""
    return f"job={new_ulid()}"


def is_job_id(text: str) -> bool:
    """Whether it may be the id of a job.

    >>> is_job_id("job=2"), is_job_id("radio")
    (True, False)
    """
    return re.fullmatch(JOB_ID, text) is not None


def new_object_name(file: str) -> str:
    """What ``file`` is called in the bucket AUDIO_FILES: like nothing else there."""
    return f"{new_ulid()}-{file[-_FILE_CHARS:]}"


def file_name(object_name: str) -> str:
    """As its owner knows it.

    >>> file_name("01JABCDEFGHJKMNPQRSTVWXYZ0-my-talk.mp3"), file_name("my-talk.mp3")
    ('my-talk.mp3', 'my-talk.mp3')
    """
    found = re.fullmatch(rf"[{CROCKFORD}]{{26}}-(.+)", object_name, re.DOTALL)
    return found[1] if found else object_name


def _language(value: object) -> object:
    """As a code, where it is a name or has a region."""
    return (language_code(value) or value) if isinstance(value, str) else value


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Submission(_Model):
    """Asked of ``transcriber.submit``. The same ``job`` again is the same job, not another."""

    job: JobId = Field(default_factory=new_job_id, description="id of the job; absent: a new one")
    object: str = Field(min_length=1, max_length=1000, description="name in the bucket AUDIO_FILES")
    language: Annotated[str | None, BeforeValidator(_language)] = Field(
        None, pattern=r"^[a-z]{2,3}$", description="ISO 639-1; null: as the daemon is set"
    )
    task: Literal["transcribe", "translate"] = "transcribe"
    prompt: Text = Field("", description="names and terms that may come up")
    speakers: Literal["mix", "channels", "voices"] | None = Field(None, description="null: as the daemon is set")
    keep: bool = Field(False, description="leave the file in the bucket when it is done")
    by: Text = Field("", description="who asks, for the record")


class Cancellation(_Model):
    """Asked of ``transcriber.cancel``."""

    job: JobId


class Answer(_Model):
    """What either is answered: the state that the job is in now."""

    job: JobId
    state: JobState


class JobRecord(_Model):
    """All that is known of a job; stored at each change, and kept as audit record when it is over."""

    submission: Submission
    state: JobState
    size: int = Field(ge=0, description="bytes of the file")
    digest: str = Field(description="of the file, as the object store has it: `SHA-256=...`")
    submitted_at: AwareDatetime
    started_at: AwareDatetime | None = None
    ended_at: AwareDatetime | None = None
    attempts: int = Field(0, ge=0, description="how often it was begun, less one for every ten windows done meanwhile")
    from_s: float = Field(0.0, ge=0, description="seconds that were done when it was last begun")
    done_s: float = Field(0.0, ge=0, description="seconds of the file that are done, from its start")
    total_s: float | None = Field(None, description="length of the file in seconds; null: not known")
    eta_s: float | None = Field(None, description="seconds until it is done, as it goes now; null: not known")
    error: str | None = Field(None, description="why it failed, or was begun again, or what of it could not be read")
    suppressed: tuple[HeldBack, ...] = Field(
        (), max_length=MAX_HELD_BACK, description="the first windows whose text was held back; the `.json` has them all"
    )
    results: tuple[str, ...] = Field((), description="objects in the bucket TRANSCRIPTS")
    instance: str | None = Field(None, description="the daemon that has it, or had it last")

    @property
    def over(self) -> bool:
        return self.state in ENDED_STATES

    @property
    def line(self) -> str:
        """Which job it is, its state, and what went wrong."""
        return f"{self.submission.job} {self.state}{f': {self.error}' if self.error else ''}"

    def next_attempt(self, done_s: float, window_s: float) -> int:
        """What ``attempts`` will be if it is begun when the text of ``done_s`` is stored, in windows of ``window_s``.

        It is counted by the text, not by what a daemon says of itself, which may die before it says anything.
        """
        made_up = max(0.0, done_s - self.from_s) // (WINDOWS_FOR_AN_ATTEMPT * window_s)
        return max(0, self.attempts - int(made_up)) + 1


def most_attempts(max_attempts: int) -> int:
    """How many attempts a file has, if a window has ``max_attempts``.

    Two windows in a row may each kill so many daemons and the one that first came upon it, and then it must get on: a file
    that kills with every window would cost the live streams too much.
    """
    return 2 * (max_attempts + 1) + 1
