"""Two publishers on one stream: one is accepted, whatever distinguishes them, and every daemon decides alike."""

import pytest
from hypothesis import given, strategies as st

from transcriber.audio.contention import FORGET_S, PAUSE_S, Contenders, Contention, RecordingClaim, Verdict
from transcriber.audio.format import AudioFormat
from transcriber.audio.headers import NO_HEADERS, AudioHeaders

DEFAULT = AudioFormat()
WIDE, NARROW = AudioFormat(rate=16_000).content_type, AudioFormat(rate=8_000).content_type
PAYLOAD = 320
STEP_S = 0.02
HEARD, REFUSED = {Verdict.ACCEPTED, Verdict.CONTENTION_OVER}, {Verdict.CONTENTION_BEGUN, Verdict.REFUSED}


def by_session(name, number):
    return AudioHeaders(session=name, content_type=WIDE, offset=number * PAYLOAD)


def by_format(name, number):
    return AudioHeaders(content_type=WIDE if name == "a" else NARROW)


def by_offset(name, number):
    return AudioHeaders(offset=number * PAYLOAD + (10_000_000 if name == "a" else 0))


def by_encoding(name, number):
    return AudioHeaders(content_type=WIDE if name == "a" else "audio/webm")


KINDS = pytest.mark.parametrize("claim", [by_session, by_format, by_offset, by_encoding])


@KINDS
def test_of_two_that_alternate_the_newer_is_accepted_for_as_long_as_both_publish(claim):
    contention = Contention(DEFAULT)

    refused = {"a": 0, "b": 0}
    for number in range(5_000):
        for name in ("a", "b"):
            refused[name] += contention.judge(claim(name, number), number * STEP_S) in REFUSED

    assert refused == {"a": 4_999, "b": 0}


@KINDS
def test_the_recording_that_is_left_alone_is_accepted_after_a_pause(claim):
    contention = Contention(DEFAULT)
    for number in range(100):
        contention.judge(claim("a", number), number * STEP_S)
        contention.judge(claim("b", number), number * STEP_S)

    heard = [number for number in range(100, 300) if contention.judge(claim("a", number), number * STEP_S) in HEARD]

    assert heard == list(range(99 + round(PAUSE_S / STEP_S), 300))


@KINDS
def test_recordings_that_follow_each_other_are_all_accepted(claim):
    contention = Contention(DEFAULT)

    assert all(contention.judge(claim("a", number), number * STEP_S) in HEARD for number in range(100))
    assert all(contention.judge(claim("b", number), (100 + number) * STEP_S) in HEARD for number in range(100))


def test_one_that_begins_again_after_a_long_hole_is_accepted():
    contention = Contention(DEFAULT)

    verdicts = [contention.judge(AudioHeaders(offset=offset), 0.0) for offset in (1_000, 600_000, 0, 600_000 - PAYLOAD)]

    assert verdicts == [Verdict.ACCEPTED, Verdict.ACCEPTED, Verdict.ACCEPTED, Verdict.CONTENTION_BEGUN]


def test_many_recordings_in_a_row_are_all_accepted_however_fast():
    contention = Contention(DEFAULT)

    assert all(contention.judge(by_session(str(number), 0), 0.0) in HEARD for number in range(1_000))


def test_who_comes_back_later_is_a_new_recording():
    contention = Contention(DEFAULT)
    contention.judge(by_format("a", 0), 0.0)
    for number in range(1_000):
        contention.judge(by_format("b", number), number * STEP_S)

    assert contention.judge(by_format("a", 0), FORGET_S + 1_000 * STEP_S) in HEARD


def test_after_the_end_any_recording_is_accepted():
    contention = Contention(DEFAULT)
    contention.judge(by_session("a", 0), 0.0)
    contention.judge(by_session("b", 0), 0.1)

    contention.reset()

    assert contention.judge(by_session("a", 1), 0.2) in HEARD


def test_a_payload_without_headers_belongs_to_the_accepted_recording():
    contention = Contention(DEFAULT)
    contention.judge(by_session("a", 0), 0.0)

    assert contention.judge(NO_HEADERS, 0.1) in HEARD
    assert contention.now
    assert contention.now.heard == RecordingClaim("a", WIDE, 0)


def test_it_is_noticed_once_and_over_when_the_other_one_is_gone():
    contention = Contention(DEFAULT)
    verdicts = []

    for number in range(2_000):
        names = "ab" if number < 500 else "b"
        verdicts += [contention.judge(by_session(name, number), number * STEP_S) for name in names]

    changes = [verdict for verdict in verdicts if verdict in {Verdict.CONTENTION_BEGUN, Verdict.CONTENTION_OVER}]
    assert changes == [Verdict.CONTENTION_BEGUN, Verdict.CONTENTION_OVER]
    assert verdicts.index(Verdict.CONTENTION_OVER) - 1_000 == round(FORGET_S / STEP_S) - 1


MESSAGES = st.builds(
    AudioHeaders,
    session=st.none() | st.sampled_from("ab"),
    content_type=st.sampled_from([None, WIDE, NARROW, "audio/webm", "audio/flac"]),
    offset=st.none() | st.integers(0, 2_000_000),
)


@given(st.lists(st.tuples(MESSAGES, st.floats(0, 3)), max_size=40), st.integers(0, 40))
def test_a_daemon_that_resumes_at_any_message_decides_alike(messages, at):
    contention, at_s, decided = Contention(DEFAULT), 0.0, []
    kept: Contenders | None = None
    for number, (headers, step_s) in enumerate(messages):
        at_s += step_s
        if number == at:
            kept = contention.now
        decided.append(contention.judge(headers, at_s))

    other, at_s, again = Contention(DEFAULT, kept), 0.0, []
    for number, (headers, step_s) in enumerate(messages):
        at_s += step_s
        if number >= at:
            again.append(other.judge(headers, at_s))

    assert again == decided[at:]
    assert other.now == contention.now or at >= len(messages)
