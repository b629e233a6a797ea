"""The second pass: published text is transcribed again in one piece, and revised or left as it is."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, strategies as st

from transcriber.diarization.job_speakers import JobSpeakers
from transcriber.diarization.live_labeller import Labelled
from transcriber.diarization.voices import VoiceTurn
from transcriber.engine.job import Job
from transcriber.engine.transcript import Phrase, Transcript, Word
from transcriber.pipeline.passages import PASSAGE_S, Part, PartAudio, Passage, Passages, audio_of
from transcriber.pipeline.revision import SURE, published_turns, revise, revise_text_or_speakers, surer_words
from transcriber.pipeline.word_alignment import PlacedWord

RATE = 16_000
HALF = RATE // 2


def said(start_s, *words, step_s=0.5, confidence=0.9):
    return tuple(
        PlacedWord(f" {word}", start_s + n * step_s, start_s + (n + 1) * step_s, confidence)
        for n, word in enumerate(words)
    )


def part(start_s, end_s, *words, number=0, over=False, language="en", avg_logprob=-0.2):
    return Part(
        f"m{start_s:g}",
        number,
        round(start_s * RATE),
        round((end_s - start_s) * RATE),
        said(start_s, *words),
        language if words else None,
        over,
        not over,
        avg_logprob if words else None,
    )


def silent(start_s, end_s):
    return Part("", 0, round(start_s * RATE), round((end_s - start_s) * RATE))


def ranges(passages):
    return [(one.start_frame / RATE, (one.start_frame + one.frames) / RATE) for one in passages]


def test_a_pause_ends_a_passage_and_is_no_part_of_it():
    passages = Passages(RATE)

    found = [passages.add(one) for one in (silent(0, 1), part(1, 4, "a"), part(4, 7, "b", over=True), silent(7, 8.5))]

    assert not any(found)
    (passage,) = passages.add(silent(8.5, 9.5))
    assert ranges([passage]) == [(1, 7)]
    assert (passage.before, passage.goes_on) == ((), False)


def test_a_full_passage_ends_where_speech_had_ended_if_that_leaves_half_of_it():
    passages = Passages(RATE)

    found = [one for n in range(12) for one in passages.add(part(2 * n, 2 * n + 2, "a", over=n in {2, 8}))]

    assert ranges(found) == [(0, 18)]
    assert not found[0].goes_on
    assert ranges(passages.end()) == [(18, 24)]


def test_one_that_is_cut_in_the_midst_of_speech_knows_what_was_published_before():
    passages = Passages(RATE)

    found = [one for n in range(14) for one in passages.add(part(2 * n, 2 * n + 2, f"w{n}"))] + passages.end()

    assert ranges(found) == [(0, 22), (22, 28)]
    assert found[0].goes_on
    assert [word.word for word in found[1].before][-2:] == [" w9", " w10"]


def test_a_window_by_itself_gets_no_second_pass():
    passages = Passages(RATE)

    assert [passages.add(part(0, 3, "a", over=True)), passages.add(silent(3, 6)), passages.end()] == [[], [], []]


@pytest.mark.parametrize("what", ["gap", "unknown", "language"])
def test_a_passage_reaches_over_nothing_that_was_not_transcribed_nor_another_language(what):
    passages = Passages(RATE)
    assert passages.add(part(0, 2, "a")) == passages.add(part(2, 4, "b")) == []

    match what:
        case "gap":
            found, start_s = passages.gap(4 * RATE, RATE), 5
        case "unknown":
            found, start_s = passages.gap(4 * RATE, 0), 4
        case _:
            found, start_s = [], 4
    found += passages.add(part(start_s, start_s + 2, "c", language="de" if what == "language" else "en"))
    found += passages.add(part(start_s + 2, start_s + 4, "d", language="de" if what == "language" else "en"))

    assert ranges(found + passages.end()) == [(0, 4), (start_s, start_s + 4)]


KINDS = st.sampled_from(["said", "said", "said", "over", "nothing", "silence", "gap", "unknown", "german"])


@given(st.lists(st.tuples(KINDS, st.integers(1, 10)), max_size=40), st.randoms(use_true_random=False))
def test_whatever_comes_in_whichever_order_the_passages_are_the_same(pieces, chance):
    events, at = [], 0
    for kind, halves in pieces:
        start_s, end_s = at / 2, (at + halves) / 2
        at += halves if kind != "unknown" else 0
        match kind:
            case "silence":
                events.append((kind, silent(start_s, end_s)))
            case "gap" | "unknown":
                events.append((kind, (round(start_s * RATE), halves * HALF * (kind == "gap"))))
            case "nothing":
                events.append((kind, part(start_s, end_s)))
            case _:
                language = "de" if kind == "german" else "en"
                events.append((kind, part(start_s, end_s, f"w{at}", over=kind == "over", language=language)))

    def found_in(order, **how):
        passages = Passages(RATE, **how)
        found = []
        for kind, what in order:
            found += passages.gap(*what) if kind in {"gap", "unknown"} else passages.add(what)
        return found + passages.end()

    found = found_in(events)

    # Silences and gaps come at once: before text that is older, perhaps, and never after text that is newer.
    early = [one for one in enumerate(events) if one[1][0] in {"silence", "gap", "unknown"}]
    late = [one for one in enumerate(events) if one[1][0] not in {"silence", "gap", "unknown"}]
    mixed = []
    while early or late:
        first = early if early and (not late or early[0][0] < late[0][0] or chance.random() < 0.5) else late
        mixed.append(first.pop(0)[1])
    assert ranges(found_in(mixed)) == ranges(found)
    assert ranges(found_in(events, in_order=True)) == ranges(found)
    for one in found:
        assert one.frames <= PASSAGE_S * RATE
        assert len(one.finals) > 1
        assert all(a.end_frame == b.start_frame for a, b in pairwise(one.parts))
        assert one.parts[0].message_id
        assert one.parts[-1].message_id
        assert len({p.language for p in one.parts if p.words}) <= 1
    assert all(a.start_frame + a.frames <= b.start_frame for a, b in pairwise(found))


def heard(*words, lead_s=0.0, step_s=0.5, avg_logprob=-0.1, confidence=0.9):
    """An answer to a passage with so much left context."""
    timed = tuple(Word(word, n * step_s, (n + 1) * step_s, confidence) for n, word in enumerate(words))
    return Transcript(" ".join(words), timed, "en", avg_logprob, None, 0.0, lead_s=lead_s)


def sound_like(passage, *, lead_s=0.0, tail_s=0.0):
    nothing = np.zeros(0, np.float32)
    pieces = [PartAudio(np.zeros(one.frames, np.float32), nothing, nothing) for one in passage.parts]
    edges = [np.zeros(round(s * RATE), np.float32) for s in (lead_s, tail_s)]
    pieces[0] = PartAudio(pieces[0].samples, edges[0], nothing)
    pieces[-1] = PartAudio(pieces[-1].samples, pieces[-1].before, edges[1])
    return audio_of(passage, pieces)


def test_what_stands_instead_has_its_times_from_the_passage():
    passage = Passage((part(4, 5, "shut", "de"), part(5, 6, "inlet", "valve", over=True)))

    better = revise(passage, heard("shut", "the", "inlet", "valve."), RATE, sound_like(passage))

    assert isinstance(better, Transcript)
    assert better.words
    assert better.text == "shut the inlet valve."
    assert [(word.word, word.start_s, word.end_s) for word in better.words][1:3] == [
        ("the", 0.5, 1.0),
        ("inlet", 1.0, 1.5),
    ]


@pytest.mark.parametrize(
    ("words", "avg_logprob", "why"),
    [
        (("shut", "de", "inlet", "valve"), -0.1, "same"),
        (("shut", "valve"), -0.1, "same"),
        ((), None, "shorter"),
        (("shut", "the", "inlet", "valve"), -0.3, "doubted"),
    ],
)
def test_what_says_no_more_or_is_less_likely_is_not_published(words, avg_logprob, why):
    passage = Passage((part(4, 5, "shut", "de"), part(5, 6, "inlet", "valve", over=True)))

    assert revise(passage, heard(*words, avg_logprob=avg_logprob), RATE, sound_like(passage)) == why


@pytest.mark.parametrize(
    ("published", "again", "text", "share"),
    [
        ((0.9, "the car park behind"), (0.8, "the backpack behind"), "the car park behind", None),
        ((0.5, "the backpack behind"), (0.8, "the car park behind"), "the car park behind", 0),
        ((0.9, "the inlay valve two"), (0.8, "the inlet valve at two"), "the inlay valve at two", 1 / 5),
        ((0.7, "four hundred"), (0.9, "four"), "four hundred", None),
        ((0.5, "four hundred thank you"), (0.9, "four hundred"), "four hundred", 0),
        ((0.9, "shut shut it"), (0.9, "shut it"), "shut shut it", None),
    ],
)
def test_each_place_has_the_words_of_which_whisper_was_surer_and_loses_no_sure_one(published, again, text, share):
    """``share``: of the words that stay as published; None: nothing is revised."""
    words = said(4, *published[1].split(), step_s=0.25, confidence=published[0])
    passage = Passage((part(4, 6, "x", over=True)._replace(words=words),))

    better = revise(passage, heard(*again[1].split(), step_s=0.3, confidence=again[0]), RATE, sound_like(passage))

    if share is None:
        assert better == "same"
    else:
        assert isinstance(better, Transcript)
        assert better.text == text
        assert better.avg_logprob == pytest.approx(-0.1 - 0.1 * share)
        assert [word.word for word in better.words or ()] == text.split()
        times_s = [time_s for word in better.words or () for time_s in (word.start_s, word.end_s)]
        assert times_s == sorted(times_s)


@pytest.mark.parametrize(("lead_s", "text"), [(1.0, "it is as stiff as a board"), (0.0, "fits as stiff as a board")])
def test_the_first_words_of_a_passage_that_begins_within_speech_stay(lead_s, text):
    words = said(4, "it", "is", "as", "stiff", "as", "a", "bored", step_s=0.25, confidence=0.4)
    passage = Passage((part(4, 6, "x", over=True)._replace(words=words),), said(3, "morning") if lead_s else ())
    again = "morning fits as stiff as a board" if lead_s else "fits as stiff as a board"

    better = revise(passage, heard(*again.split(), step_s=0.3), RATE, sound_like(passage, lead_s=lead_s))

    assert isinstance(better, Transcript)
    assert better.text == text


def test_a_word_said_twice_of_which_the_second_was_unsure_may_have_been_said_once():
    sure, unsure = said(4, "shut"), said(4.5, "shut", confidence=0.3)

    assert surer_words([*sure, *unsure, *said(5, "it")], said(4, "shut", "it")) == list(said(4, "shut", "it"))


WORDS = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from([0.2, 0.5, 0.7, 0.9])), max_size=12)


@given(WORDS, WORDS, st.booleans())
def test_no_word_that_is_sure_is_lost_and_none_is_said_by_neither(published, again, from_cut):
    old, new = (
        [PlacedWord(word, n, n + 1, confidence, of=first + n) for n, (word, confidence) in enumerate(some)]
        for some, first in ((published, 100), (again, 0))
    )

    found = surer_words(old, new, from_cut=from_cut)

    assert surer_words(old, old, from_cut=from_cut) == surer_words([], old) == old
    for some in (old, new):  # in order, none twice
        numbers = [word.of for word in found if word in some]
        assert numbers == sorted(set(numbers))
    assert all(word in old or word in new for word in found)
    doubled = sum(one[0] == other[0] for one, other in pairwise(published))
    assert len(found) >= sum(word.confidence >= SURE for word in old) - doubled


def test_words_of_the_neighbours_are_theirs_whether_or_not_they_are_transcribed_again():
    before = said(2, "one", "two", "three", "four")
    passage = Passage((part(4, 5, "five", "sics"), part(5, 6, "seven", "ate")), before)
    sound = sound_like(passage, lead_s=1.0, tail_s=1.0)

    better = revise(passage, heard("three", "four", "five", "six", "seven", "eight", "nine", "ten"), RATE, sound)

    assert isinstance(better, Transcript)
    assert better.words
    assert better.text == "five six seven eight"
    assert better.words[0].start_s == 0


def test_revised_words_are_timed_where_there_is_speech():
    passage = Passage((part(4, 6, "shut", "de"), part(6, 24, over=True)))
    nothing = np.zeros(0, np.float32)
    samples = [np.zeros(one.frames, np.float32) for one in passage.parts]
    sound = audio_of(
        passage,
        [
            PartAudio(samples[0], nothing, nothing, speech=((0.0, 1.0),)),
            PartAudio(samples[1], nothing, nothing, speech=((14.0, 15.0),)),
        ],
    )
    answer = heard("shut", "the", "inlet", "valve", step_s=5.0)
    answer = replace(answer, phrases=(Phrase(0.0, 20.0, 16),))

    better = revise(passage, answer, RATE, sound)

    assert isinstance(better, Transcript)
    assert better.words
    starts_s = [word.start_s for word in better.words]
    assert starts_s == pytest.approx([0.0, 0.5, 16.0, 16.5], abs=0.1)


def test_a_word_left_over_and_published_behind_a_gap_is_revised_once_all_the_same():
    """The window before the gap left "three" to the next one, which came behind it."""
    first = Passage((part(0, 1, "one"), part(1, 2, "two")))
    second = Passage(
        (
            Part("m3", 3, 3 * RATE, RATE, said(1.5, "three", confidence=0.3) + said(3, "four"), "en"),
            part(4, 5, "fife", over=True),
        )
    )

    before = revise(first, heard("won", "too", "three", step_s=0.6), RATE, sound_like(first))
    after = revise(second, heard("four", "five"), RATE, sound_like(second))

    assert isinstance(before, Transcript)
    assert isinstance(after, Transcript)
    assert after.words
    assert (before.text, after.text) == ("won too", "three four five")
    assert after.words[0].start_s == -1.5


def test_an_answer_without_words_is_no_text():
    passage = Passage((part(4, 5, "shut"), part(5, 6, "it")))
    unsure = Passage(tuple(one._replace(words=said(4, "shut", confidence=0.1)) for one in passage.parts))
    gave_up = Transcript("", (), "en", None, None, 0.0, doubt="gave_up")

    assert revise(unsure, gave_up, RATE, sound_like(unsure)) == "shorter"


def test_no_passage_is_longer_than_allowed_however_long_the_windows_are():
    passages = Passages(RATE)
    long = [part(0, 12, "a", over=True), part(12, 23, "b"), part(23, 43, "c"), part(43, 44, "d")]

    found = [passage for one in long for passage in passages.add(one)] + passages.end()

    # What is left of the first ones are windows by themselves.
    assert ranges(found) == [(23, 44)]
    assert all(one.frames <= PASSAGE_S * RATE for one in found)


def labelled(start_s, end_s, *words, speakers, over=False):
    """A window whose words have these labels; None: its speakers were not found."""
    words_of = tuple(word._replace(of=number) for number, word in enumerate(said(start_s, *words)))
    return part(start_s, end_s, over=over)._replace(
        words=words_of, language="en", avg_logprob=-0.2, speakers=speakers and tuple(speakers)
    )


def with_turns(passage, *turns):
    """A job of ``passage`` that has found these turns: voice, start and end in seconds of the session."""
    start_s = passage.start_frame / RATE
    found = Labelled(tuple(VoiceTurn(voice, start - start_s, end - start_s) for voice, start, end in turns), ())
    job = Job("s", np.zeros(passage.frames, np.float32), None, lambda *_: None, speakers=JobSpeakers(lambda _: found))
    assert job.speakers
    job.speakers.find(busy=False, should_abort=lambda: False)
    return job


def test_a_label_stays_where_the_second_pass_finds_nobody():
    passage = Passage(
        (
            labelled(4, 5, "shut", "the", speakers=("A", "B")),
            labelled(5, 6, "inlet", "valve", speakers=("B", None), over=True),
        )
    )
    answer = heard("shut", "the", "inlet", "valve", avg_logprob=-0.1)

    assert revise_text_or_speakers(passage, with_turns(passage), answer, RATE, sound_like(passage)) == "same"
    assert [(turn.speaker, turn.start, turn.end) for turn in published_turns(passage) or ()] == [
        ("A", 4.0, 4.5),
        ("B", 4.5, 5.5),
    ]


@pytest.mark.parametrize("speakers", [("A", "A"), None], ids=["other", "left out"])
@pytest.mark.parametrize("avg_logprob", [-0.1, -0.9], ids=["same", "doubted"])
def test_where_only_speakers_change_the_text_is_published_as_it_was(speakers, avg_logprob):
    passage = Passage(
        (
            labelled(4, 5, "shut", "the", speakers=("A", "A")),
            labelled(5, 6, "inlet", "valve", speakers=speakers, over=True),
        )
    )
    answer = heard("shut", "the", "inlet", "valve", avg_logprob=avg_logprob)
    job = with_turns(passage, (0, 4, 5.5), (1, 5.5, 6))

    again = revise_text_or_speakers(passage, job, answer, RATE, sound_like(passage))

    assert isinstance(again, Transcript)
    assert again.words
    assert (again.text, again.language) == ("shut the inlet valve", "en")
    assert again.avg_logprob == pytest.approx(-0.2)
    assert [(word.word, word.start_s, word.end_s) for word in again.words] == [
        ("shut", 0.0, 0.5),
        ("the", 0.5, 1.0),
        ("inlet", 1.0, 1.5),
        ("valve", 1.5, 2.0),
    ]


@pytest.mark.parametrize("words", [None, ()])
def test_text_that_stays_keeps_its_times_where_the_answer_has_none(words):
    passage = Passage((labelled(4, 5, "shut", "the", speakers="AA"), labelled(5, 6, "valve", speakers="A", over=True)))
    answer = replace(heard("shut", "the", "valve"), words=words)
    job = with_turns(passage, (0, 4, 5), (1, 5, 6))

    again = revise_text_or_speakers(passage, job, answer, RATE, sound_like(passage))

    assert isinstance(again, Transcript)
    assert again.words
    assert [(word.word, word.start_s) for word in again.words] == [("shut", 0.0), ("the", 0.5), ("valve", 1.0)]


def test_where_neither_text_nor_speakers_change_or_those_are_not_found_nothing_is_published():
    passage = Passage((labelled(4, 5, "shut", "the", speakers="AA"), labelled(5, 6, "valve", speakers="B", over=True)))
    answer, sound = heard("shut", "the", "valve"), sound_like(passage)
    as_before, unknown = with_turns(passage, (0, 4, 5), (1, 5, 6)), with_turns(passage)
    unknown.speakers = None

    assert revise_text_or_speakers(passage, as_before, answer, RATE, sound) == "same"
    assert revise_text_or_speakers(passage, unknown, answer, RATE, sound) == "same"


def test_a_window_by_itself_gets_a_second_pass_where_its_speakers_were_not_found():
    left_out, found = labelled(0, 3, "a", speakers=None, over=True), labelled(0, 3, "a", speakers="A", over=True)

    of_voices = [Passages(RATE, voices=True) for _ in range(2)]

    assert [passages.add(one) for passages, one in zip(of_voices, (left_out, found), strict=True)] == [[], []]
    assert [len(passages.end()) for passages in of_voices] == [1, 0]
