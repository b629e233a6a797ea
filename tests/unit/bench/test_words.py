from dataclasses import replace
from itertools import count

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from bench import words as bench_words
from bench.false_text import LEVELS_DB, sounds
from bench.lib.playing import LINEAR, TELEPHONE, Player
from bench.lib.recordings import Sentence, Word
from bench.lib.speech.conditions import DEMO_CONDITIONS, EVERY_OTHER, conditions_of, in_conditions
from bench.lib.speech.material import share
from bench.lib.speech.noise import ALL_KINDS, WITHOUT_SPEECH, speech_rms
from bench.lib.words import reference as references
from bench.lib.words.alignment import Pair, Spoken, align, spoken, tally
from bench.lib.words.delays import Delays, changed_by_final, first_shown_s, flicker, utterance_ends
from bench.lib.words.reference import IN_ONE_GO, SENTENCES, reference
from bench.lib.words.scoring import KINDS as ERRORS, Errors, heard_in, said_in, score, text_errors
from tests.support.bench_recordings import MESSAGE, SECOND, no_synthesiser, played, recording, timed
from transcriber.models.catalog import DEMO_MODEL as DEMO
from transcriber.schema.messages import Final, Partial, Timing, Word as HeardWord
from transcriber.testing.wer import word_errors

TIMING = Timing(queue_ms=1, processing_ms=2, handover_ms=3, end_to_end_ms=6, rtf=0.1)

texts = st.lists(st.sampled_from(["wind", "north", "five", "nine"]), max_size=9).map(" ".join)


def transcribed(kind, text, start_s, duration_s, segment=0, rev=0, words=True):
    """A final or a partial whose words are half a second apart from its start."""
    said = tuple(HeardWord(word=w.word, start=w.start_s, end=w.end_s, confidence=0.9) for w in timed(text, start_s))
    return kind.model_validate(
        MESSAGE
        | {
            "start_frame": int(start_s * SECOND), "frames": int(duration_s * SECOND), "start": start_s,
            "duration": duration_s, "segment": segment, "rev": rev, "text": text, "suppressed": None,
            "words": said if words else None, "language": "en", "confidence": 0.9, "avg_logprob": -0.1,
            "no_speech_prob": None, "speech_final": False, "speaker": None, "model": "demo", "timing": TIMING,
            "captured_at": None,
        }
    )  # fmt: skip


def counts(said, heard, cuts_s=()):
    return dict(tally(align(said, heard), said, heard, cuts_s))


@settings(deadline=None)
@given(texts, texts)
def test_an_alignment_has_every_word_once_in_order_and_as_few_errors_as_there_can_be(said, heard):
    pairs = align(timed(said), timed(heard))

    found = counts(timed(said), timed(heard))

    assert [pair.said for pair in pairs if pair.said is not None] == list(range(len(said.split())))
    assert [pair.heard for pair in pairs if pair.heard is not None] == list(range(len(heard.split())))
    assert sum(found.get(kind, 0) for kind in ERRORS) == word_errors(said, heard)
    assert found.get("words", 0) == len(said.split())


@settings(deadline=None)
@given(texts, texts, st.lists(st.floats(0, 5)))
def test_errors_at_cuts_are_some_of_all(said, heard, cuts_s):
    found = counts(timed(said), timed(heard), cuts_s)

    assert all(found.get(f"{kind}_at_cuts", 0) <= found.get(kind, 0) for kind in ("words", *ERRORS))
    if not cuts_s:
        assert not [name for name in found if name.endswith("_at_cuts")]


def test_of_words_alike_the_one_nearest_in_time_is_meant():
    said = timed("nine nine nine")

    assert align(said, [Spoken("nine", 0.5, 1.0)]) == [Pair(0, None), Pair(1, 0), Pair(2, None)]
    assert align(said, [Spoken("nine", 1.1, 1.4)])[2] == Pair(2, 0)
    assert len(align(spoken("nine nine"), spoken("nine"))) == 2  # without times any will do


def test_a_compound_is_as_many_words_as_errors_are_counted_in():
    assert spoken("Thirty-five,", 1.0, 2.0) == [Spoken("thirty", 1.0, 1.6), Spoken("five", 1.6, 2.0)]
    assert spoken("...", 1.0, 2.0) == []


@pytest.mark.parametrize(
    ("heard", "found"),
    [
        ("gale warning tonight", {}),
        ("gale tonight", {"lost": 1}),
        ("gale morning tonight", {"changed": 1}),
        ("gale warning out tonight", {"invented": 1}),
        ("gale warning warning tonight", {"doubled": 1}),
        ("gale warning gale warning tonight", {"doubled": 2}),
        ("gale warning out out tonight", {"doubled": 2}),
        ("gale warning tonight over out", {"invented": 2}),
        ("", {"lost": 3}),
    ],
)
def test_words_are_lost_changed_invented_or_doubled(heard, found):
    assert counts(timed("gale warning tonight"), timed(heard)) == {"words": 3, **found}


def test_only_errors_within_half_a_second_of_a_cut_are_blamed_on_it():
    said = timed("one two three four five six")  # their middles at 0.25, 0.75, ... 2.75 s
    heard = [word for word in said if word.word not in {"two", "six"}]

    found = counts(said, heard, cuts_s=[1.0])

    assert found == {"words": 6, "words_at_cuts": 2, "lost": 2, "lost_at_cuts": 1}
    assert counts(spoken("one two"), spoken("one"), cuts_s=[1.0]) == {"words": 2, "lost": 1}


def test_a_doubled_word_at_a_cut_is_where_it_was_transcribed():
    heard = [*timed("gale warning"), Spoken("warning", 1.0, 1.2), *timed("tonight", 1.2)]

    found = counts(timed("gale warning tonight"), heard, cuts_s=[1.05])

    assert found["doubled_at_cuts"] == 1


def test_cuts_are_where_one_window_follows_another():
    one = played(
        recording("one two", 10.0),
        (1.0, transcribed(Final, "one", 0.0, 4.0)),
        (2.0, transcribed(Final, "two", 4.0, 2.0, 1)),
        (3.0, transcribed(Final, "", 7.0, 3.0, 2)),
    )

    assert one.cuts_s == [4.0, 6.0, 7.0]


def test_the_score_of_what_was_played():
    first = played(recording("gale warning", 2.0), (1.0, transcribed(Final, "gale warning", 0.0, 2.0)))
    second = played(
        recording("tonight over out", 2.0),
        (1.0, transcribed(Final, "tonight", 0.1, 0.5)),
        (2.0, transcribed(Final, "out", 0.6, 1.4, 1)),
    )

    found = score([first, second], Errors(np.array([2, 3]), np.array([1, 0])))

    assert found["wer_percent"] == 20.0
    assert found["interval_95"] == [0.0, 33.33]
    assert found["minus_reference_points"] == 0.0
    assert (found["lost"], found["changed"], found["cuts"]) == (1, 0, 2)
    assert found["at_cuts"] == {"words": 2, "changed": 0, "lost": 1, "invented": 0, "doubled": 0, "wer_percent": 50.0}
    assert found["elsewhere"]["words"] == 3
    assert found["median_start_error_s"] == 0.05
    assert found["per_1000_words"]["lost"] == {"count": 1, "rate": 200.0, "interval_95": [0.0, 333.3]}
    assert found["per_1000_words"]["lost_near_cuts"]["count"] == 1
    assert found["per_1000_words"]["twice"] == {"count": 0, "rate": 0.0, "interval_95": [0.0, 738.0]}
    assert found["false_ends"]["cuts_in_sentences"] == 1


def test_a_number_that_lies_over_a_cut_is_of_the_window_where_it_begins():
    def split(text):
        return text.lower().replace("twenty one", "21").replace(".", "").split()

    one = played(
        recording("he is twenty one today", 3.0),
        (1.0, transcribed(Final, "He is twenty", 0.0, 1.5)),
        (2.0, transcribed(Final, "one. Today", 1.5, 1.5, 1)),
    )

    heard = heard_in(one, split)
    found = score([one], None, split)

    assert [word.word for word in heard.words] == ["he", "is", "21", "today"]
    assert heard.words[2] == Spoken("21", 1.0, 2.0)
    assert heard.firsts == [3]
    assert (found["words"], found["wer_percent"]) == (4, 0.0)
    assert found["median_end_error_s"] == 0.0


def test_recordings_without_times_have_errors_but_none_at_cuts():
    one = replace(recording("gale warning", 2.0), words=None)

    found = score([played(one, (1.0, transcribed(Final, "gale", 0.0, 2.0, words=False)))], None)

    assert found["wer_percent"] == 50.0
    assert not found.keys() & {"at_cuts", "elsewhere", "median_start_error_s", "minus_reference_points"}


def test_a_text_without_times_is_spread_over_its_window():
    one = played(recording("a b", 2.0), (1.0, transcribed(Final, "gale wind", 1.0, 0.5, words=False)))

    assert heard_in(one).words == [Spoken("gale", 1.0, 1.25), Spoken("wind", 1.25, 1.5)]


def test_delays_run_from_the_payload_that_holds_the_end_of_a_word():
    one = played(
        recording("gale warning", 3.0),  # they end at 0.5 and 1.0 s, and then there is a pause
        (101.2, transcribed(Partial, "gale", 0.0, 1.0)),
        (104.0, transcribed(Final, "gale morning", 0.0, 3.0, rev=1)),
    )
    delays = Delays()

    delays.add(one)

    assert delays.to_final_s == pytest.approx([104.0 - 100.52, 104.0 - 101.02])
    assert delays.of_utterances_s == pytest.approx([104.0 - 101.02])
    assert delays.to_partial_s == pytest.approx([101.2 - 100.52])
    assert delays.said == 2
    assert delays.counts == {"guessed": 1}


def test_an_utterance_ends_before_a_pause_of_half_a_second_and_at_the_end_only_with_one():
    words = [Spoken("a", 0.0, 1.0), Spoken("b", 1.4, 2.0), Spoken("c", 2.5, 3.0)]

    assert utterance_ends(words, 3.4) == [1]
    assert utterance_ends(words, 3.5) == [1, 2]
    assert utterance_ends(words, 3.5, 0.8) == []
    assert utterance_ends([], 1.0) == []


def test_a_word_is_shown_by_the_first_partial_that_has_it():
    said = timed("gale warning tonight gale")
    partials = [
        (1.0, transcribed(Partial, "gale", 0.0, 0.6)),
        (2.0, transcribed(Partial, "gale morning", 0.0, 1.1, rev=1)),
        (3.0, transcribed(Partial, "warning tonight", 0.5, 1.2, rev=2)),
        (4.0, transcribed(Partial, "gale", 1.5, 0.5, segment=1)),
    ]

    assert first_shown_s(said, partials) == {0: 1.0, 1: 3.0, 2: 3.0, 3: 4.0}


@settings(deadline=None)
@given(st.lists(st.sampled_from("abc")), st.lists(st.integers(0, 9), max_size=6))
def test_partials_that_only_grow_take_nothing_back(said, lengths):
    found = flicker([said[:length] for length in sorted(lengths)])

    assert found["taken_back"] == 0
    assert found["agreed"] == (min(len(said), sorted(lengths)[-2]) if len(lengths) > 1 else 0)


def test_agreed_words_that_a_later_partial_changes_are_taken_back():
    assert flicker([["a"], ["a", "b"], ["c", "b"]]) == {"agreed": 1, "taken_back": 1}
    assert flicker([["a", "b"], ["a", "b"], ["a"]]) == {"agreed": 2, "taken_back": 1}
    assert flicker([["x"], ["a", "b"], ["a", "b"]]) == {"agreed": 2, "taken_back": 0}


def test_what_a_cut_left_to_the_next_segment_was_not_changed():
    final = transcribed(Final, "gale warning", 0.0, 1.0)

    found = changed_by_final([timed("gale"), timed("gale morning tonight")], final)

    assert found == {"guessed": 3, "changed": 1}


def test_what_goes_over_the_wire_is_nearly_what_was_recorded():
    times_s = np.arange(2 * SECOND) / SECOND
    tone = (0.3 * np.sin(2 * np.pi * 440 * times_s)).astype(np.float32)

    assert np.abs(LINEAR.heard(tone) - tone).max() <= 1 / 2**15
    telephone = TELEPHONE.heard(tone)
    assert len(telephone) == len(tone)
    assert speech_rms(telephone[SECOND // 10 : -SECOND // 10] - tone[SECOND // 10 : -SECOND // 10]) < 0.01
    assert [offset for offset, _ in TELEPHONE.payloads(tone[:800])] == [0, 160, 320]
    assert [len(payload) for _, payload in LINEAR.payloads(tone[:800])] == [640, 640, 320]


def test_sounds_without_words_are_as_long_as_asked_for_and_come_in_all_levels(monkeypatch):
    monkeypatch.setitem(ALL_KINDS, "babble", no_synthesiser)
    skipped: list[str] = []

    found = {one.name: one.samples for one in sounds(60.0, skipped)}

    assert list(found) == ["silence", "white", "pink", "hum", "tones", *WITHOUT_SPEECH]
    assert "babble: libespeak" in skipped[0]
    assert not found["silence"].any()
    assert {len(samples) for samples in found.values()} == {60 * SECOND}
    quiet, loud = found["white"][:SECOND], found["white"][-SECOND:]
    assert 20 * np.log10(speech_rms(loud) / speech_rms(quiet)) == pytest.approx(LEVELS_DB[-1] - LEVELS_DB[0], abs=1.5)


def test_the_reference_is_the_better_of_what_can_be_done():
    one = replace(recording("gale warning", 2.0), sentences=(Sentence("gale warning", 0.0, 1.0),))
    ways = {IN_ONE_GO: lambda _: "gale", SENTENCES: lambda _: "Gale warning."}

    best, figures = reference(ways, [one], LINEAR)
    without, alone = reference(ways, [replace(one, sentences=())], LINEAR)

    assert (best.wrong.tolist(), figures["better"], figures[IN_ONE_GO]["wer_percent"]) == ([0], SENTENCES, 50.0)
    assert (without.wrong.tolist(), alone["better"], SENTENCES in alone) == ([1], IN_ONE_GO, False)
    assert text_errors([one], ["gale gale"]).wrong.tolist() == [1]


def test_a_sentence_longer_than_whispers_window_is_transcribed_in_pieces():
    sizes = [len(piece) for piece in references._pieces(np.zeros(70 * SECOND, np.float32))]

    assert sizes == [30 * SECOND, 30 * SECOND, 10 * SECOND]


def test_the_opening_of_a_recording_is_whole_sentences():
    one = replace(
        recording("one two three", 10.0),
        sentences=(Sentence("one two", 0.0, 1.0), Sentence("three", 1.2, 1.5)),
        words=tuple(Word(*word) for word in [*timed("one two"), *timed("three", 1.2)]),
    )

    opening = one.opening(1.1)

    assert (opening.text, opening.duration_s, [w.text for w in opening.words or ()]) == ("one two", 1.2, ["one", "two"])
    assert one.opening(5.0) is one
    assert one.opening(0.5) is one


def test_conditions_are_worse_copies_of_every_other_recording(monkeypatch):
    monkeypatch.setitem(ALL_KINDS, "babble", no_synthesiser)
    rng, skipped = np.random.default_rng(1), list[str]()
    speech = [replace(recording("a", 1.0), samples=rng.standard_normal(SECOND).astype(np.float32)) for _ in range(3)]

    corpora = in_conditions({"yours": speech, "other": speech}, DEMO_CONDITIONS, EVERY_OTHER, skipped)

    assert {name: (len(one.recordings), one.clean) for name, one in corpora.items()} == {
        "yours": (3, None),
        "other": (3, None),
        "yours_white_15_db": (2, "yours"),
        "yours_telephone": (2, "yours"),
    }
    assert "babble_20_db: libespeak" in skipped[0]
    noise = corpora["yours_white_15_db"].recordings[0].samples - speech[0].samples
    assert 20 * np.log10(speech_rms(speech[0].samples) / speech_rms(noise)) == pytest.approx(15.0, abs=0.2)


def test_a_share_of_a_corpus_is_about_as_many_minutes_as_asked_for():
    some = [replace(recording("a", 30.0), name=str(number)) for number in range(10)]

    assert [one.name for one in share(some, 2.0)] == ["0", "2", "4", "6"]
    assert share(some, 0.0) == share(some, 9.0) == some
    assert len(share(some, 0.1)) == 1


def test_models_of_real_speech_are_measured_in_more_conditions(monkeypatch):
    monkeypatch.setitem(ALL_KINDS, "babble", no_synthesiser)
    speech = [replace(recording("a", 1.0), samples=np.ones(SECOND, np.float32))] * 5
    conditions, every = conditions_of("tiny.en")

    corpora = in_conditions({"readings": speech}, conditions, every, [])

    assert [len(one.recordings) for one in corpora.values()] == [5, 2, 2, 2, 2]
    assert list(corpora)[2:] == [f"readings_{name}" for name in ("music_15_db", "music_10_db", "telephone")]


def test_what_is_played_is_as_fast_as_the_model_can_take():
    ready = Player(None, None, count(), 0.01)  # type: ignore[arg-type]
    bench = bench_words.Bench("", DEMO, "en", None, quick=False)
    many = [recording("a", 1.0)] * 9

    assert bench.speed_for(ready, many) == pytest.approx(20.0)
    assert bench.speed_for(replace(ready, rtf=0.1), many) == pytest.approx(2.0)
    assert bench.speed_for(replace(ready, rtf=0.1), many[:1]) == pytest.approx(8.0)
    assert bench.speed_for(replace(ready, rtf=2.0), many) == 1.0
    assert replace(bench, speed=3.0).speed_for(ready, many) == 3.0
    assert said_in(many[0]) == timed("a")
