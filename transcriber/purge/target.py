"""What is to be purged. In: ``radio-7``, ``radio-7/SESSION`` or ``job=ID``. Out: a ``Target``, or one line that says what is wrong."""

import re
from dataclasses import dataclass

from transcriber.errors import ConfigError
from transcriber.schema.file_jobs import is_job_id
from transcriber.schema.subjects import STREAM_NAME

MAX_AGE_S = 10 * 365 * 86_400
"""As of the settings."""

UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True, slots=True)
class Target:
    """A stream, one session of it, or a job.

    Attributes:
        stream: empty for a job.
        session: None: all of the stream.
        job: None for a stream.
    """

    stream: str = ""
    session: str | None = None
    job: str | None = None

    def __str__(self) -> str:
        """As it is given on the command line."""
        return self.job or (self.stream if self.session is None else f"{self.stream}/{self.session}")


def parse_target(text: str) -> Target:
    """The target that ``text`` names.

    >>> parse_target("radio-7/take 1"), parse_target("job=1").job
    (Target(stream='radio-7', session='take 1', job=None), 'job=1')

    Raises:
        ConfigError: it names none, or more than one.
    """
    if is_job_id(text):
        return Target(job=text)
    stream, slash, session = text.partition("/")
    if not STREAM_NAME.fullmatch(stream) or (slash and not session):
        raise ConfigError(
            f"{text!r}: must be a stream ([A-Za-z0-9_-], at most 64), STREAM/SESSION, or job=ID; no wildcards"
        )
    return Target(stream, session if slash else None)


def parse_age(text: str) -> float:
    """Seconds.

    >>> parse_age("90"), parse_age("36h"), parse_age("7d")
    (90.0, 129600.0, 604800.0)

    Raises:
        ValueError: it is no age.
    """
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)([smhd]?)", text)
    if found is None or (age_s := float(found[1]) * UNITS_S[found[2] or "s"]) > MAX_AGE_S:
        raise ValueError("must be seconds, or a number and s, m, h or d, such as 36h or 7d; at most ten years")
    return age_s
