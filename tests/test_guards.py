import pytest
from hypothesis import given, strategies as st

from transcriber.engine.guards import doubt


def judged(tokens, avg_logprob=-0.2, steps=20, max_steps=65):
    return doubt(tokens, avg_logprob, steps=steps, max_steps=max_steps)


@pytest.mark.parametrize(
    "said",
    [
        "gale warning for the north channel tonight",
        "no no no no",
        "seven seven seven one seven seven seven two",
        "mayday mayday mayday this is star of the sea",
        "very very very very very very very good",
    ],
)
def test_speech_is_believed(said):
    assert judged(said.split()) is None


@pytest.mark.parametrize(
    "said",
    [
        "the " * 8,
        "thank you " * 4,
        "and so gale warning " + "for the north " * 4,
        "over " * 8 + "and out",
        "one two three four five six " * 4,
    ],
)
def test_a_loop_is_not(said):
    assert judged(said.split()) == "repetition"


@given(
    head=st.lists(st.integers(1000, 2000), max_size=10, unique=True),
    phrase=st.lists(st.integers(0, 999), min_size=1, max_size=12, unique=True),
    tail=st.lists(st.integers(2001, 3000), max_size=10, unique=True),
    times=st.integers(1, 12),
)
def test_a_loop_is_four_times_the_same_and_eight_tokens(head, phrase, tail, times):
    looped = times >= 4 and times * len(phrase) >= 8

    assert (judged(head + phrase * times + tail) == "repetition") == looped


def test_text_that_the_model_does_not_believe_is_doubtful():
    assert judged(["gale"], avg_logprob=-1.01) == "log_probability"
    assert judged(["gale"], avg_logprob=-1.0) is None


def test_text_that_had_to_be_cut_off_is_doubtful():
    assert judged(["gale"], steps=66, max_steps=65) == "token_cap"
    assert judged(["gale"], steps=65, max_steps=65) is None


def test_no_text_after_long_decoding_is_doubtful_and_silence_is_not():
    assert judged([], avg_logprob=None, steps=30) == "gave_up"
    assert judged([], avg_logprob=None, steps=3) is None
