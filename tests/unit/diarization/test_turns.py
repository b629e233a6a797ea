from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from transcriber.diarization.turns import LONGEST_S, PAUSE_S, relabelled, turns
from transcriber.schema.messages import Final, Timing, Word

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


@given(said=finals())
def test_all_words_are_in_turns_that_are_no_longer_than_they_may_be(said):
    found = turns(said)

    assert sum(turn.words for turn in found) == len(said.words)
    assert all(turn.words == 1 or turn.end_s - turn.start_s <= LONGEST_S for turn in found)
    at = 0
    for turn in found:
        words = said.words[at : at + turn.words]
        assert (turn.start_s, turn.end_s) == (words[0].start, words[-1].end)
        assert all(word.start - last.end < PAUSE_S for last, word in pairwise(words))
        at += turn.words


@given(said=finals(), data=st.data())
def test_parts_tile_the_final_to_the_frame_the_letter_and_the_word(said, data):
    found = turns(said)
    labels = data.draw(st.lists(st.sampled_from("AB"), min_size=len(found), max_size=len(found)))

    parts = relabelled(said, iter([*labels, "of the next final"]))

    assert [part.start_frame for part in parts[1:]] == [part.start_frame + part.frames for part in parts[:-1]]
    assert parts[0].start_frame == said.start_frame
    assert sum(part.frames for part in parts) == said.frames
    assert all((part.start, part.duration) == (part.start_frame / RATE, part.frames / RATE) for part in parts)
    assert "".join("".join(part.text.split()) for part in parts) == "".join(said.text.split())
    assert [word for part in parts for word in part.words or ()] == list(said.words)
    assert [part.speaker for part in parts for _ in part.words or ()] == [
        label for label, turn in zip(labels, found, strict=True) for _ in range(turn.words)
    ]
    assert all(one.speaker != other.speaker for one, other in pairwise(parts))
    assert all(Final.model_validate(part.model_dump(by_alias=True)) == part for part in parts)


def test_a_pause_the_end_of_a_sentence_and_too_much_length_end_a_turn():
    pause = final(spoken("one", "two", 0.4, "three"))
    sentence = final(spoken("Is", "it?", "Yes.", "It", "is."))
    arabic = final(spoken("كيف", "حالك؟", "بخير"))
    long = final(spoken(*["word"] * 40))

    assert [turn.words for turn in turns(pause)] == [2, 1]
    assert [turn.words for turn in turns(sentence)] == [2, 3], "a sentence of one short word ends no turn"
    assert [turn.words for turn in turns(arabic)] == [2, 1]
    assert [turn.words for turn in turns(long)] == [17, 17, 6]


def test_each_speaker_has_a_part_of_their_own():
    said = final(spoken("Who", "goes", "there?", 0.5, "A", "friend.", 0.5, "Of", "whom?"), captured_at=AT)

    parts = relabelled(said, iter("ABB"))

    assert texts(parts) == [("A", "Who goes there?"), ("B", "A friend. Of whom?")]
    assert parts[1].start == pytest.approx((said.words[2].end + said.words[3].start) / 2, abs=1 / RATE)
    assert parts[1].captured_at == AT + timedelta(seconds=parts[1].start)
    assert [part.speech_final for part in parts] == [True, False]
    assert {part.segment for part in parts} == {3}


def test_text_without_spaces_is_cut_where_the_words_are():
    said = final([("你", 0.5, 0.8), ("好。", 0.8, 1.2), ("是", 2.0, 2.3)], "你好。是")

    assert texts(relabelled(said, iter("AB"))) == [("A", "你好。"), ("B", "是")]


def test_labels_are_taken_final_by_final():
    labels = iter("ABC")

    first = relabelled(final(spoken("one", 0.5, "two")), labels)
    nothing = relabelled(final((), ""), labels)
    without_times = relabelled(final(None, "three"), labels)

    assert texts(first) == [("A", "one"), ("B", "two")]
    assert texts(nothing) == [(None, "")]
    assert texts(without_times) == [("C", "three")]
    assert (without_times[0].start_frame, without_times[0].frames) == (0, 25 * RATE)


def test_too_few_labels_are_a_mistake():
    with pytest.raises(ValueError, match="zip"):
        relabelled(final(spoken("one", 0.5, "two")), iter("A"))
