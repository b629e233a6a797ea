"""Text of windows in which voices are told apart: who says what, in lines, captions and results."""

import html
import json
import re
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, strategies as st

from tests.support.messages import CUE, RATE, end, final, gap, said, started
from transcriber.schema.messages import AnyMessage, Final, Revision, Transcribed, Word, message_id
from transcriber.text.captions import Cues, Line, text_lines
from transcriber.text.lines import LINE_COLUMNS, columns
from transcriber.text.phrases import PhraseQueue
from transcriber.text.results import Result, render
from transcriber.text.revisions import with_revisions

Labelled = list[tuple[str, str | None]]
"""Words, each with its speaker."""


def voiced(
    pairs: Labelled, start_s: float, duration_s: float = 5.0, kind: type[Transcribed] = Final, **more: Any
) -> Any:
    """A message whose words share its time; its speaker is that of most of them."""
    each_s = duration_s / max(1, len(pairs))
    timed = tuple(
        Word(word=word, start=start_s + i * each_s, end=start_s + (i + 1) * each_s, confidence=0.5, speaker=speaker)
        for i, (word, speaker) in enumerate(pairs)
    )
    labels = [speaker for _, speaker in pairs if speaker]
    most = max(labels, key=labels.count, default=None)
    return said(
        kind, " ".join(word for word, _ in pairs), start_s, duration_s, **{"words": timed, "speaker": most} | more
    )


def by(**said_by: str) -> Labelled:
    """``by(A="Who is there?", B="Me.")``; a name may have a number, which is left out."""
    return [(word, name[0]) for name, text in said_by.items() for word in text.split()]


TWO = by(A="Pilot boat, where are you?", B="Off the pier.")


def texts(message: AnyMessage) -> list[str]:
    return [line.text for line in text_lines(message)]


def test_each_speaker_of_a_window_has_a_line_from_when_the_first_word_is_said() -> None:
    assert text_lines(voiced(TWO, 60, 8)) == [
        Line("[01:00] radio (A): Pilot boat, where are you?"),
        Line("[01:05] radio (B): Off the pier."),
    ]


def test_a_revision_that_corrects_a_speaker_says_whose_the_words_are() -> None:
    revision = voiced(TWO, 60, 8, Revision, replaces=("x",), last_segment=0)

    assert texts(revision) == [
        "[01:00] radio (A): [revised] Pilot boat, where are you?",
        "[01:05] radio (B): [revised] Off the pier.",
    ]


def test_suppressed_text_is_mentioned_once_behind_the_words_that_are_left() -> None:
    assert texts(voiced(TWO, 60, 8, suppressed="rate")) == [
        "[01:00] radio (A): Pilot boat, where are you?",
        "[01:05] radio (B): Off the pier. [held back 8.0 s: rate]",
    ]


@pytest.mark.parametrize(
    ("labels", "lines"),
    [
        ([None, "A", None, "B", None], ["(A): w0 w1 w2", "(B): w3 w4"]),
        (["A", None, "A", "B", "A"], ["(A): w0 w1 w2", "(B): w3", "(A): w4"]),
        ([None] * 5, [": w0 w1 w2 w3 w4"]),
    ],
)
def test_a_word_without_a_label_stays_with_those_before_it(labels, lines) -> None:
    found = texts(voiced([(f"w{i}", label) for i, label in enumerate(labels)], 0))

    assert [re.sub(r"^\[.*\] radio ?", "", line) for line in found] == lines


@pytest.mark.parametrize("words", [None, (Word(word="other", start=0, end=1, confidence=1, speaker="A"),)])
def test_a_text_whose_words_are_not_known_is_of_the_speaker_of_most_of_them(words) -> None:
    message = voiced(TWO, 0, words=words, speaker="B")

    assert texts(message) == ["[00:00] radio (B): Pilot boat, where are you? Off the pier."]
    assert "<v Speaker B>Pilot" in render([started(), message, end(5)], Result("vtt"))


def test_a_caption_ends_where_the_speaker_changes() -> None:
    answers = by(A="Are you there?", B="Yes.", A2="Then come.")

    found = CUE.findall(render([started(), voiced(answers, 0, 6), end(6)], Result("vtt")))

    assert [(begin[-6:], until[-6:], body.strip()) for _, begin, until, body in found] == [
        ("00.000", "03.000", "<v Speaker A>Are you there?"),
        ("03.000", "04.000", "<v Speaker B>Yes."),
        ("04.000", "06.000", "<v Speaker A>Then come."),
    ]


def test_what_is_said_at_once_is_shown_one_after_the_other() -> None:
    """A short answer is shown long enough, and what follows waits."""
    words = (
        Word(word="Come", start=0.0, end=1.0, confidence=1, speaker="A"),
        Word(word="Yes", start=0.9, end=1.0, confidence=1, speaker="B"),
        Word(word="now", start=1.0, end=2.0, confidence=1, speaker="A"),
    )
    messages = [said(Final, "Come Yes now", 0, 2, words=words, speaker="A"), voiced(by(B="Aye."), 2, 1), end(3)]

    found = CUE.findall(render([started(), *messages], Result("srt")))

    assert [(begin[-6:], until[-6:], body.strip()) for _, begin, until, body in found] == [
        ("00,000", "00,900", "Speaker A: Come"),
        ("00,900", "01,200", "Speaker B: Yes"),
        ("01,200", "02,000", "Speaker A: now"),
        ("02,000", "03,000", "Speaker B: Aye."),
    ]


def test_results_name_the_speakers_and_their_text_is_the_same() -> None:
    session = [started(), voiced(TWO, 0, 8), gap(8), voiced(by(B="Over."), 13), end(18)]

    assert render(session, Result("text")) == (
        "Speaker A: Pilot boat, where are you?\nSpeaker B: Off the pier.\n[not transcribed: queue_full]\nSpeaker B: Over.\n"
    )
    assert json.loads(render(session, Result("json"))) == {"text": "Pilot boat, where are you? Off the pier. Over."}
    verbose = json.loads(render(session, Result("verbose_json")))
    assert [(one["speaker"], one["text"]) for one in verbose["segments"]] == [
        ("A", "Pilot boat, where are you?"), ("B", "Off the pier."), ("B", "Over."),
    ]  # fmt: skip
    assert [len(one["words"]) for one in verbose["segments"]] == [5, 3, 1]


def test_a_revision_that_corrects_speakers_stands_in_the_place_of_its_final() -> None:
    before = voiced([(word, "A") for word, _ in TWO], 0, 8)
    replaced = message_id(before.stream, before.session, 0, "final", 0)
    session = [started(), before, voiced(TWO, 0, 8, Revision, replaces=(replaced,), last_segment=0), end(8)]

    found = render(with_revisions(session), Result("text"))

    assert found == "Speaker A: Pilot boat, where are you?\nSpeaker B: Off the pier.\n"


def test_what_a_speaker_said_before_the_window_that_has_it_is_in_the_results() -> None:
    """A final that is cut where the speaker changes, of which the first words were held back by the window before."""
    held_back = voiced(by(A="Aye."), 5, 0)
    session = [started(), voiced(by(A="Come."), 0), held_back, voiced(by(B="Ready?"), 5), end(10)]

    assert render(session, Result("text")) == "Speaker A: Come.\nSpeaker A: Aye.\nSpeaker B: Ready?\n"
    assert [cue[2] for cue in CUE.findall(render(session, Result("srt")))] == [
        "00:00:05,000", "00:00:05,300", "00:00:10,000",
    ]  # fmt: skip


def test_a_listener_gets_the_caption_of_a_speaker_while_the_window_after_it_is_open() -> None:
    cues = Cues("vtt")

    written = cues.add(started()) + cues.add(voiced(TWO, 0, 8))

    assert "<v Speaker A>Pilot boat, where are you?" in written
    assert "<v Speaker B>Off the pier." in written


some_words = st.lists(
    st.tuples(st.text("ab, .?é人", min_size=1, max_size=9).filter(str.strip), st.sampled_from([None, "A", "B", "AB"])),
    min_size=1,
    max_size=20,
).map(lambda found: [("".join(word.split()), speaker) for word, speaker in found])
some_windows = st.lists(st.tuples(st.integers(1, 10 * RATE) | st.integers(1, 9), some_words), min_size=1, max_size=4)


@given(windows=some_windows)
def test_no_word_is_lost_moved_or_given_to_another_speaker(windows) -> None:
    session: list[AnyMessage] = [started()]
    at_frames = 0
    for frames, words in windows:
        session.append(voiced(words, at_frames / RATE, frames / RATE))
        at_frames += frames
    session.append(end(at_frames / RATE))
    said_words = [word for _, words in windows for word, _ in words]

    for split in (True, False):
        queue = PhraseQueue(split=split)
        found = [phrase for message in session for phrase in queue.add(message)]
        assert "".join("".join(phrase.text.split()) for phrase in found) == "".join(said_words)
        assert [word.word for phrase in found for word in phrase.words or ()] == said_words
        for phrase in found:
            labels = {word.speaker for word in phrase.words or () if word.speaker}
            assert labels <= {phrase.speaker}, "words of another"
    lines = [line.text for message in session[1:-1] for line in text_lines(message)]
    assert "".join("".join(re.sub(r"^\[.*?\] radio[^:]*: ", "", line).split()) for line in lines) == "".join(said_words)


@given(words=some_words, seconds=st.integers(1, 25))
def test_captions_of_any_speakers_can_be_read(words, seconds) -> None:
    session = [started(), voiced(words, 0, seconds), final("and then", seconds, 1), end(seconds + 1)]

    for form in ("srt", "vtt"):
        cues = CUE.findall(render(session, Result(form)))
        assert cues
        for *_, body in cues:
            lines = re.sub("<v [^>]*>", "", html.unescape(body)).splitlines()
            assert len(lines) <= 2
            assert max(map(columns, lines)) <= LINE_COLUMNS
        assert all(one[2] <= other[1] for one, other in pairwise(cues))
