"""Whole results, and the phrases that they and captions are made of."""

import html
import json
import re
import unicodedata
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, strategies as st

from tests.support.messages import CUE, RATE, end, final, gap, said, silence, started
from transcriber.schema.messages import AnyMessage, Final, Word
from transcriber.text.captions import Cues
from transcriber.text.lines import LINE_COLUMNS, columns
from transcriber.text.phrases import MAX_PHRASE_S, SHORTEST_S, PhraseQueue
from transcriber.text.results import Form, Result, render, writer

FORMS: tuple[Form, ...] = ("json", "verbose_json", "text", "srt", "vtt")


def spoken(text: str, start_s: float, duration_s: float, *, speaker: str | None = None, language: str = "en") -> Any:
    """A final whose words share its time."""
    found = text.split()
    each_s = duration_s / max(1, len(found))
    words = tuple(
        Word(word=word, start=start_s + i * each_s, end=start_s + (i + 1) * each_s, confidence=0.5)
        for i, word in enumerate(found)
    )
    return said(Final, text, start_s, duration_s, words=words, speaker=speaker, language=language, avg_logprob=-0.2)


def phrases(*messages: AnyMessage) -> list[Any]:
    timeline = PhraseQueue()
    return [phrase for message in messages for phrase in timeline.add(message)]


SESSION = [
    started(), spoken("Gale warning, over.", 0, 5), silence(5), gap(10, 5, detail="3 wait"), spoken("Say again.", 15, 5), end(20),
]  # fmt: skip


def test_json_is_openais() -> None:
    assert json.loads(render(SESSION, Result("json"))) == {"text": "Gale warning, over. Say again."}


def test_verbose_json_is_openais_and_names_the_gaps() -> None:
    found = json.loads(render(SESSION, Result("verbose_json", "translate")))

    assert {name: found[name] for name in ("task", "language", "duration", "text", "gaps")} == {
        "task": "translate",
        "language": "en",
        "duration": 20.0,
        "text": "Gale warning, over. Say again.",
        "gaps": [{"start": 10.0, "end": 15.0, "reason": "queue_full", "detail": "3 wait"}],
    }
    first, second = found["segments"]
    assert first["words"] + second["words"] == found["words"]
    assert found["words"][-1] == {"word": "again.", "start": 17.5, "end": 20.0, "probability": 0.5}
    assert {name: first[name] for name in first if name != "words"} == {
        "id": 0, "start": 0.0, "end": 5.0, "text": "Gale warning, over.", "avg_logprob": -0.2, "no_speech_prob": None,
        "temperature": 0.0, "speaker": None,
    }  # fmt: skip
    assert (second["id"], second["start"], second["end"]) == (1, 15.0, 20.0)


HELD_BACK = [{"start": 5.0, "end": 10.0, "reason": "repetition"}]


def test_suppressed_text_is_reported_in_json_too_and_else_json_is_openais() -> None:
    messages = [started(), spoken("call", 0, 5), said(Final, "", 5, 5, suppressed="repetition"), end(10)]

    assert json.loads(render(messages, Result("json"))) == {"text": "call", "suppressed": HELD_BACK}
    verbose = json.loads(render(messages, Result("verbose_json")))
    assert (verbose["text"], verbose["suppressed"]) == ("call", HELD_BACK)
    assert [segment["text"] for segment in verbose["segments"]] == ["call"]
    assert json.loads(render(SESSION, Result("verbose_json")))["suppressed"] == []


def test_words_are_written_once_where_memory_counts() -> None:
    found = json.loads(render(SESSION, Result("verbose_json", words=False)))

    assert "words" not in found
    assert [word["word"] for segment in found["segments"] for word in segment["words"]] == [
        "Gale", "warning,", "over.", "Say", "again.",
    ]  # fmt: skip


def test_text_has_a_line_a_window_and_shows_gaps() -> None:
    assert render(SESSION, Result("text")) == "Gale warning, over.\n[not transcribed: queue_full]\nSay again.\n"


def test_captions_are_those_of_listen() -> None:
    cues = Cues("vtt")

    assert render(SESSION, Result("vtt")) == cues.head + "".join(map(cues.add, SESSION))


def test_speakers_are_named_whatever_their_labels() -> None:
    messages = [started(), spoken("call", 0, 5, speaker="A"), spoken("reply", 5, 5, speaker="B"), silence(10), end(15)]

    assert render(messages, Result("text")) == "Speaker A: call\nSpeaker B: reply\n"
    assert "<v Speaker B>reply" in render(messages, Result("vtt"))
    assert "Speaker A: call" in render(messages, Result("srt"))
    found = json.loads(render(messages, Result("verbose_json")))
    assert [segment["speaker"] for segment in found["segments"]] == ["A", "B"]


def test_speakers_by_voice_do_not_wait_for_each_other() -> None:
    cues = Cues("srt")
    cues.add(started())

    assert "call" in cues.add(spoken("call", 0, 5, speaker="A"))
    assert "reply" in cues.add(spoken("reply", 5, 5, speaker="B"))


@pytest.mark.parametrize("form", FORMS)
def test_a_session_without_words_is_an_empty_result(form) -> None:
    found = render([started(), silence(0), end(5)], Result(form))

    if "json" in form:
        assert json.loads(found)["text"] == ""
    else:
        assert found == ("WEBVTT\n\n" if form == "vtt" else "")


def test_languages_without_spaces_are_joined_without_any() -> None:
    messages = [spoken("人人生而自由", 0, 5, language="zh"), spoken("在尊嚴和權利上", 5, 5, language="zh"), end(10)]

    assert json.loads(render([started(), *messages], Result("json"))) == {"text": "人人生而自由在尊嚴和權利上"}


def test_a_long_window_is_split_at_the_ends_of_sentences() -> None:
    sentences = [f"Sentence number {n} is said here, slowly and clearly." for n in range(6)]

    found = phrases(started(), spoken(" ".join(sentences), 0, 25), end(25))

    assert [phrase.text for phrase in found] == sentences
    assert [phrase.start_s for phrase in found[1:]] == [phrase.end_s for phrase in found[:-1]]


def test_a_pause_ends_a_phrase() -> None:
    words = tuple(
        Word(word=w, start=s, end=s + 0.5, confidence=1) for w, s in (("over", 1.0), ("and", 1.5), ("out", 9.0))
    )

    found = phrases(started(), said(Final, "over and out", 0, 20, words=words), end(20))

    assert [(p.text, p.start_s, p.end_s) for p in found] == [("over and", 1.0, 2.0), ("out", 9.0, 10.0)]


def test_words_that_are_not_in_the_text_are_returned_all_the_same() -> None:
    words = tuple(Word(word=f"w{s}", start=s, end=s + 1, confidence=1) for s in range(20))

    found = phrases(started(), said(Final, "something else was written " * 6, 0, 20, words=words), end(20))

    assert len(found) > 1
    assert [word for phrase in found for word in phrase.words or ()] == list(words)


texts = st.lists(st.text("ab, .?é人", min_size=1, max_size=14).filter(str.strip), min_size=1, max_size=60).map(" ".join)
windows = st.lists(
    st.tuples(st.integers(RATE, 25 * RATE), texts, st.booleans(), st.sampled_from([None, "0", "1", "A", "B"])),
    min_size=1,
    max_size=6,
)


def session(parts: list[tuple[int, str, bool, str | None]], *, apart: bool) -> list[Any]:
    """A session of windows: frames, text, whether its words are timed, speaker."""
    messages, clock_frames = [started()], 0
    for frames, text, timed, speaker in parts:
        place = clock_frames / RATE, frames / RATE
        clock_frames += frames
        label = None if not apart and speaker in {"0", "1"} else speaker
        messages.append(spoken(text, *place, speaker=label) if timed else final(text, *place, speaker=label))
    return [*messages, end(clock_frames / RATE)]


@given(parts=windows, apart=st.booleans())
def test_any_speech_becomes_phrases_in_order_that_lose_nothing(parts, apart) -> None:
    messages = session(parts, apart=apart)
    found = phrases(*messages)

    assert [phrase.start_frame for phrase in found] == sorted(phrase.start_frame for phrase in found)
    assert all(phrase.end_s > phrase.start_s for phrase in found)
    for speaker in {phrase.speaker for phrase in found}:
        own = [phrase for phrase in found if phrase.speaker == speaker]
        assert all(before.end_s <= after.start_s + 1e-9 for before, after in pairwise(own))
        texts_of = [m.text for m in messages if isinstance(m, Final) and (m.speaker or "") == speaker]
        assert squeezed("".join(phrase.text for phrase in own)) == squeezed("".join(texts_of))
        words_of = [w for m in messages if isinstance(m, Final) and (m.speaker or "") == speaker for w in m.words or ()]
        assert [word for phrase in own for word in phrase.words or ()] == words_of


@given(text=texts, seconds=st.integers(15, 25), timed=st.booleans())
def test_a_phrase_has_seven_seconds_at_most(text, seconds, timed) -> None:
    message = spoken(text, 0, seconds) if timed else final(text, 0, seconds)

    for phrase in phrases(started(), message, end(seconds)):
        alone = " " not in phrase.text.strip()
        assert alone or phrase.end_s - phrase.start_s <= MAX_PHRASE_S + 1e-9


any_script = st.text("ab,. é\u0301人ก\u0e34ำမ\u102cြ👩\u200d。", min_size=1, max_size=200).filter(str.strip)


@given(
    text=texts | any_script,
    seconds=st.integers(1, 25),
    timed=st.booleans(),
    speaker=st.sampled_from([None, "0", "A", "AB"]),
)
def test_a_caption_can_be_read_whatever_is_said(text, seconds, timed, speaker) -> None:
    message = spoken(text, 0, seconds, speaker=speaker) if timed else final(text, 0, seconds, speaker=speaker)
    found = phrases(started(), message, end(seconds))

    least_s = min(SHORTEST_S, seconds / len(found))
    assert all(phrase.end_s - phrase.start_s >= least_s - 1e-9 for phrase in found)
    for form in ("srt", "vtt"):
        cues = CUE.findall(render([started(), message, end(seconds)], Result(form)))
        assert cues
        for _, begin, until, body in cues:
            lines = re.sub("<v [^>]*>", "", html.unescape(body)).splitlines()
            assert len(lines) <= 2
            assert max(map(columns, lines)) <= LINE_COLUMNS
            assert not any(unicodedata.category(line[0]).startswith("M") for line in lines)
            assert seconds_of(until) - seconds_of(begin) >= SHORTEST_S - 1e-9
        assert all(seconds_of(one[2]) <= seconds_of(other[1]) for one, other in pairwise(cues))


def seconds_of(stamp: str) -> float:
    hours, minutes, seconds = stamp.replace(",", ".").split(":")
    return round(3600 * int(hours) + 60 * int(minutes) + float(seconds), 3)


def test_a_word_of_many_characters_is_cut_into_captions_of_two_lines() -> None:
    word = "x" * 140

    cues = CUE.findall(render([started(), spoken(f"It is {word} then", 0, 10), end(10)], Result("srt")))

    assert [[len(line) for line in body.splitlines()] for *_, body in cues] == [[42, 42], [42, 25]]
    assert "".join("".join(body.split()) for *_, body in cues) == f"Itis{word}then"


def test_words_that_begin_within_a_character_stay_with_it() -> None:
    said_words = [("ก" * 83, 0.0, 4.0), ("\u0e34น", 4.0, 5.0)]
    words = tuple(Word(word=w, start=a, end=b, confidence=1) for w, a, b in said_words)
    text = "".join(word.word for word in words)

    found = phrases(started(), said(Final, text, 0, 5, words=words, language="th"), end(5))

    assert [phrase.text for phrase in found] == ["ก" * 82 + "ก\u0e34น"]
    assert [word for phrase in found for word in phrase.words] == list(words)


def test_what_is_said_in_no_time_is_shown_long_enough_within_its_window() -> None:
    words = tuple(Word(word=f"word{n}", start=9.95, end=9.95, confidence=1) for n in range(40))

    found = phrases(started(), said(Final, " ".join(w.word for w in words), 0, 10, words=words), end(10))

    assert len(found) > 2
    assert [phrase.end_s for phrase in found[:-1]] == pytest.approx([phrase.start_s for phrase in found[1:]])
    assert all(phrase.end_s - phrase.start_s >= SHORTEST_S - 1e-9 for phrase in found)
    assert found[0].start_s > 8.5


def test_words_that_are_not_in_the_text_still_say_when_it_was_said() -> None:
    words = (Word(word="other", start=6.0, end=8.0, confidence=1),)

    (phrase,) = phrases(started(), said(Final, "something else", 0, 10, words=words), end(10))

    assert (phrase.start_s, phrase.end_s) == (6.0, 8.0)


def test_what_ends_too_soon_is_shown_a_little_longer_and_what_follows_waits() -> None:
    cues = CUE.findall(render([started(), spoken("Yes.", 0, 0.1), spoken("No.", 0.1, 2), end(2.1)], Result("vtt")))

    assert [(begin[-6:], until[-6:]) for _, begin, until, _ in cues] == [("00.000", "00.300"), ("00.300", "02.100")]


def test_no_caption_of_one_channel_lies_across_what_the_other_says_in_its_pause() -> None:
    """Agent and customer in one long window each: a short answer in a pause of the agent's."""
    agent = said_at([("May", 0.0, 0.4), ("I?", 0.4, 0.8), ("Thank", 1.5, 1.8), ("you.", 1.8, 2.2)], "0")
    customer = said_at([("Yes.", 0.9, 1.4)], "1")

    found = phrases(started(), agent, customer, end(20))

    assert [(phrase.speaker, phrase.text) for phrase in found] == [("0", "May I?"), ("1", "Yes."), ("0", "Thank you.")]
    assert found[0].end_s <= found[2].start_s


def said_at(times: list[tuple[str, float, float]], speaker: str) -> Any:
    words = tuple(Word(word=w, start=a, end=b, confidence=1) for w, a, b in times)
    return said(Final, " ".join(w.word for w in words), 0, 20, words=words, speaker=speaker, language="en")


@given(parts=windows)
def test_every_form_is_well_formed_and_says_the_same(parts) -> None:
    messages = session(parts, apart=False)
    expected = squeezed("".join(text for _, text, _, _ in parts))

    results = {form: render(messages, Result(form)) for form in FORMS}

    assert squeezed(json.loads(results["json"])["text"]) == expected
    verbose = json.loads(results["verbose_json"])
    assert squeezed(verbose["text"]) == expected
    assert squeezed("".join(segment["text"] for segment in verbose["segments"])) == expected
    assert re.sub(r"Speaker .: ", "", results["text"]).count("\n") == len(parts)


@pytest.mark.parametrize("form", FORMS)
def test_writers_keep_what_has_no_end_out_of_memory(form) -> None:
    """A result is written as it grows: nothing of a long session waits for its end but the running text."""
    of_form = writer(Result(form, words=False))
    written = len(of_form.head + of_form.add(started()))

    for number in range(200):
        before = written
        written += len(of_form.add(spoken("Visibility two miles and falling.", 5.0 * number, 5)))
        assert written > before


def squeezed(text: str) -> str:
    return "".join(text.split())
