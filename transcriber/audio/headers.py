"""The headers of an audio message.

In: the message's header mapping, names in any case, or None. Out: ``AudioHeaders``. All headers are optional: one that makes no
sense is ignored and reported; it costs no audio.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

from transcriber.audio.format import media_type
from transcriber.schema.languages import language_code

MAX_OFFSET = 2**53
"""Frames: the largest whole number that JSON readers keep exact."""

YEARS = range(1970, 9000)
"""Accepted years of a capture time; at the ends of the calendar adding a second would overflow."""

MAX_PROMPT = 1000
"""Characters; as for ``WHISPER_PROMPT``."""

MAX_REPEATED = 256
"""Characters of a header that is cached; no valid one is longer."""

SAYS_NOTHING = frozenset({"", "application/octet-stream"})
"""Content types that say nothing about the audio."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNIX_UNITS = ((10**11, 1), (10**14, 10**3), (10**17, 10**6), (10**20, 10**9))
"""Times below which Unix time is counted in so many units a second: each unit covers the years 1973 to 5138."""
_LEAST_UNIX_TIME = 10**8

_SWITCH = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
_OFFSET = re.compile(r"([0-9]{1,16})(?:\.0*)?", re.ASCII)
_SESSION = re.compile(r"[\x20-\x7e]{1,128}")
_UNIX_TIME = re.compile(r"([0-9]{1,20})(?:\.([0-9]+))?", re.ASCII)
# RFC 3339, section 5.6; datetime alone accepts far more than that.
_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:)(\d\d)(?:\.(\d+))?([Zz]|[+-]\d\d:?\d\d)", re.ASCII)
_MOSTLY = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:[0-5]\d(?:\.\d{1,6})?Z", re.ASCII)
"""The usual form of capture times, which datetime parses correctly."""


class AudioHeaders(NamedTuple):
    """The headers that the publisher sent; None where absent.

    Attributes:
        content_type: for ``read_payload``; None means the session's last format.
        offset: index of the payload's first frame at the stream's own rate.
        captured_at: capture time of the first frame.
        session: the publisher's own id for this recording.
        end: the stream ends after this payload.
        flush: the open windows end after this payload.
        language: its code, lower case (``en`` of ``en-GB``).
        prompt: names and terms that may occur, from now on; empty: none.
        traceparent: unchecked.
        ignored: headers that made no sense, a line each.
    """

    content_type: str | None = None
    offset: int | None = None
    captured_at: datetime | None = None
    session: str | None = None
    end: bool = False
    flush: bool = False
    language: str | None = None
    prompt: str | None = None
    traceparent: str | None = None
    ignored: tuple[str, ...] = ()


NO_HEADERS = AudioHeaders()


def parse_headers(headers: Mapping[str, str] | None) -> AudioHeaders:
    """Read the headers that are known; others are ignored."""
    if not headers:
        return NO_HEADERS
    values: list[Any] = list(NO_HEADERS)
    ignored: dict[int, str] = {}
    # Runs for every payload: no work for absent headers, and repeated values are cached.
    for name, text in headers.items():
        if (reader := _READERS.get(name) or _READERS.get(name.lower())) is None:
            continue
        value, place = reader.read(text.strip()), reader.place
        if ignored:
            ignored.pop(place, None)  # of two that differ only in case, the last counts
        if value is None:
            value = NO_HEADERS[place]
            ignored[place] = f"{reader.name} is not {reader.expected}: {text.strip()[:40]!r}"
        values[place] = value
    if values[_LANGUAGE] == "auto":
        values[_LANGUAGE] = None
    if ignored:
        values[_IGNORED] = tuple(ignored.values())
    return AudioHeaders._make(values)


def parse_time(text: str) -> datetime | None:
    """A time stamp of RFC 3339, or Unix time; None if it is neither. Digits beyond microseconds are cut off.

    Unix time is in s, ms, us or ns, whichever makes it a year from 1973 to 5138. A leap second, which datetime cannot show, is
    the second after.
    """
    if _MOSTLY.fullmatch(text):
        return _moment(text)
    if match := _UNIX_TIME.fullmatch(text):
        return _unix_time(match[1], match[2] or "")
    if (match := _RFC3339.fullmatch(text)) is None:
        return None
    day, minute, second, fraction, zone = match.groups()
    leap = second == "60"
    micros = (fraction or "0")[:6].ljust(6, "0")
    moment = _moment(f"{day}T{minute}{'59' if leap else second}.{micros}{'+00:00' if zone in 'Zz' else zone}")
    return moment and moment + timedelta(seconds=leap)


def _moment(text: str) -> datetime | None:
    """A time stamp of the right form; None if there is no such time, as on February 30."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.year in YEARS else None


def _unix_time(whole: str, fraction: str) -> datetime | None:
    if int(whole) < _LEAST_UNIX_TIME:
        return None
    per_second = next(per_second for limit, per_second in _UNIX_UNITS if int(whole) < limit)
    nanos = int(whole + fraction[:9].ljust(9, "0"))
    return _EPOCH + timedelta(microseconds=nanos // (1000 * per_second))


def _repeated(read: Callable[[str], str | None]) -> Callable[[str], str | None]:
    """``read`` with a cache, for a header that mostly repeats its value; too long a value is cut, and stays invalid."""
    known = lru_cache(maxsize=256)(read)
    return lambda text: known(text[:MAX_REPEATED])


@_repeated
def _content_type(text: str) -> str | None:
    return None if media_type(text) in SAYS_NOTHING else text


def _offset(text: str) -> int | None:
    if len(text) < 16 and text.isdecimal() and text.isascii():  # noqa: PLR2004 - digits of MAX_OFFSET
        return int(text)
    match = _OFFSET.fullmatch(text)
    return int(match[1]) if match and int(match[1]) <= MAX_OFFSET else None


def _switch(text: str) -> bool | None:
    return _SWITCH.get(text.lower())


@_repeated
def _language(text: str) -> str | None:
    return "auto" if text.lower() == "auto" else language_code(text)


def _prompt(text: str) -> str | None:
    return text if len(text) <= MAX_PROMPT else None


@_repeated
def _session(text: str) -> str | None:
    return text if _SESSION.fullmatch(text) else None


@dataclass(frozen=True, slots=True, eq=False)
class _Reader:
    """How a header is read: the index of its field, and what it must be; ``read`` returns None if it is not."""

    name: str
    place: int
    read: Callable[[str], object]
    expected: str


_place = AudioHeaders._fields.index
_LANGUAGE, _IGNORED = _place("language"), _place("ignored")
_READERS = {
    spelling: reader
    for reader in (
        _Reader("Content-Type", _place("content_type"), _content_type, "a type of audio"),
        _Reader("Audio-Offset", _place("offset"), _offset, "a whole number from 0 to 2^53"),
        _Reader(
            "Audio-Time",
            _place("captured_at"),
            parse_time,
            "RFC 3339 with its zone, or Unix time, of a year from 1970 to 8999",
        ),
        _Reader("Audio-Session", _place("session"), _session, "1 to 128 printable ASCII characters"),
        _Reader("Audio-End", _place("end"), _switch, "1 or 0"),
        _Reader("Audio-Flush", _place("flush"), _switch, "1 or 0"),
        _Reader("Language", _place("language"), _language, "a code or an English name of a language"),
        _Reader("Prompt", _place("prompt"), _prompt, f"a text of at most {MAX_PROMPT} characters"),
        _Reader("traceparent", _place("traceparent"), str, ""),
    )
    for spelling in (reader.name, reader.name.lower())
}
"""By name, in its usual spelling and in lower case."""
