"""The headers of an audio message, parsed and checked.

In: the message's header mapping, names in any case, or None. Out: ``AudioHeaders``.
"""

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from transcriber.audio.pcm import AudioFormat, parse_content_type
from transcriber.errors import BadInputError

MAX_OFFSET = 2**53
"""Frames: the largest whole number that JSON readers keep exact."""

YEARS = range(1970, 9000)
"""Years of a capture time; at the ends of the calendar adding a second would overflow."""

_OFFSET = re.compile(r"[0-9]{1,16}", re.ASCII)
_SESSION = re.compile(r"[\x20-\x7e]{1,128}")
_LANGUAGE = re.compile(r"([A-Za-z]{2,3})(?:[-_][A-Za-z0-9]{1,8})*", re.ASCII)
# RFC 3339, section 5.6; datetime alone takes far more than that.
_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


@dataclass(frozen=True, slots=True)
class AudioHeaders:
    """What the publisher said; None where nothing.

    Attributes:
        content_type: to be read with ``parse_content_type``; None means the session's last format.
        offset: index of the payload's first frame at the stream's own rate.
        captured_at: capture time of the first frame.
        session: the publisher's own id for this recording.
        end: the stream ends after this payload.
        language: primary subtag, lower case (``en`` of ``en-GB``).
        traceparent: as it came; whoever uses it checks it.
    """

    content_type: str | None = None
    offset: int | None = None
    captured_at: datetime | None = None
    session: str | None = None
    end: bool = False
    language: str | None = None
    traceparent: str | None = None

    def format(self, default: AudioFormat) -> AudioFormat:
        """The payload's format; ``default`` where the header is silent.

        Raises:
            BadInputError: the ``Content-Type`` names nothing we read.
        """
        return default if self.content_type is None else parse_content_type(self.content_type, default)


NO_HEADERS = AudioHeaders()


def parse_headers(headers: Mapping[str, str] | None) -> AudioHeaders:
    """Check and sort the headers we know; others are ignored.

    Raises:
        BadInputError: one of ours makes no sense.
    """
    if not headers:
        return NO_HEADERS
    given = {name.lower(): value.strip() for name, value in headers.items()}
    end = given.get("audio-end", "0")
    if end not in {"0", "1"}:
        raise BadInputError(f"Audio-End is not 1 but {end[:20]!r}")
    time = given.get("audio-time")
    return AudioHeaders(
        content_type=given.get("content-type"),
        offset=_offset(given.get("audio-offset")),
        captured_at=None if time is None else parse_time(time),
        session=_session(given.get("audio-session")),
        end=end == "1",
        language=_language(given.get("language")),
        traceparent=given.get("traceparent"),
    )


def parse_time(text: str) -> datetime:
    """An RFC 3339 time stamp; digits beyond microseconds are cut off.

    Raises:
        BadInputError: it is none.
    """
    with contextlib.suppress(ValueError):  # February 30, or a leap second, which datetime cannot show
        if match := _RFC3339.fullmatch(text):
            day, clock, fraction, zone = match.groups()
            micros = (fraction or "0")[:6].ljust(6, "0")
            moment = datetime.fromisoformat(f"{day}T{clock}.{micros}{'+00:00' if zone in 'Zz' else zone}")
            if moment.year in YEARS:
                return moment
    raise BadInputError(f"Audio-Time is not RFC 3339 of a year from 1970 to 8999: {text[:40]!r}")


def _offset(text: str | None) -> int | None:
    if text is None:
        return None
    if not _OFFSET.fullmatch(text) or int(text) > MAX_OFFSET:
        raise BadInputError(f"Audio-Offset is not a whole number from 0 to 2^53: {text[:20]!r}")
    return int(text)


def _language(text: str | None) -> str | None:
    if text is None or text.lower() == "auto":
        return None
    match = _LANGUAGE.fullmatch(text)
    if match is None:
        raise BadInputError(f"Language is not a language code: {text[:20]!r}")
    return match[1].lower()


def _session(text: str | None) -> str | None:
    if text is not None and not _SESSION.fullmatch(text):
        raise BadInputError("Audio-Session is not 1 to 128 printable ASCII characters")
    return text
