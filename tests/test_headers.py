"""The headers of an audio message."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, strategies as st

from transcriber.audio.headers import MAX_OFFSET, NO_HEADERS, parse_headers, parse_time
from transcriber.errors import BadInputError


def test_no_headers_say_nothing():
    assert parse_headers(None) is NO_HEADERS
    assert parse_headers({}) is NO_HEADERS


def test_all_headers_are_read_whatever_their_case():
    headers = parse_headers(
        {
            "content-type": "audio/x-raw;rate=16000",
            "AUDIO-OFFSET": str(MAX_OFFSET),
            "Audio-time": "2026-11-21T10:00:00.25Z",
            "audio-SESSION": "call 4711",
            "Audio-End": "1",
            "LANGUAGE": "en-GB",
            "Traceparent": "00-x",
            "Something-Else": "is ignored",
        }
    )

    assert headers.content_type == "audio/x-raw;rate=16000"
    assert headers.offset == 2**53
    assert headers.captured_at == datetime(2026, 11, 21, 10, 0, 0, 250_000, UTC)
    assert headers.session == "call 4711"
    assert headers.end
    assert headers.language == "en"
    assert headers.traceparent == "00-x"


@pytest.mark.parametrize(
    "headers",
    [
        {"Audio-Offset": "-1"}, {"Audio-Offset": "1.5"}, {"Audio-Offset": ""}, {"Audio-Offset": str(2**53 + 1)},
        {"Audio-Offset": "9" * 100}, {"Audio-Offset": "\u0661"}, {"Audio-End": "yes"}, {"Audio-Session": ""},
        {"Audio-Session": "x" * 129}, {"Audio-Session": "a\tb"}, {"Language": "english"}, {"Language": "e"},
        {"Audio-Time": "now"}, {"Audio-Time": "2026-13-01T00:00:00Z"}, {"Audio-Time": "2026-11-21"},
        {"Audio-Time": "2026-11-21T10:00:00"}, {"Audio-Time": "20261121T100000Z"},
        {"Audio-Time": "0001-01-01T00:00:00+23:59"}, {"Audio-Time": "9999-12-31T23:59:59-23:59"},
    ],
)  # fmt: skip
def test_nonsense_is_bad_input(headers):
    with pytest.raises(BadInputError):
        parse_headers(headers)


@given(
    st.datetimes(
        datetime(1970, 1, 1),
        datetime(8999, 12, 31),
        timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))]),
    )
)
def test_every_rfc_3339_time_is_read_exactly(moment):
    assert parse_time(moment.isoformat()) == moment


def test_digits_beyond_microseconds_are_cut_off():
    assert parse_time("2026-11-21T10:00:00.123456789Z").microsecond == 123_456


def test_language_auto_is_no_wish():
    assert parse_headers({"Language": "auto"}).language is None


@given(
    st.dictionaries(
        st.sampled_from(["Audio-Offset", "audio-time", "Audio-Session", "Audio-End", "Language", "traceparent", "X"]),
        st.text(max_size=40),
    )
)
def test_any_headers_are_read_or_refused(headers):
    try:
        parsed = parse_headers(headers)
    except BadInputError:
        return

    assert parsed.offset is None or 0 <= parsed.offset <= MAX_OFFSET
