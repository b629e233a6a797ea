import math

import pytest
from hypothesis import given, strategies as st

from transcriber.engine.transcript import Phrase
from transcriber.engine.whisper.word_timing import Token, clean_text, join_words, phrases

pieces = st.text(max_size=4).map(str.encode) | st.binary(max_size=4)
text_tokens = st.builds(Token, pieces, st.floats(-50, 0), st.none())
stamps = st.integers(0, 1500).map(lambda position: Token(b"", 0.0, 0.02 * position))


def spoken(*pieces: str | float) -> list[Token]:
    """Tokens of strings, with certainty, and time stamps of numbers."""
    return [Token(p.encode(), 0.0) if isinstance(p, str) else Token(b"", 0.0, p) for p in pieces]


def test_word_begins_at_a_space():
    words = join_words(spoken(" har", "bour", ",", " over", "."), 1.0, spaces=True)

    assert [word.word for word in words] == ["harbour,", "over."]


def test_words_share_the_time_between_two_stamps_by_their_characters():
    words = join_words(spoken(1.0, " ab", " abcdef", 3.0, 4.0, " x", 4.5), 5.0, spaces=True)

    assert [(word.start_s, word.end_s) for word in words] == [(1.0, 1.5), (1.5, 3.0), (4.0, 4.5)]


def test_words_without_stamps_fill_the_window():
    words = join_words(spoken(" one", " two"), 4.0, spaces=True)

    assert [(word.start_s, word.end_s) for word in words] == [(0.0, 2.0), (2.0, 4.0)]


def test_stamps_beyond_the_window_or_backwards_are_moved_inside():
    words = join_words(spoken(2.0, " one", 1.0, " two", 30.0), 3.0, spaces=True)

    assert [(word.start_s, word.end_s) for word in words] == [(2.0, 2.0), (2.0, 3.0)]


def test_a_phrase_is_what_stands_between_two_stamps():
    tokens = spoken(0.0, " And", " so", 5.4, 5.4, 7.0, " 港湾", 30.0)

    assert phrases(tokens, 10.0) == (Phrase(0.0, 5.4, 6), Phrase(7.0, 10.0, 6))


def test_no_word_begins_with_a_mark_of_the_character_before_it():
    raw = "ที่น้ำ".encode()
    at = len("ท".encode())  # a tokenizer may end there

    words = join_words([Token(raw[:at], 0.0), Token(raw[at:], 0.0)], 1.0, spaces=False)

    assert [word.word for word in words] == ["ที่น้ำ"]


def test_half_characters_are_joined():
    first, second = "é".encode()[:1], "é".encode()[1:]

    words = join_words([Token(b" caf" + first, 0.0), Token(second, 0.0)], 1.0, spaces=True)

    assert [word.word for word in words] == ["café"]


def test_half_a_character_at_the_end_is_dropped():
    assert clean_text("über".encode() + b"\xc3") == "über"


def test_language_without_spaces_is_cut_between_whole_characters():
    raw = "今天天气很好。".encode()
    pieces = [raw[:6], raw[6:8], raw[8:9], raw[9:18], raw[18:]]

    words = join_words([Token(piece, 0.0) for piece in pieces], 7.0, spaces=False)

    assert [word.word for word in words] == ["今天", "天", "气很好。"]
    assert words[-1].end_s == 7.0


def test_control_bytes_are_no_word():
    tokens = [Token(b"\x00", -0.1), Token(b"", -0.1)]

    assert join_words(tokens, 5.0, spaces=True) == ()
    assert clean_text(b" \x00\x1f ok\x7f ") == "ok"


def test_confidence_is_the_geometric_mean_of_its_tokens():
    (word,) = join_words([Token(b" har", math.log(0.9)), Token(b"bour", math.log(0.4))], 1.0, spaces=True)

    assert word.confidence == pytest.approx(0.6)


@given(st.lists(text_tokens | stamps, max_size=30), st.floats(0.01, 30), st.booleans())
def test_words_are_ordered_and_inside_the_window(tokens, duration_s, spaces):
    words = join_words(tokens, duration_s, spaces=spaces)

    times = [time for word in words for time in (word.start_s, word.end_s)]
    assert times == sorted(times)
    assert all(0.0 <= time <= duration_s for time in times)
    assert all(word.word and word.word == word.word.strip() for word in words)
    assert all(0.0 <= word.confidence <= 1.0 for word in words)


@given(
    st.lists(st.text(st.characters(codec="utf-8", categories=["L", "N", "P"]), min_size=1), min_size=1, max_size=6),
    st.data(),
)
def test_words_are_the_text_wherever_the_tokens_are_cut(said, data):
    raw = "".join(f" {word}" for word in said).encode()
    cuts = sorted(data.draw(st.sets(st.integers(1, len(raw) - 1))))
    # A tokenizer never puts the space of a word at a token's end.
    cuts = [cut for cut in cuts if raw[cut - 1 : cut] != b" "]
    tokens = [Token(raw[a:b], 0.0) for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]

    words = join_words(tokens, 5.0, spaces=True)

    assert clean_text(raw) == " ".join(said)
    assert " ".join(word.word for word in words) == " ".join(said)


def cut(data, raw):
    """Tokens of any bytes of ``raw``."""
    cuts = sorted(data.draw(st.sets(st.integers(1, len(raw) - 1)))) if len(raw) > 1 else []
    return [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]


@given(st.text(st.characters(codec="utf-8", categories=["Lo", "Mn", "Mc", "Po"]), min_size=1, max_size=20), st.data())
def test_without_spaces_words_are_the_whole_characters_wherever_the_tokens_are_cut(said, data):
    pieces = cut(data, said.encode())

    words = join_words([Token(piece, 0.0) for piece in pieces], 5.0, spaces=False)

    assert "".join(word.word for word in words) == said
    assert len(words) <= len(pieces)
    assert [word.start_s for word in words] == [0.0, *(word.end_s for word in words[:-1])]
    assert words[-1].end_s == pytest.approx(5.0)


@given(st.lists(st.floats(-20, 0), min_size=1, max_size=6), st.booleans())
def test_a_word_is_no_surer_than_its_surest_token_and_no_less_than_its_least(logprobs, spaces):
    tokens = [Token(raw, logprob) for raw, logprob in zip([b" \xe6", *[b"\xb8\xaf"] * 5], logprobs, strict=False)]
    tokens += [Token(b"\xb8\xaf", logprobs[-1])] * (len(tokens) == 1)

    word = join_words(tokens, 1.0, spaces=spaces)[0]

    assert word.word == "港"
    sure = [math.exp(token.logprob) for token in (tokens if spaces else tokens[:2])]
    assert min(sure) - 1e-9 <= word.confidence <= max(sure) + 1e-9
