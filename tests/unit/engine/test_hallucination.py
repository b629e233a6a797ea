from typing import get_args

import pytest
from hypothesis import given, strategies as st

from transcriber.engine.hallucination import (
    MAX_LETTERS_PER_SECOND,
    MAX_SAID_AGAIN_PER_SECOND,
    UNHEARD_SPEECH_S,
    WEAK_SPEECH_PROB,
    doubt,
    letters,
    suppression,
)
from transcriber.schema.messages import Suppressed


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


LONG = "gale warning for the north channel tonight " * 4


@pytest.mark.parametrize(
    ("text", "avg_logprob", "doubted", "heard", "reason"),
    [
        ("gale", -0.2, None, {}, None),
        ("gale", -0.2, "repetition", {}, "repetition"),
        ("gale", -1.1, "log_probability", {}, "log_probability"),
        ("gale", -0.2, "token_cap", {}, "token_cap"),
        ("", None, "gave_up", {}, None),
        ("", -2.0, "log_probability", {}, None),  # whisper said a control byte
        ("gale", -0.7, None, {"speech_prob": 0.89}, "no_speech"),
        ("gale", -1.1, "log_probability", {"speech_prob": 0.3}, "no_speech"),
        ("gale", -0.7, None, {"speech_prob": 0.9}, None),
        ("gale", -1.1, "log_probability", {"speech_prob": 0.9}, None),
        ("gale", -1.4, "log_probability", {"speech_prob": 0.9}, "log_probability"),
        (LONG, -1.1, "log_probability", {"speech_prob": 0.9, "speech_s": 0.3}, "rate"),
        ("gale", -0.5, None, {"speech_prob": 0.0}, None),
        ("gale", None, None, {"speech_prob": 0.0}, None),
        (LONG, -0.2, None, {"speech_s": 0.3}, "rate"),
        (LONG, -0.2, "repetition", {"speech_s": 0.3}, "repetition"),
        (LONG, -0.2, None, {"speech_s": 3.0}, None),
        (LONG, -0.2, None, {}, None),
    ],
)
def test_what_speaks_against_a_text(text, avg_logprob, doubted, heard, reason):
    assert suppression(text, avg_logprob, doubted, **heard) == reason


ARTICLE_1 = {
    "en": "All human beings are born free and equal in dignity and rights. They are endowed with reason and conscience"
    " and should act towards one another in a spirit of brotherhood.",
    "ja": "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。"
    "人間は、理性と良心とを授けられており、互いに同胞の精神をもって行動しなければならない。",
    "ko": "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다."
    " 인간은 천부적으로 이성과 양심을 부여받았으며 서로 형제애의 정신으로 행동하여야 한다.",
    "my": "လူတိုင်းသည် တူညီလွတ်လပ်သော ဂုဏ်သိက္ခာဖြင့်လည်းကောင်း၊ တူညီလွတ်လပ်သော အခွင့်အရေးများဖြင့်လည်းကောင်း "
    "မွေးဖွားလာသူများ ဖြစ်သည်။ ထိုသူတို့၌ ပိုင်းခြားဝေဖန်တတ်သော ဉာဏ်နှင့် ကျင့်ဝတ်သိတတ်သော စိတ်တို့ရှိကြ၍ "
    "ထိုသူတို့သည် အချင်းချင်း မေတ္တာထား၍ ဆက်ဆံကျင့်သုံးသင့်၏။",
    "zh": "人人生而自由,在尊严和权利上一律平等。他们赋有理性和良心,并应以兄弟关系的精神相对待。",
}


@pytest.mark.parametrize("language", ARTICLE_1)
def test_the_same_content_takes_about_as_long_in_every_script_and_is_said_in_seven_seconds_at_the_least(language):
    text = ARTICLE_1[language]

    assert 15 <= letters(text) / 7 <= 37
    assert suppression(text, -0.2, None, speech_s=7.0) is None
    assert suppression(text, -0.2, None, speech_s=0.5) == ("rate" if letters(text) > 90 else None)


NO_8 = "No, no, no, no, no, no, no, no."
MAYDAY = "Mayday, Mayday, Mayday, Mayday, this is Star of the Sea. Star of the Sea."


@pytest.mark.parametrize(
    ("text", "speech_s"),
    [
        (NO_8, 2.3),
        ("Yes, yes, yes, yes, yes, yes, yes, yes.", 2.5),
        ("five five five five five five five five five five", 3.8),
        ("5 5 5 5 5 5 5 5", 3.0),
        ("1 2 3 1 2 3 1 2 3 1 2 3 1 2", 2.72),
        (MAYDAY, 3.6),
        ("It is very, very, very, very, very, very, very, very cold.", 3.5),
        ("Thank you. Thank you. Thank you. Thank you. Thank you.", 3.0),
        ("Don't, don’t, don't, don't, DON'T!", 2.0),  # noqa: RUF001
        ("нет, нет, нет, нет, нет, нет, нет, нет", 2.5),
    ],
)
def test_what_people_say_again_and_again_is_kept_if_there_was_time_to_say_it(text, speech_s):
    assert suppression(text, -0.2, "repetition", speech_s=speech_s) is None
    assert suppression(text, -0.2, "repetition", speech_s=0.4) == "repetition"
    assert suppression(text, -0.2, "repetition") == "repetition"  # no detector
    assert suppression(text, -0.2, "token_cap", speech_s=speech_s) == "token_cap"  # it has no end


@pytest.mark.parametrize(
    "text",
    [
        "1 2 3 4 5 six 1 2 3 4 5 six 1 2 3 4 5 six 1 2 3 4 5 six",
        "My name is My name is My name is My name is",  # more words than people say again
        "and so gale warning " + "for the north " * 4,
        "no no no no no no no no " + "for the north channel " * 4,
        "No, no, no. " * 12,  # 29 letters a second
        "SUSUSUSUSUSUSUSUSUSU",  # within a word
        "不不不不不不不不",
        "...",
    ],
)
def test_what_people_do_not_say_so_often_is_held_back(text):
    assert suppression(text, -0.2, "repetition", speech_s=4.9) == "repetition"


@given(
    unit=st.lists(st.sampled_from(["no", "yes", "mayday", "нет"]), min_size=1, max_size=2),
    times=st.integers(4, 30),
    head=st.lists(st.sampled_from(["gale", "warning", "over"]), max_size=3, unique=True),
    speech_s=st.floats(0, 30),
    more_s=st.floats(0, 30),
)
def test_a_word_or_two_are_kept_from_that_much_speech_on_which_holds_them(unit, times, head, speech_s, more_s):
    text = " ".join(head + unit * times)

    found = suppression(text, -0.2, "repetition", speech_s=speech_s)

    assert (found is None) == (letters(text) <= MAX_SAID_AGAIN_PER_SECOND * speech_s)
    if found is None:
        assert suppression(text, -0.2, "repetition", speech_s=speech_s + more_s) is None


@given(st.lists(st.integers(), max_size=60, unique=True), st.none() | st.floats(1.0, 30.0))
def test_a_text_that_says_nothing_twice_is_not_held_back_for_repetition(tokens, speech_s):
    doubted = judged(tokens)

    assert doubted is None
    assert suppression("the tide", -0.2, doubted, speech_s=speech_s) is None


@given(
    text=st.text(max_size=200),
    avg_logprob=st.none() | st.floats(-10, 0),
    steps=st.integers(0, 300),
    speech_s=st.none() | st.floats(0, 30),
    speech_prob=st.none() | st.floats(0, 1),
)
def test_every_reason_is_a_series_and_there_is_none_without_text(text, avg_logprob, steps, speech_s, speech_prob):
    doubted = doubt(text.split(), avg_logprob, steps=steps, max_steps=220)

    reason = suppression(text, avg_logprob, doubted, speech_s=speech_s, speech_prob=speech_prob)

    assert reason is None or (text and reason in get_args(Suppressed))
    sure = speech_prob is not None and speech_prob >= WEAK_SPEECH_PROB
    unlikely = doubted == "log_probability" and not sure
    if text and (doubted == "token_cap" or unlikely or (doubted == "repetition" and speech_s is None)):
        assert reason is not None


@given(st.text(min_size=1, max_size=400), st.floats(0, 30), st.floats(0, 30))
def test_more_speech_never_speaks_against_a_text(text, speech_s, more_s):
    few, many = (suppression(text, -0.2, None, speech_s=s) for s in sorted((speech_s, speech_s + more_s)))

    assert many is None or few == "rate"
    assert (few == "rate") == (letters(text) > MAX_LETTERS_PER_SECOND * (speech_s + UNHEARD_SPEECH_S))
