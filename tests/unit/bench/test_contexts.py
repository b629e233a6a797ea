import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from hypothesis import given, strategies as st

from bench import contexts
from bench.contexts import Piece, Trial, asked_again, demo_corpora, figures, hear, history, invented, trial
from bench.lib.recordings import BUNDLED, PAUSE_S, Recording, Sentence, read_folder, with_noise
from bench.lib.report import interval
from transcriber.engine.transcript import Transcript

SECOND = 16_000


class ScriptedModel:
    """Answers with the text that is set for its context; doubts what holds a question mark."""

    translates = False

    def __init__(self, usual, full="full", *, tight=True):
        self.name, self.tight = "scripted", tight
        self._usual, self._full = usual, full

    def supports(self, _language):
        return True

    def close(self):
        pass

    def transcribe(self, samples, language, should_abort, *, wide=False, prompt="", translate=False, greedy=False):
        text = self._full if wide else self._usual
        return Transcript(text, None, language, -0.5, None, 0.01, "repetition" if "?" in text else None)


@st.composite
def recordings(draw):
    """A recording of sentences and pauses of many lengths."""
    at_s, sentences = 0.0, []
    for number in range(draw(st.integers(1, 8))):
        start_s = at_s + draw(st.floats(0.0, 2.0))
        at_s = start_s + draw(st.floats(0.1, 6.0))
        sentences.append(Sentence(f"word{number}", start_s, at_s))
    samples = np.zeros(round((at_s + draw(st.floats(0.0, 2.0))) * SECOND), np.float32)
    return Recording("r", " ".join(s.text for s in sentences), samples, tuple(sentences))


@given(recordings())
def test_clips_are_whole_sentences_in_order_none_twice_and_all_that_fit(recording):
    clips = recording.clips(5.0)

    said = " ".join(text for text, _ in clips).split()
    assert said == sorted(set(said))
    assert set(said) >= {s.text for s in recording.sentences if s.end_s - s.start_s <= 5 - 2 * PAUSE_S}
    for text, samples in clips:
        parts = [s for s in recording.sentences if s.text in text.split()]
        assert parts[-1].end_s - parts[0].start_s <= len(samples) / SECOND + 1e-3
        assert len(samples) <= 5 * SECOND + 1


@given(st.integers(1, 20 * SECOND))
def test_windows_tile_a_recording(count):
    samples = np.arange(count, dtype=np.float32)

    cut = Recording("r", "", samples).windows(5.0)

    assert np.array_equal(np.concatenate(cut), samples)
    assert all(len(window) == 5 * SECOND for window in cut[:-1])
    assert 0 < len(cut[-1]) <= 5 * SECOND


def test_the_bundled_recordings_have_a_time_for_every_sentence():
    bundled = read_folder(BUNDLED)

    assert len(bundled) == 6
    for recording in bundled:
        assert " ".join(s.text for s in recording.sentences) == recording.text
        assert recording.sentences[-1].end_s <= len(recording.samples) / SECOND


def test_a_folder_of_ones_own_needs_a_text_beside_each_recording(tmp_path):
    (tmp_path / "deep").mkdir()
    soundfile.write(tmp_path / "deep" / "a.flac", np.zeros((48_000 * 2, 2)), 48_000)
    (tmp_path / "deep" / "a.txt").write_text("Nothing at all.")

    (only,) = read_folder(tmp_path)
    soundfile.write(tmp_path / "b.wav", np.zeros(8_000), 8_000)

    assert (only.name, only.text, len(only.samples)) == ("deep/a", "Nothing at all.", 2 * SECOND)
    assert [text for text, _ in only.clips(5.0)] == ["Nothing at all."]
    with pytest.raises(SystemExit, match=r"b\.wav: no text beside it in b\.txt"):
        read_folder(tmp_path)


def test_a_folder_without_recordings_is_refused(tmp_path):
    with pytest.raises(SystemExit, match="neither"):
        read_folder(tmp_path)

    (tmp_path / "transcripts.json").write_text(json.dumps([{"file": "gone.wav", "text": ""}]))

    with pytest.raises(SystemExit, match=r"gone\.wav, not to be found"):
        read_folder(tmp_path)


def test_noise_is_as_loud_as_stated():
    rng = np.random.default_rng(1)
    recording = Recording("r", "", rng.standard_normal(10 * SECOND).astype(np.float32))

    noise = with_noise(recording, 15.0).samples - recording.samples

    assert 10 * np.log10(np.var(recording.samples) / np.var(noise)) == pytest.approx(15.0, abs=0.1)


def test_without_synthesisers_the_held_out_voices_are_left_out_with_the_reason(monkeypatch):
    def sentences():
        raise OSError("libespeak-ng.so.1: cannot open shared object file")

    monkeypatch.setattr(contexts, "sentences", sentences)
    skipped: list[str] = []

    corpora = demo_corpora(skipped)

    assert list(corpora) == ["bundled"]
    assert "libespeak-ng.so.1" in skipped[0]
    assert "install espeak-ng and flite" in skipped[0]


def test_windows_are_scored_together_and_clips_one_by_one():
    silent = np.zeros(SECOND, np.float32)
    recording = Recording("r", "one two three", silent)
    models = {512: ScriptedModel("One, two."), 0: ScriptedModel("one two three", tight=False)}

    together = trial(models, [Piece("r", None, silent)] * 2, [recording], "en")
    apart = trial(models, [Piece("r", "one two", silent), Piece("r", "three", silent)], [recording], "en")

    assert (together.words["r"], together.errors[512]["r"], together.errors[0]["r"]) == (3, 2, 3)
    assert (apart.words["r"], apart.errors[512]["r"], apart.errors[0]["r"]) == (3, 2, 3)
    assert figures(apart)["512"]["other_words"] == 2


def test_case_and_punctuation_are_other_text_but_not_other_words():
    silent = np.zeros(SECOND, np.float32)
    models = {512: ScriptedModel("North WIND"), 0: ScriptedModel("north wind.", tight=False)}

    row = figures(trial(models, [Piece("r", "North wind.", silent)], [], "en"))["512"]

    assert (row["wer_percent"], row["minus_full_points"], row["other_words"], row["other_text"]) == (0.0, 0.0, 0, 1)


def test_a_corpus_with_and_without_noise_is_one_recording_of_twice_the_words():
    one = Trial([], {0: []}, Counter(a=10, b=10), {0: Counter(a=1)})
    noisy = Trial([], {0: []}, Counter(a=10, b=10), {0: Counter(a=2, b=3)})

    both = one + noisy

    assert (both.words, both.errors[0]) == (Counter(a=20, b=20), Counter(a=3, b=3))


@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(5, 50)), min_size=1, max_size=20))
def test_the_interval_lies_within_the_extremes_and_is_a_point_where_all_are_alike(rows):
    differences, said = np.array(rows).T

    low, high = interval(differences, said)

    assert min(differences / said) * 100 - 0.01 <= low <= high <= max(differences / said) * 100 + 0.01
    assert interval(said // said, said * 0 + 10) == [10.0, 10.0]


def test_only_doubtful_answers_of_a_tight_context_are_asked_again():
    piece = Piece("r", "one two", np.zeros(SECOND, np.float32))
    models = {
        256: ScriptedModel("one one one?", "one two"),
        512: ScriptedModel("one two?", "nothing"),
        768: ScriptedModel("one", "one two"),
        0: ScriptedModel("what?", tight=False),
    }

    answers = hear(models, [piece], "en")

    assert {ctx: asked_again([piece], heard) for ctx, heard in answers.items()} == {
        256: {"helped": 1},
        512: {"harmed": 1},
        768: {},
        0: {},
    }


def test_words_where_nobody_speaks_are_invented():
    answers = hear({512: ScriptedModel("you you?", "")}, [Piece("", "", np.zeros(SECOND, np.float32))], "en")

    assert invented(answers)["512"] == {
        "windows": 1,
        "with_words": 1,
        "words": 2,
        "doubtful": 1,
        "words_after_asking_again": 0,
    }


def test_a_model_that_remembers_another_context_is_found_out():
    class Haunted(ScriptedModel):
        seen = False

        def transcribe(self, samples, language, should_abort, *, wide=False, prompt="", translate=False, greedy=False):
            answer = super().transcribe(samples, language, should_abort, wide=wide)
            self.seen |= not wide
            return replace(answer, avg_logprob=-0.6) if wide and self.seen else answer

    silent = [np.zeros(SECOND, np.float32)] * 3

    assert history(lambda: ScriptedModel("a"), silent, "en") == {"windows": 3, "same_at_usual": 3, "same_at_wide": 3}
    assert history(lambda: Haunted("a"), silent, "en") == {"windows": 3, "same_at_usual": 3, "same_at_wide": 0}
