"""The headers of an audio message."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, strategies as st

from transcriber.audio.headers import MAX_OFFSET, MAX_PROMPT, NO_HEADERS, AudioHeaders, parse_headers, parse_time
from transcriber.schema.languages import WHISPER_LANGUAGES, language_code


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
            "prompt": " Elbe 1, Cuxhaven ",
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
    assert headers.prompt == "Elbe 1, Cuxhaven"
    assert headers.traceparent == "00-x"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Audio-Offset", "-1"), ("Audio-Offset", "1.5"), ("Audio-Offset", ""), ("Audio-Offset", str(2**53 + 1)),
        ("Audio-Offset", "9" * 100), ("Audio-Offset", "\u0661"), ("Audio-End", "maybe"), ("Audio-End", ""),
        ("Audio-Session", ""), ("Audio-Session", "x" * 129), ("Audio-Session", "a\tb"), ("Language", ""),
        ("Language", "what you hear"), ("Language", "e"), ("Prompt", "x" * (MAX_PROMPT + 1)), ("Content-Type", ""), ("Content-Type", "application/octet-stream"),
        ("Audio-Time", "now"), ("Audio-Time", "2026-13-01T00:00:00Z"), ("Audio-Time", "2026-11-21"),
        ("Audio-Time", "2026-11-21T10:00:00"), ("Audio-Time", "20261121T100000Z"), ("Audio-Time", "12.5"),
        ("Audio-Time", "0001-01-01T00:00:00+23:59"), ("Audio-Time", "9999-12-31T23:59:59-23:59"),
        ("Audio-Time", "2026-11-21T10:00:61Z"), ("Audio-Time", "9" * 21),
    ],
)  # fmt: skip
def test_nonsense_is_passed_over_and_said(name, value):
    headers = parse_headers({name: value, "Audio-Session": "call", name.lower(): value, "traceparent": "00-x"})

    assert headers == AudioHeaders(
        session=None if name == "Audio-Session" else "call", traceparent="00-x", ignored=headers.ignored
    )
    (line,) = headers.ignored
    assert line.startswith(f"{name} is not ")
    assert line.endswith(repr(value[:40]))


@pytest.mark.parametrize("value", ["1", "true", "Yes", "ON"])
def test_an_end_is_said_in_many_ways(value):
    assert parse_headers({"Audio-End": value}) == AudioHeaders(end=True)


@pytest.mark.parametrize("value", ["0", "false", "No", "off"])
def test_so_is_that_it_is_none(value):
    assert parse_headers({"Audio-End": value}) == NO_HEADERS


@pytest.mark.parametrize("value", ["1600", "1600.0", "1600.", "001600"])
def test_a_whole_number_is_one_however_it_is_written(value):
    assert parse_headers({"Audio-Offset": value}) == AudioHeaders(offset=1600)


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("en", "en"), ("en-US", "en"), ("de_AT", "de"), ("English", "en"), ("GERMAN", "de"), ("lao", "lo"), ("Haitian Creole", "ht"),
        ("mandarin", "zh"), ("yue", "yue"), ("xx", "xx"),
    ],
)  # fmt: skip
def test_a_language_is_a_code_or_a_name(said, code):
    assert parse_headers({"Language": said}) == AudioHeaders(language=code)


def test_every_language_of_whisper_has_its_code_and_its_name():
    assert {language_code(code) for code in WHISPER_LANGUAGES} == set(WHISPER_LANGUAGES)
    assert {code for name in ("english", "cantonese", "sundanese", "welsh") if (code := language_code(name))} == {
        "en", "yue", "su", "cy",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00+00:00"),
        ("2016-12-31T23:59:60.5Z", "2017-01-01T00:00:00.500000+00:00"),
        ("2017-01-01T08:59:60+09:00", "2017-01-01T09:00:00+09:00"),
        ("2026-11-21 10:00:00+0100", "2026-11-21T10:00:00+01:00"),
        ("1774742399", "2026-03-28T23:59:59+00:00"),
        ("1774742399.25", "2026-03-28T23:59:59.250000+00:00"),
        ("1774742399250", "2026-03-28T23:59:59.250000+00:00"),
        ("1774742399250.5", "2026-03-28T23:59:59.250500+00:00"),
        ("1774742399250500", "2026-03-28T23:59:59.250500+00:00"),
        ("1774742399250500999", "2026-03-28T23:59:59.250500+00:00"),
    ],
)
def test_times_are_read_as_they_are_meant(text, shown):
    moment = parse_time(text)

    assert moment is not None
    assert moment.isoformat() == shown


@given(st.datetimes(datetime(1973, 3, 4), datetime(5138, 11, 15)), st.sampled_from([0, 3, 6, 9]))
def test_unix_time_is_read_exactly_in_any_unit(moment, power):
    micros = (moment - datetime(1970, 1, 1)) // timedelta(microseconds=1)
    text = str(micros) if power == 6 else str(micros * 1000) if power == 9 else f"{micros // 10 ** (6 - power)}"

    found = parse_time(text)

    assert found == (moment - timedelta(microseconds=micros % 10 ** max(0, 6 - power))).replace(tzinfo=UTC)


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
    assert parse_time("2026-11-21T10:00:00.123456789123Z") == datetime(2026, 11, 21, 10, 0, 0, 123_456, UTC)


@pytest.mark.parametrize("prompt", ["", "x" * MAX_PROMPT, "日本語"])
def test_a_prompt_may_be_empty_which_is_not_the_same_as_none(prompt):
    assert parse_headers({"Prompt": prompt}) == AudioHeaders(prompt=prompt)


def test_language_auto_is_no_wish():
    assert parse_headers({"Language": "auto"}).language is None


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "Audio-Offset",
                "audio-time",
                "Audio-Session",
                "Audio-End",
                "Language",
                "Prompt",
                "traceparent",
                "Content-Type",
                "X",
            ]
        ),
        st.text(max_size=40) | st.from_regex(r"[-+]?[0-9]{1,22}(\.[0-9]{0,12})?", fullmatch=True),
    )
)
def test_any_headers_are_read_or_passed_over_in_a_line_each(headers):
    parsed = parse_headers(headers)

    assert parsed.offset is None or 0 <= parsed.offset <= MAX_OFFSET
    assert all(line.isprintable() for line in parsed.ignored)
    assert len(parsed.ignored) <= len(headers)


def test_of_what_is_too_long_for_any_type_or_language_only_the_beginning_is_kept():
    found = parse_headers({"Content-Type": "x" * 100_000, "Language": "x" * 100_000, "Audio-Session": "x" * 100_000})

    assert found.content_type == "x" * 256  # which is no type of audio
    assert (found.language, found.session) == (None, None)
    assert len(found.ignored) == 2
