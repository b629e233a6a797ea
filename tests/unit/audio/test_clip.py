"""A whole recording as windows, and who speaks in them."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from transcriber.audio.clip import ClipCutter
from transcriber.audio.format import AudioFormat, SampleFormat
from transcriber.audio.session import Gap, Silence, Window
from transcriber.audio.vad.detector import State
from transcriber.audio.window_policy import WindowPolicy
from transcriber.errors import BadInputError, TooLongError

RATE = 16_000
FORMAT = AudioFormat(SampleFormat.S16LE, RATE, 1)


class Sharp:
    """A network that takes whatever is loud for speech."""

    def new_state(self):
        return State(np.zeros(1, np.float32), np.zeros(1, np.float32))

    def __call__(self, rows, state):
        return (np.abs(rows[:, 64:]).max(axis=1) > 0.3).astype(np.float32), state


def loud(seconds):
    rng = np.random.default_rng(1)
    return rng.normal(0, 0.3, round(seconds * RATE)).clip(-1, 1).astype(np.float32)


def quiet(seconds):
    return np.zeros(round(seconds * RATE), np.float32)


def pcm(*parts):
    return (np.concatenate(parts) * 32767).astype("<i2").tobytes()


def pieces(data, size=RATE * 2):
    return [(at // 2, data[at : at + size]) for at in range(0, len(data), size)]


def ears(network=None, *, gate=True, window_s=5.0, max_s=60.0):
    return ClipCutter(WindowPolicy(window_s, quiet_cut=True, speech_gate=gate, always_detect=True), network, max_s)


def test_silence_before_speech_is_a_part_of_its_own_so_that_words_are_transcribed_afresh():
    first, second = ears(Sharp(), window_s=25.0).cut("s", FORMAT, pieces(pcm(quiet(20), loud(3)))).parts

    assert isinstance(first, Silence)
    assert isinstance(second, Window)
    assert second.start_frame == pytest.approx(20 * RATE, abs=RATE // 3)


def test_all_of_a_window_is_listened_to():
    (window,) = ears(Sharp(), window_s=25.0).cut("s", FORMAT, pieces(pcm(loud(2), quiet(6), loud(2)))).parts

    spoken_s = np.flatnonzero(window.cut.speech >= 0.4) * 512 / RATE
    assert (spoken_s[0], spoken_s[-1]) == (0.0, pytest.approx(10.0, abs=0.1))
    assert not np.any((spoken_s > 2.1) & (spoken_s < 7.9))


def test_windows_without_speech_are_silences_only_with_the_gate():
    data = pcm(quiet(3))

    assert isinstance(ears(Sharp()).cut("s", FORMAT, pieces(data)).parts[0], Silence)
    (part,) = ears(Sharp(), gate=False).cut("s", FORMAT, pieces(data)).parts
    assert isinstance(part, Window)
    assert part.cut.speech is not None
    assert not part.cut.speech.any()


def test_without_a_network_nobody_listens():
    (part,) = ears().cut("s", FORMAT, pieces(pcm(quiet(3)))).parts

    assert isinstance(part, Window)
    assert part.cut.speech is None


@settings(deadline=None)
@given(
    seconds=st.lists(st.tuples(st.booleans(), st.floats(0.05, 6)), min_size=1, max_size=5),
    size=st.integers(100, 40_000),
)
def test_the_parts_tile_the_clip_however_it_comes(seconds, size):
    data = pcm(*(loud(s) if speaks else quiet(s) for speaks, s in seconds))

    clip = ears(Sharp()).cut("s", FORMAT, pieces(data, 2 * size))

    place = 0
    for part in clip.parts:
        assert part.start_frame == place
        place += part.frames
    assert place == len(data) // 2
    whole = ears(Sharp()).cut("s", FORMAT, [(0, data)])
    assert [type(part) for part in whole.parts] == [type(part) for part in clip.parts]


@pytest.mark.parametrize("size", [RATE // 2, RATE * 2, RATE * 20])
def test_a_clip_that_is_just_as_long_as_a_window_is_one(size):
    clip = ears(Sharp(), window_s=5.0).cut("s", FORMAT, pieces(pcm(loud(5.0)), size))

    assert [part.frames for part in clip.parts] == [5 * RATE]
    assert clip.session.received == clip.session.clock == 5 * RATE


def test_what_could_not_be_decoded_is_a_gap():
    data = pcm(loud(1))

    parts = ears().cut("s", FORMAT, [(RATE // 2, data), (3 * RATE, data)]).parts

    gaps = [(part.start_frame, part.frames) for part in parts if isinstance(part, Gap)]
    assert gaps == [(0, RATE // 2), (3 * RATE // 2, 3 * RATE // 2)]


@pytest.mark.parametrize(
    ("parts", "error"),
    [
        ([], BadInputError),
        ([(0, b"")], BadInputError),
        ([(0, b"x")], BadInputError),
        ([(0, bytes(2 * 61 * RATE))], TooLongError),
        ([(61 * RATE, bytes(2))], TooLongError),
    ],
)
def test_nothing_and_too_much_are_refused(parts, error):
    with pytest.raises(error):
        ears().cut("s", FORMAT, parts)


def test_a_file_that_claims_to_be_too_long_need_not_be_decoded():
    with pytest.raises(TooLongError, match="more than 60 s"):
        ears().check_length(60 * 48_000 + 1, 48_000)
