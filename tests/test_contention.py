"""Two publishers on one stream: one is heard, whatever tells them apart, and it does not matter who looks."""

import pytest
from hypothesis import given, strategies as st

from transcriber.audio.contention import FORGET_S, PAUSE_S, Claim, Contenders, Contention
from transcriber.audio.pcm import AudioFormat

WIDE, NARROW = AudioFormat(rate=16_000), AudioFormat(rate=8_000)
PAYLOAD = 320
STEP_S = 0.02


def by_session(name, number):
    return Claim(name, WIDE, number * PAYLOAD, PAYLOAD)


def by_format(name, number):
    return Claim(None, WIDE if name == "a" else NARROW, None, PAYLOAD)


def by_offset(name, number):
    return Claim(None, None, number * PAYLOAD + (10_000_000 if name == "a" else 0), PAYLOAD)


def by_encoding(name, number):
    return Claim(None, WIDE if name == "a" else "webm", None, PAYLOAD if name == "a" else 0)


KINDS = pytest.mark.parametrize("claim", [by_session, by_format, by_offset, by_encoding])


@KINDS
def test_of_two_that_alternate_the_newer_is_heard_for_as_long_as_both_go_on(claim):
    contention = Contention()

    refused = {"a": 0, "b": 0}
    for number in range(5_000):
        for name in ("a", "b"):
            refused[name] += contention.refuses(claim(name, number), number * STEP_S)

    assert refused == {"a": 4_999, "b": 0}


@KINDS
def test_who_is_left_alone_is_heard_after_a_pause(claim):
    contention = Contention()
    for number in range(100):
        contention.refuses(claim("a", number), number * STEP_S)
        contention.refuses(claim("b", number), number * STEP_S)

    heard = [number for number in range(100, 300) if not contention.refuses(claim("a", number), number * STEP_S)]

    assert heard == list(range(99 + round(PAUSE_S / STEP_S), 300))


@KINDS
def test_recordings_that_follow_each_other_are_all_heard(claim):
    contention = Contention()

    assert not any(contention.refuses(claim("a", number), number * STEP_S) for number in range(100))
    assert not any(contention.refuses(claim("b", number), (100 + number) * STEP_S) for number in range(100))


def test_many_recordings_in_a_row_are_all_heard_however_fast():
    contention = Contention()

    assert not any(contention.refuses(by_session(str(number), 0), 0.0) for number in range(1_000))


def test_who_comes_back_later_is_a_new_recording():
    contention = Contention()
    contention.refuses(by_format("a", 0), 0.0)
    for number in range(1_000):
        contention.refuses(by_format("b", number), number * STEP_S)

    assert not contention.refuses(by_format("a", 0), FORGET_S + 1_000 * STEP_S)


def test_after_the_end_anybody_is_heard():
    contention = Contention()
    contention.refuses(by_session("a", 0), 0.0)
    contention.refuses(by_session("b", 0), 0.1)

    contention.over()

    assert not contention.refuses(by_session("a", 1), 0.2)


def test_one_who_says_nothing_of_itself_is_the_one_that_is_heard():
    contention = Contention()
    contention.refuses(by_session("a", 0), 0.0)

    assert not contention.refuses(Claim(None, None, None, PAYLOAD), 0.1)
    assert contention.contenders.heard == Claim("a", WIDE, 2 * PAYLOAD)


CLAIMS = st.builds(
    Claim,
    st.none() | st.sampled_from("ab"),
    st.sampled_from([None, WIDE, NARROW, "webm"]),
    st.none() | st.integers(0, 2_000_000),
    st.just(PAYLOAD),
)


@given(st.lists(st.tuples(CLAIMS, st.floats(0, 3)), max_size=40), st.integers(0, 40))
def test_whoever_goes_on_from_any_message_decides_alike(messages, at):
    contention, at_s, decided, kept = Contention(), 0.0, [], Contenders(Claim(None, None), 0.0)
    for number, (claim, step_s) in enumerate(messages):
        at_s += step_s
        if number == at:
            kept = contention.contenders
        decided.append(contention.refuses(claim, at_s))

    other, at_s, again = Contention(kept), 0.0, []
    for number, (claim, step_s) in enumerate(messages):
        at_s += step_s
        if number >= at:
            again.append(other.refuses(claim, at_s))

    assert again == decided[at:]
