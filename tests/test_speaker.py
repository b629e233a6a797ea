"""What is kept of one speaker from window to window."""

import numpy as np

from transcriber.audio.pcm import AudioFormat
from transcriber.audio.session import Session, Window
from transcriber.audio.window import Cut, Cutting
from transcriber.bus.speaker import Speaker
from transcriber.engine.job import Transcript, Word

RATE = 16_000
SESSION = Session("s", AudioFormat(rate=RATE), Cutting(1.0), None, max_hole_s=1.0)


def window(number, frames=RATE):
    cut = Cut(number * RATE, frames, np.zeros(frames, np.float32))
    return Window(SESSION, 0, number, number * RATE, frames, cut, None, SESSION.places)


def said(text, suppressed=None):
    words = tuple(Word(word, 0.1 * i, 0.1 * i + 0.1, 0.9) for i, word in enumerate(text.split()))
    return Transcript(text, words, "en", -0.1, None, 0.1, suppressed=suppressed)


def test_frames_without_a_word_count_from_the_last_one():
    speaker = Speaker(with_context=False)

    speaker.final(window(0), said(""))
    speaker.silence(RATE, RATE)
    assert speaker.quiet_frames == 2 * RATE

    speaker.final(window(2), said("gale"))
    assert speaker.quiet_frames == 0


def test_text_that_comes_late_does_not_break_the_silence_after_it():
    speaker = Speaker(with_context=False)

    speaker.silence(RATE, RATE)
    speaker.silence(2 * RATE, RATE)
    speaker.final(window(0), said("gale"))

    assert speaker.quiet_frames == 2 * RATE


def test_frames_that_never_came_are_no_silence():
    speaker = Speaker(with_context=False)

    speaker.silence(0, RATE)
    speaker.silence(5 * RATE, RATE)

    assert speaker.quiet_frames == 2 * RATE


def test_a_pass_that_is_not_believed_shows_nothing_and_changes_nothing():
    speaker = Speaker(with_context=False)
    speaker.partial(window(0), said("gale warning"))

    held_back = speaker.partial(window(0), said("", "repetition"))
    shown = speaker.partial(window(0), said("gale warning for"))

    assert held_back is None
    assert shown is not None
    assert (shown.text, speaker.rev) == ("gale warning for", 2)
    assert [word.word for word in speaker._agreement._agreed] == ["gale", "warning"]


def test_a_pass_over_another_window_shows_nothing():
    speaker = Speaker(with_context=False)

    assert speaker.partial(window(1), said("gale")) is None


def test_a_pass_without_words_shows_nothing():
    speaker = Speaker(with_context=False)

    assert speaker.partial(window(0), said("")) is None
    assert speaker.rev == 0
