import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from bench.lib.recordings import Word
from bench.lib.voices import cast as casting
from bench.lib.voices.annotated import Annotated, parsed, read_archive, written
from bench.lib.voices.cast import Voice, bundled, people
from bench.lib.voices.dialogues import CONDITIONS, SPEAKERS, SpokenWord, dialogues, telephone_band
from bench.lib.voices.labelled import RememberingNetworks, live
from bench.lib.voices.scores import Scorer, rates, windows_late, words_wrong
from bench.lib.voices.stretches import Stretch, cut, joined, overlapped_s, phrases, spoken
from transcriber.audio.vad.silero import Silero
from transcriber.config import load_settings
from transcriber.diarization.live_labeller import Labelled, LiveLabeller
from transcriber.diarization.voices import KnownVoice, VoiceTurn

RATE = 16_000
LENGTH_S = 20.0


@pytest.fixture(scope="module")
def voices():
    """Six that every machine has: those of the test kit, and made-up ones that hum."""
    return [*people(), *bundled(), hums("low", 110), hums("high", 190)]


@pytest.fixture(scope="module")
def spoken_by_all(voices):
    """One of each number of speakers and more, each condition at least once."""
    return list(dialogues(7, len(SPEAKERS), voices, LENGTH_S))


def hums(name, hz):
    stretches = [Stretch(tone(0.8 + 0.1 * number, hz)) for number in range(30)]
    return Voice(name, "synthesiser", False, tuple(stretches))


def tone(duration_s, hz=200):
    return (0.3 * np.sin(2 * np.pi * hz * np.arange(round(duration_s * RATE)) / RATE)).astype(np.float32)


def silence(duration_s):
    return np.zeros(round(duration_s * RATE), np.float32)


def test_the_same_seed_gives_the_same_dialogues_and_another_one_others(voices, spoken_by_all):
    (again,), (other,) = dialogues(7, 1, voices, LENGTH_S), dialogues(8, 1, voices, LENGTH_S)

    assert again.turns == spoken_by_all[0].turns
    assert np.array_equal(again.samples, spoken_by_all[0].samples)
    assert other.turns != again.turns


def test_each_condition_and_each_number_of_speakers_has_its_dialogue(spoken_by_all):
    assert {one.condition for one in spoken_by_all} == set(CONDITIONS)
    assert [len(one.speakers) <= number for one, number in zip(spoken_by_all, SPEAKERS, strict=True)] == [True] * 5
    assert [len(one.speakers) for one in spoken_by_all[:2]] == [2, 3]


def test_words_are_said_in_turns_of_their_speakers(spoken_by_all):
    words = [(one, word) for one in spoken_by_all for word in one.words]

    assert len(words) > 50
    for dialogue, (speaker, word) in words:
        middle_s = (word.start_s + word.end_s) / 2
        assert any(
            who == speaker and start_s - 0.1 <= middle_s <= end_s + 0.1 for who, start_s, end_s in dialogue.turns
        )


def test_nobody_says_the_same_twice(spoken_by_all):
    for dialogue in spoken_by_all:
        for speaker in dialogue.speakers:
            own = [turn for turn in dialogue.turns if turn[0] == speaker]
            assert all(last[2] <= turn[1] for last, turn in pairwise(own))
        texts = [tuple(word.text for _, word in dialogue.words[at : at + 8]) for at in range(len(dialogue.words) - 7)]
        assert len(set(texts)) == len(texts)


def test_there_is_no_more_speech_in_the_band_above_a_telephones():
    rng = np.random.default_rng(7)
    samples = (0.1 * rng.standard_normal(RATE)).astype(np.float32)

    power = np.abs(np.fft.rfft(telephone_band(samples))) ** 2

    # One bin is one hertz.
    assert power[4000:].sum() < 0.01 * power.sum()
    assert power[:150].sum() < 0.001 * power.sum()
    assert len(telephone_band(samples)) == len(samples)


@settings(max_examples=40)
@given(
    sounds_s=st.lists(st.floats(0.2, 1.0), min_size=1, max_size=4),
    pauses_s=st.lists(st.floats(0.35, 1.0), min_size=5, max_size=5),
)
def test_what_is_spoken_is_found_to_two_frames(sounds_s, pauses_s):
    pieces, expected, at = [silence(pauses_s[0])], [], len(silence(pauses_s[0]))
    for sound_s, pause_s in zip(sounds_s, pauses_s[1:], strict=False):
        pieces += [tone(sound_s), silence(pause_s)]
        expected.append((at, at + len(pieces[-2])))
        at += len(pieces[-2]) + len(pieces[-1])

    found = spoken(np.concatenate(pieces))

    assert np.abs(np.subtract(found, expected)).max() <= 2 * RATE // 100


def test_a_short_pause_is_part_of_what_is_said_and_nothing_of_silence():
    assert len(spoken(np.concatenate([tone(0.5), silence(0.2), tone(0.5)]))) == 1
    assert len(phrases(np.concatenate([tone(1.0), silence(0.2), tone(1.0)]), 0.16, 0.9)) == 2
    assert spoken(silence(1.0)) == []


@settings(max_examples=40)
@given(words=st.integers(1, 8), limits_s=st.lists(st.floats(0.0, 5.0), max_size=6))
def test_what_is_cut_is_whole_again_together(words, limits_s):
    rest: Stretch | None = Stretch(
        tone(0.5 * words), tuple(Word(str(n), 0.5 * n + 0.05, 0.5 * n + 0.45) for n in range(words))
    )
    pieces = []
    for limit_s in limits_s:
        if rest is None:
            break
        piece, rest = cut(rest, limit_s)
        pieces.append(piece)
        assert piece.words[-1].end_s <= limit_s or len(piece.words) == 1
    pieces += [rest] if rest else []

    again = joined(pieces, [0.0] * len(pieces))

    assert len(again.samples) == len(tone(0.5 * words))
    assert [(word.text, round(word.start_s, 3)) for word in again.words] == [
        (str(n), round(0.5 * n + 0.05, 3)) for n in range(words)
    ]
    assert all(0 <= word.start_s < word.end_s <= piece.duration_s + 1e-9 for piece in pieces for word in piece.words)


@given(spans=st.lists(st.tuples(st.integers(0, 40), st.integers(1, 20)), max_size=8))
def test_seconds_of_anybody_and_of_several_are_those_of_a_grid(spans):
    speaking = np.zeros(60, int)
    for start, length in spans:
        speaking[start : start + length] += 1

    found = overlapped_s((float(start), float(start + length)) for start, length in spans)

    assert found == ((speaking > 0).sum(), (speaking > 1).sum())


TURNS = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 9_000_000), st.integers(1, 90_000)).map(
        lambda one: (one[0], one[1] / 1000, (one[1] + one[2]) / 1000)
    )
)


@given(turns=TURNS)
def test_turns_are_the_same_after_rttm(turns):
    assert parsed(written("call", turns)) == turns


def test_only_what_is_said_alone_is_a_voice():
    samples = np.concatenate([silence(0.5), tone(1.5), silence(1.0), tone(7.0)])
    meeting = Annotated("m", False, samples, (("anna", 0.0, 4.0), ("ben", 3.5, 6.0), ("anna", 8.0, 10.0)))

    alone = meeting.alone()

    assert {who: [one.duration_s for one in said] for who, said in alone.items()} == {
        "anna": pytest.approx([1.5, 2.0], abs=0.03),
        "ben": pytest.approx([2.0], abs=0.03),
    }
    assert casting.annotated([meeting]) == []


def test_one_voice_may_be_in_several_recordings():
    turns = (("anna", 0.0, 4.0), ("ben", 5.0, 6.0))
    meetings = [Annotated(name, False, tone(6.0), turns) for name in "ab"]

    (anna,) = casting.annotated(meetings)

    assert (anna.name, anna.kind, len(anna.stretches)) == ("anna", "real", 2)


def test_another_archive_is_refused_in_a_line(tmp_path):
    path = tmp_path / "other.tar.gz"
    path.write_bytes(b"abc")

    with pytest.raises(SystemExit, match=r"other\.tar\.gz: not the source archive of pyannote\.audio 4\.0\.7"):
        read_archive(path)
    with pytest.raises(SystemExit, match=r"nowhere: No such file"):
        read_archive(tmp_path / "nowhere")


def test_who_is_not_installed_is_left_out_with_the_reason(monkeypatch, tmp_path):
    def missing(*_):
        raise OSError("not here")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(casting, "TESTDATA", tmp_path)
    for name in ("Joe", "Flite", "Espeak"):
        monkeypatch.setattr(casting, name, missing)
    skipped: list[str] = []

    voices = casting.cast([], skipped)

    assert [voice.name for voice in voices] == ["austen", "kennedy"]
    assert [reason.split(":")[0] for reason in skipped] == [
        "pocketsphinx-testdata",
        "call and meetings",
        "joe",
        "flite",
        "espeak-ng",
    ]


class Follower(LiveLabeller):
    """Labels each window, its context included, with a voice of its own, and passages with the last one."""

    def __init__(self):
        super().__init__(Counted())

    def follow(self, samples, lead_s, tail_s, known):
        known = (*known, KnownVoice(b"", 1.0))
        return Labelled((VoiceTurn(len(known), 0.0, len(samples) / RATE),), known)

    def look_back(self, samples, known, proceed=lambda: None):
        return (VoiceTurn(100 + len(known), 0.0, len(samples) / RATE),)


def test_first_labels_are_of_windows_and_later_ones_of_passages(spoken_by_all):
    dialogue = spoken_by_all[0]

    session = live(dialogue.samples, Follower(), load_settings(), Silero())

    windows = [(window.start_s, window.end_s) for window in session.windows]
    assert len(windows) > 2
    assert np.array([turn[1:] for turn in session.first]) == pytest.approx(np.array(windows))
    assert [turn[0] for turn in session.first] == [str(n) for n in range(1, len(windows) + 1)]
    assert len(session.known) == len(windows)
    assert any(int(speaker) > 100 for speaker, _, _ in session.revised)
    # Wherever there was a label there is one, and nowhere are two.
    assert all(last[2] <= turn[1] + 1e-6 for last, turn in pairwise(session.revised))
    first_s, revised_s = (
        sum(end_s - start_s for _, start_s, end_s in turns) for turns in (session.first, session.revised)
    )
    assert revised_s >= first_s - 1e-6


class Counted:
    """A network that says how long what it hears is."""

    def __init__(self):
        self.calls = 0

    def activity(self, samples):
        self.calls += 1
        return np.ones((len(samples), 3), bool)

    voice = activity


def test_what_networks_said_before_is_not_computed_again(tmp_path):
    network, store = Counted(), tmp_path / "answers"
    first = RememberingNetworks(network, store)
    said = [len(first.activity(tone(0.1))), len(first.voice(tone(0.1))), len(first.voice(tone(0.2)))]
    first.keep()

    again = RememberingNetworks(network, store)

    assert [len(again.activity(tone(0.1))), len(again.voice(tone(0.1))), len(again.voice(tone(0.2)))] == said
    assert network.calls == 3


TRUE = [("anna", 0.0, 4.0), ("ben", 4.0, 8.0), ("anna", 7.0, 10.0)]


def test_without_the_fields_tool_a_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyannote.core", None)

    with pytest.raises(SystemExit, match=r"install pyannote\.metrics, of the group bench"):
        Scorer()


def test_the_error_rate_is_that_of_the_fields_tool():
    pytest.importorskip("pyannote.metrics", reason="no pyannote.metrics: of the group bench")
    scorer = Scorer()
    late = [("B", 0.2, 4.2), ("A", 4.2, 8.2), ("B", 7.2, 10.2)]
    one = [("A", 0.0, 10.0)]

    right, wrong = scorer.errors(TRUE, late, 12.0), scorer.errors(TRUE, one, 12.0)

    # Of 11 s of turns: 0.2 s at the start missed and at the end too many, and both at each change.
    assert rates([right[0.0]]) == {"der": 9.1, "missed detection": 3.6, "false alarm": 3.6, "confusion": 1.8}
    assert rates([right[0.25]])["der"] == 0
    assert rates([wrong[0.0]]) == {"der": 36.4, "missed detection": 9.1, "false alarm": 0.0, "confusion": 27.3}
    assert scorer.speakers(TRUE, late) == {"A": "ben", "B": "anna"}


def test_rates_are_weighted_by_what_is_said():
    parts = {"false alarm": 0.0, "confusion": 0.0}

    both = rates([{**parts, "missed detection": 1.0, "total": 1.0}, {**parts, "missed detection": 0.0, "total": 3.0}])

    assert both == {"der": 25.0, "missed detection": 25.0, "false alarm": 0.0, "confusion": 0.0}


def test_words_count_where_one_speaks_alone():
    words = [
        SpokenWord(who, Word("well", at_s, at_s + 0.4))
        for who, at_s in (("anna", 1.0), ("anna", 3.0), ("ben", 5.0), ("ben", 7.5), ("anna", 9.0))
    ]
    found = [("A", 0.0, 2.0), ("B", 2.0, 6.0), ("A", 6.0, 8.0)]

    assert words_wrong(words, TRUE, found, {"A": "anna", "B": "ben"}) == {"said": 4, "another": 1, "no_label": 1}


def test_a_label_is_as_late_as_the_windows_until_it_is_right():
    true = [("anna", 0.0, 15.0), ("ben", 15.0, 20.0), ("anna", 21.0, 24.0), ("cleo", 24.0, 25.0)]
    found = [("A", 0.0, 5.0), ("B", 5.0, 15.0), ("C", 15.0, 20.0), ("A", 20.0, 25.0)]
    windows = [(at_s, at_s + 5.0) for at_s in (0.0, 5.0, 10.0, 15.0, 20.0)]

    assert windows_late(true, found, windows, {"B": "anna", "C": "ben"}) == ([1, 0, None, None], [1, 0, None])
