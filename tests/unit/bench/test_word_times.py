"""The bench of word times: quiet is put in where it says, and errors are counted against what was said."""

import numpy as np
import pytest

from bench.lib.recordings import Recording, Sentence, Word
from bench.lib.words.alignment import Spoken
from bench.word_times import BEFORE_S, PAUSE_S, SENTENCES, Times, markdown, with_quiet

RATE = 16_000


def recording(sentences):
    """One word a second, a sentence each, all as loud."""
    words = tuple(Word(f"w{n}", n + 0.2, n + 0.8) for n in range(sentences))
    sentences_said = tuple(Sentence(word.text, word.start_s, word.end_s) for word in words)
    return Recording(
        "r", " ".join(word.text for word in words), np.ones(sentences * RATE, np.float32), sentences_said, words
    )


def test_quiet_is_put_in_before_the_first_word_and_between_sentences():
    found, quiet = with_quiet(recording(2 * SENTENCES + 1))

    assert [(b - a) for a, b in quiet] == pytest.approx([BEFORE_S, PAUSE_S, PAUSE_S])
    assert found.duration_s == pytest.approx(2 * SENTENCES + 1 + BEFORE_S + 2 * PAUSE_S)
    for a, b in quiet:
        assert np.abs(found.samples[round(a * RATE) + 1 : round(b * RATE) - 1]).max() < 0.01
    assert found.words
    for word in found.words:
        assert found.samples[round(word.start_s * RATE)] == found.samples[round(word.end_s * RATE)] == 1


def test_errors_are_of_words_that_were_transcribed_right_and_of_the_first_after_quiet_apart():
    said = [Spoken("gale", 20.3, 20.8), Spoken("over", 20.9, 21.4), Spoken("out", 29.5, 30)]
    heard = [Spoken("gale", 19, 20.8), Spoken("other", 20.9, 21.4), Spoken("out", 25, 26)]
    times = Times()

    times.add(said, heard, [(0, 20), (21.5, 29.5)])

    assert sorted(times.off_s) == sorted(times.first_off_s) == pytest.approx([1.3, 4.5])
    assert (times.in_quiet, times.words) == (1, 3)
    figures = times.figures()
    assert (figures["words"], figures["in_quiet_percent"]) == (2, 33.33)
    table = markdown({"cuts": {"live": {"whisper": figures, "published": figures}}})
    assert table.splitlines()[-1].count("33.33 %") == 2
