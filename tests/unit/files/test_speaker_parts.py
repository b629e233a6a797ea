from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from transcriber.files.speaker_parts import by_speaker
from transcriber.schema.messages import Final, Timing, Turn, Word

RATE = 48_000
AT = datetime(2026, 1, 1, tzinfo=UTC)


def final(words, text=None, **changes):
    """Of ``words`` (word, start, end)."""
    words = None if words is None else tuple(Word(word=w, start=a, end=b, confidence=None) for w, a, b in words)
    fields = {
        "stream": "job=1", "session": "1", "rate": RATE, "start_frame": 0, "frames": 25 * RATE, "start": 0.0, "duration": 25.0,
        "received_at": AT, "segment": 3, "rev": 0, "text": text if text is not None else " ".join(w.word for w in words or ()),
        "suppressed": None, "words": words, "language": "en", "confidence": 0.9, "avg_logprob": -0.1, "no_speech_prob": 0.0,
        "speech_final": False, "speaker": None, "model": "demo", "captured_at": None,
        "timing": Timing(queue_ms=0, processing_ms=0, handover_ms=0, end_to_end_ms=0, rtf=0),
    }  # fmt: skip
    return Final(**fields | changes)


def spoken(*words, gap_s=0.05):
    """Words of 0.3 s each; a number is a pause."""
    out, at_s = [], 0.5
    for word in words:
        if isinstance(word, float):
            at_s += word
            continue
        out.append((word, round(at_s, 3), round(at_s + 0.3, 3)))
        at_s += 0.3 + gap_s
    return out


def texts(parts):
    return [(part.speaker, part.text) for part in parts]


@st.composite
def finals(draw):
    """Any words at any times that do not go back, with text in which they stand with or without spaces."""
    names = draw(st.lists(st.text("aéж中.?,'\"", min_size=1, max_size=4), max_size=25))
    steps = draw(st.lists(st.floats(0, 1.2), min_size=2 * len(names), max_size=2 * len(names)))
    start_frame = draw(st.integers(0, 10**9))
    at_s, words = start_frame / RATE, []
    for number, name in enumerate(names):
        begin_s = at_s + steps[2 * number] * draw(st.booleans())
        at_s = begin_s + steps[2 * number + 1] / 2
        words.append((name, begin_s, at_s))
    text = draw(st.sampled_from([" ", ""])).join(names)
    frames = draw(st.integers(0, 30 * RATE))  # shorter than its words, perhaps
    place = {"start": start_frame / RATE, "duration": frames / RATE, "start_frame": start_frame, "frames": frames}
    return final(words, text, captured_at=draw(st.sampled_from([None, AT])), **place)


def turns(*spans):
    return tuple(Turn(speaker=speaker, start=start_s, end=end_s) for speaker, start_s, end_s in spans)


@given(said=finals(), data=st.data())
def test_parts_tile_the_final_to_the_frame_the_letter_and_the_word(said, data):
    spans = data.draw(st.lists(st.tuples(st.sampled_from("AB"), st.floats(-1, 26), st.floats(0, 9)), max_size=6))
    heard = sorted(
        turns(*((one, max(0.0, said.start + at), max(0.0, said.start + at) + length) for one, at, length in spans)),
        key=lambda turn: turn.start,
    )

    parts = by_speaker(said, heard)

    assert [part.start_frame for part in parts[1:]] == [part.start_frame + part.frames for part in parts[:-1]]
    assert parts[0].start_frame == said.start_frame
    assert sum(part.frames for part in parts) == said.frames
    assert all((part.start, part.duration) == (part.start_frame / RATE, part.frames / RATE) for part in parts)
    assert "".join("".join(part.text.split()) for part in parts) == "".join(said.text.split())
    assert [word.word for part in parts for word in part.words or ()] == [word.word for word in said.words]
    assert all(word.speaker == part.speaker for part in parts for word in part.words or ())
    assert all(one.speaker != other.speaker for one, other in pairwise(parts))
    assert {part.speaker for part in parts} <= {turn.speaker for turn in heard} | {None}
    assert all(Final.model_validate(part.model_dump(by_alias=True)) == part for part in parts)


def test_each_speaker_has_a_part_of_their_own():
    said = final(spoken("Who", "goes", "there?", 0.5, "A", "friend.", 0.5, "Of", "whom?"), captured_at=AT)

    parts = by_speaker(said, turns(("A", 0.4, 1.6), ("B", 2.0, 4.0)))

    assert texts(parts) == [("A", "Who goes there?"), ("B", "A friend. Of whom?")]
    assert parts[1].start == pytest.approx((said.words[2].end + said.words[3].start) / 2, abs=1 / RATE)
    assert parts[1].captured_at == AT + timedelta(seconds=parts[1].start)
    assert [part.speech_final for part in parts] == [True, False]
    assert {part.segment for part in parts} == {3}
    assert [[turn.speaker for turn in part.turns or ()] for part in parts] == [["A"], ["B"]]


def test_a_change_in_mid_sentence_is_found_and_one_word_alone_is_none():
    """The times of words and of turns are imprecise: a turn that begins a word too early takes none."""
    said = final(spoken("we", "meet", "at", "nine", "no", "at", "ten", "then"))
    changes = turns(("A", 0.4, 1.9), ("B", 1.9, 3.4))

    assert texts(by_speaker(said, changes)) == [("A", "we meet at nine"), ("B", "no at ten then")]
    assert texts(by_speaker(said, turns(("A", 0.4, 0.8), ("B", 0.8, 3.4)))) == [("B", said.text)]
    assert texts(by_speaker(said, turns(("A", 0.4, 2.9), ("B", 2.95, 3.4)))) == [("A", said.text)]


def test_a_short_answer_between_pauses_is_a_part():
    said = final(spoken("are", "you", "there", 0.5, "yes", 0.5, "good", "then"))

    parts = by_speaker(said, turns(("A", 0.4, 1.6), ("B", 1.9, 2.4), ("A", 2.7, 4.0)))

    assert texts(parts) == [("A", "are you there"), ("B", "yes"), ("A", "good then")]


def test_text_without_spaces_is_cut_where_the_words_are():
    said = final([("你", 0.5, 0.8), ("好。", 0.8, 1.2), ("是", 2.0, 2.3)], "你好。是")

    assert texts(by_speaker(said, turns(("A", 0.4, 1.3), ("B", 1.9, 2.4)))) == [("A", "你好。"), ("B", "是")]


def test_without_times_of_words_the_longest_turn_has_the_text_and_nobody_has_none():
    heard = turns(("A", 0.0, 2.0), ("B", 2.0, 9.0))

    assert texts(by_speaker(final(None, "three"), heard)) == [("B", "three")]
    assert texts(by_speaker(final((), ""), heard)) == [(None, "")]
    assert texts(by_speaker(final(spoken("one", 0.5, "two")), ())) == [(None, "one two")]


def test_words_in_no_turn_stay_with_those_before_them_and_the_first_with_those_after():
    said = final(spoken("so", 0.4, "we", "meet", 0.4, "nine", "o'clock", 0.4, "then"))

    parts = by_speaker(said, turns(("B", 1.2, 2.0), ("A", 3.6, 4.5)))

    assert texts(parts) == [("B", "so we meet nine o'clock"), ("A", "then")]
