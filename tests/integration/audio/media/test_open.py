import numpy as np
import pytest
import soxr

from bench.lib.media_files import KINDS, encode, resampled
from tests.support.media_files import pcm
from transcriber.audio.media.open import open_media
from transcriber.config import Settings
from transcriber.engine.whisper.model import load_model
from transcriber.models.catalog import DEMO_MODEL
from transcriber.testing.speech import load_speech
from transcriber.testing.wer import word_errors, words


@pytest.fixture(scope="module")
def model():
    model = load_model(DEMO_MODEL, Settings(whisper_model="demo", whisper_threads=1))  # others run beside it
    yield model
    model.close()


@pytest.fixture(scope="module")
def wav_errors(model):
    return errors_in("wav s16", model)


def errors_in(name, model) -> int:
    """Wrong words in the bundled recordings, read from files of one kind, in windows of 5 s."""
    kind, errors = KINDS[name], 0
    for recording in load_speech():
        samples = resampled(np.frombuffer(recording.pcm, "<i2").reshape(-1, 1), 48_000, kind.rate)
        media = open_media(encode(kind, samples.repeat(kind.channels[0], axis=1), kind.rate))
        heard = soxr.resample(pcm(media).mean(axis=1), media.format.rate, 16_000)
        heard = heard[max(0, kind.delay * 16_000 // kind.rate) :]
        windows = [heard[start : start + 80_000] for start in range(0, len(heard), 80_000)]
        text = " ".join(model.transcribe(np.ascontiguousarray(part), None, lambda: False).text for part in windows)
        errors += word_errors(recording.text, text)
    return errors


COMMON = {"mp3 cbr", "m4a", "ogg opus"}
LOSSY = [
    pytest.param(name, marks=[] if name in COMMON else pytest.mark.long)
    for name, kind in KINDS.items()
    if not kind.lossless and kind.rate > 8_000  # the model knows no telephones
]


@pytest.mark.parametrize("name", LOSSY)
def test_the_text_of_each_is_that_of_the_wav_file(model, wav_errors, name):
    said = sum(len(words(recording.text)) for recording in load_speech())

    assert abs(errors_in(name, model) - wav_errors) <= 0.01 * said
