import json

import numpy as np
import pytest
import soundfile

from bench.demo_model.corpus import Utterance
from bench.lib.recordings import BUNDLED, Word, read_folder
from bench.lib.speech import readings
from bench.lib.speech.readings import Cast

SECOND = 16_000


class Beeps:
    """Synthesiser whose every word takes half a second."""

    HELD_OUT = "nobody"

    def speak(self, voice, words, *_):
        times = np.arange(len(words), dtype=np.float32) / 2
        return Utterance(voice, words, times, times + 0.5, np.ones(len(words) * SECOND // 2, np.int16))


@pytest.fixture
def _beeps(monkeypatch):
    monkeypatch.setattr(readings, "Espeak", Beeps)
    monkeypatch.setattr(readings, "Flite", Beeps)


@pytest.mark.usefixtures("_beeps")
@pytest.mark.parametrize(
    ("speak", "recordings", "pauses_s"),
    [
        (readings.speak_sentences, 52, readings.SENTENCE_PAUSES_S),
        (readings.speak_readings, 20, readings.READING_PAUSES_S),
        (readings.speak_dialogues, 10, readings.DIALOGUE_PAUSES_S),
    ],
)
def test_synthetic_recordings_know_when_every_word_is_said(tmp_path, speak, recordings, pauses_s):
    speak(tmp_path / "said")

    read = read_folder(tmp_path / "said")

    assert len(read) == recordings
    for one in read:
        assert " ".join(word.text for word in one.words or ()) == one.text
        assert all(one.samples[int((word.start_s + word.end_s) / 2 * SECOND)] > 0 for word in one.words or ())
        for before, after in zip(one.sentences, one.sentences[1:], strict=False):
            assert pauses_s[0] - 0.002 <= after.start_s - before.end_s <= pauses_s[1] + 0.002


@pytest.mark.usefixtures("_beeps")
def test_who_answers_in_a_dialogue_says_little(tmp_path):
    readings.speak_dialogues(tmp_path / "said")

    said = [sentence for one in read_folder(tmp_path / "said") for sentence in one.sentences]

    assert max(len(sentence.words or ()) for sentence in said) == readings.UTTERANCE_WORDS


@pytest.mark.usefixtures("_beeps")
def test_a_sentence_that_a_voice_cannot_say_is_left_out():
    cast, asked = Cast(), []

    def stutter(words):
        asked.append(words)
        return Beeps().speak("", words) if len(asked) % 2 else None

    take = cast.record(lambda _: stutter, (0.0, 0.0), lambda number, _: number == 2)

    assert [sentence["text"] for sentence in take.sentences] == [" ".join(asked[0]), " ".join(asked[2])]
    assert len(take.samples) == (len(asked[0]) + len(asked[2])) * SECOND // 2


def test_words_have_times_where_the_transcripts_have_them(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(SECOND), SECOND)
    word = {"word": "Gale", "start": 0.1, "end": 0.4}
    sentence = {"text": "Gale", "start": 0.1, "end": 0.4}
    entries = [
        {"words": [word]},
        {"sentences": [sentence | {"words": [word]}]},
        {"sentences": [sentence | {"words": [word]}, sentence]},
        {},
    ]
    (tmp_path / "transcripts.json").write_text(json.dumps([{"file": "a.wav", "text": "Gale"} | e for e in entries]))

    read = read_folder(tmp_path)

    assert [one.words for one in read] == [(Word("Gale", 0.1, 0.4),)] * 2 + [None] * 2
    assert all(one.words for one in read_folder(BUNDLED))
