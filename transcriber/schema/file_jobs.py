"""File jobs: submission, cancellation, answer and record. Plain data; no I/O.

One JSON object each: the requests to ``transcriber.submit``, ``transcriber.submit.urgent`` and ``transcriber.cancel``, their answer, and the record of a job, which
is also its audit record once it has ended.
"""

import re
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from transcriber.schema.languages import language_code
from transcriber.schema.messages import ENDED_STATES, MAX_HELD_BACK, HeldBack, JobState
from transcriber.ulid import CROCKFORD, new_ulid

JOB_ID = r"job=[A-Za-z0-9_-]{1,60}"
"""A job's id replaces the stream in ``transcripts.<job>.<type>``; no stream's name has a ``=``."""

RESULT_FORMS = ("json", "srt", "vtt", "txt")
"""Each result is the object ``<job>.<form>``."""

_FILE_CHARS = 200

_NEWER = frozenset({"urgent", "traceparent"})
"""Fields of a record that earlier versions refuse."""

WINDOWS_FOR_AN_ATTEMPT = 10
"""So many completed windows offset a failed attempt."""

JobId = Annotated[str, Field(pattern=f"^{JOB_ID}$")]
Text = Annotated[str, Field(max_length=1000)]


def new_job_id() -> str:
    """A unique job id."""
    return f"job={new_ulid()}"


def is_job_id(text: str) -> bool:
    """Whether ``text`` is a valid job id.

    >>> is_job_id("job=2"), is_job_id("radio")
    (True, False)
    """
    return re.fullmatch(JOB_ID, text) is not None


def new_object_name(file: str) -> str:
    """A unique name for ``file`` in the bucket AUDIO_FILES."""
    return f"{new_ulid()}-{file[-_FILE_CHARS:]}"


def file_name(object_name: str) -> str:
    """The name of the file that was uploaded as ``object_name``.

    >>> file_name("01JABCDEFGHJKMNPQRSTVWXYZ0-my-talk.mp3"), file_name("my-talk.mp3")
    ('my-talk.mp3', 'my-talk.mp3')
    """
    found = re.fullmatch(rf"[{CROCKFORD}]{{26}}-(.+)", object_name, re.DOTALL)
    return found[1] if found else object_name


def _language(value: object) -> object:
    """The code of a language's name, or without its region."""
    return (language_code(value) or value) if isinstance(value, str) else value


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Submission(_Model):
    """Request to ``transcriber.submit``, or to ``transcriber.submit.urgent``. The same ``job`` again is the same job, not another."""

    job: JobId = Field(default_factory=new_job_id, description="id of the job; absent: a new one")
    object: str = Field(min_length=1, max_length=1000, description="name in the bucket AUDIO_FILES")
    language: Annotated[str | None, BeforeValidator(_language)] = Field(
        None, pattern=r"^[a-z]{2,3}$", description="ISO 639-1; null: the daemon's setting"
    )
    task: Literal["transcribe", "translate"] = "transcribe"
    prompt: Text = Field("", description="names and terms that may occur")
    speakers: Literal["mix", "channels", "voices"] | None = Field(None, description="null: the daemon's setting")
    keep: bool = Field(False, description="keep the file in the bucket when the job is done")
    by: Text = Field("", description="the submitter, for the record")


class Cancellation(_Model):
    """Request to ``transcriber.cancel``."""

    job: JobId


class Answer(_Model):
    """Answer to either request: the present state of the job."""

    job: JobId
    state: JobState


class JobRecord(_Model):
    """The state of a job; stored at each change, and kept as audit record when it has ended.

    Fields that are not known are ignored: a newer version may have written them.
    """

    model_config = ConfigDict(extra="ignore")

    submission: Submission
    state: JobState
    size: int = Field(ge=0, description="bytes of the file")
    digest: str = Field(description="of the file, as the object store has it: `SHA-256=...`")
    urgent: bool = Field(False, description="whether it runs before jobs that are not")
    traceparent: str | None = Field(None, description="W3C trace context of the submission; null: it had none")
    submitted_at: AwareDatetime
    started_at: AwareDatetime | None = None
    ended_at: AwareDatetime | None = None
    attempts: int = Field(
        0, ge=0, description="how often it was started, less one for every ten windows done meanwhile"
    )
    from_s: float = Field(0.0, ge=0, description="seconds that were done when it was last started")
    done_s: float = Field(0.0, ge=0, description="seconds of the file that are done, from its start")
    total_s: float | None = Field(None, description="length of the file in seconds; null: not known")
    eta_s: float | None = Field(None, description="seconds until it is done, at the present speed; null: not known")
    error: str | None = Field(None, description="why it failed, or was restarted, or what of it could not be read")
    suppressed: tuple[HeldBack, ...] = Field(
        (), max_length=MAX_HELD_BACK, description="the first windows with suppressed text; the `.json` has them all"
    )
    results: tuple[str, ...] = Field((), description="objects in the bucket TRANSCRIPTS")
    instance: str | None = Field(None, description="the daemon that runs it, or ran it last")

    @property
    def over(self) -> bool:
        return self.state in ENDED_STATES

    @property
    def line(self) -> str:
        """The job's id, its state and its error, in one line."""
        return f"{self.submission.job} {self.state}{f': {self.error}' if self.error else ''}"

    def stored(self) -> bytes:
        """As it is stored: an earlier version can read what does not need a newer one."""
        return self.model_dump_json(exclude={name for name in _NEWER if not getattr(self, name)}).encode()

    def next_attempt(self, done_s: float, window_s: float) -> int:
        """``attempts`` if it is started now, with the text of ``done_s`` stored, in windows of ``window_s``.

        Counted by the stored text, not by reports of a daemon, which may die before it reports.
        """
        made_up = max(0.0, done_s - self.from_s) // (WINDOWS_FOR_AN_ATTEMPT * window_s)
        return max(0, self.attempts - int(made_up)) + 1


def most_attempts(max_attempts: int) -> int:
    """Attempts of a file, if a window has ``max_attempts``.

    Two windows in a row may each kill so many daemons and the one that first reached it; then the file must advance: one that kills
    with every window would cost the live streams too much.
    """
    return 2 * (max_attempts + 1) + 1
