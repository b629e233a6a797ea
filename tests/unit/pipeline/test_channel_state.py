"""What is kept of one speaker from window to window."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from transcriber.audio.format import AudioFormat
from transcriber.audio.session import Session, Window
from transcriber.audio.window import Cut
from transcriber.audio.window_policy import WindowPolicy
from transcriber.config import load_settings
from transcriber.diarization.live_labeller import LiveLabeller
from transcriber.engine.job import Job, Lane
from transcriber.engine.transcript import Phrase, Transcript, Word
from transcriber.pipeline.channel_state import ChannelState
from transcriber.pipeline.pauses import FRAME_S
from transcriber.schema.checkpoint import SpeakerState
from transcriber.testing.fake_daemon import LevelNetworks

RATE = 16_000
SESSION = Session("s", AudioFormat(rate=RATE), WindowPolicy(1.0), None, max_hole_s=1.0)


def window(number, frames=RATE):
    cut = Cut(number * RATE, frames, np.zeros(frames, np.float32))
    return Window(SESSION, 0, number, number * RATE, frames, cut, None, SESSION.places, WindowPolicy(1.0))


def said(text, suppressed=None):
    words = tuple(Word(word, 0.1 * i, 0.1 * i + 0.1, 0.9) for i, word in enumerate(text.split()))
    return Transcript(text, words, "en", -0.1, None, 0.1, suppressed=suppressed)


def test_frames_without_a_word_count_from_the_last_one():
    speaker = ChannelState(load_settings())

    speaker.final(window(0), said(""))
    speaker.silence(RATE, RATE)
    assert speaker.quiet_frames == 2 * RATE

    speaker.final(window(2), said("gale"))
    assert speaker.quiet_frames == 0


def test_text_that_comes_late_does_not_break_the_silence_after_it():
    speaker = ChannelState(load_settings())

    speaker.silence(RATE, RATE)
    speaker.silence(2 * RATE, RATE)
    speaker.final(window(0), said("gale"))

    assert speaker.quiet_frames == 2 * RATE


def test_frames_that_never_came_are_no_silence():
    speaker = ChannelState(load_settings())

    speaker.silence(0, RATE)
    speaker.silence(5 * RATE, RATE)

    assert speaker.quiet_frames == 2 * RATE


def test_a_pass_that_is_not_believed_shows_nothing_and_changes_nothing():
    speaker = ChannelState(load_settings())
    speaker.partial(window(0), said("gale warning"))

    held_back = speaker.partial(window(0), said("", "repetition"))
    shown = speaker.partial(window(0), said("gale warning for"))

    assert held_back is None
    assert shown is not None
    assert (shown.text, speaker.rev) == ("gale warning for", 2)
    assert [word.word for word in speaker._agreement._agreed] == ["gale", "warning"]


def test_a_pass_over_another_window_shows_nothing():
    speaker = ChannelState(load_settings())

    assert speaker.partial(window(1), said("gale")) is None


def test_a_pass_without_words_shows_nothing():
    speaker = ChannelState(load_settings())

    assert speaker.partial(window(0), said("")) is None
    assert speaker.rev == 0


def timed(words, lead_s=0.0):
    """An answer of (word, time of its middle) in seconds from where hearing began."""
    some = tuple(Word(word, at_s - 0.1, at_s + 0.1, 0.9) for word, at_s in words)
    return replace(said(" ".join(word for word, _ in words)), words=some, lead_s=lead_s)


def full(number, lead_s=0.0):
    """A window that was full during speech."""
    cut = replace(window(number).cut, lead_s=lead_s, goes_on=True)
    return replace(window(number), cut=cut)


def test_words_at_the_end_of_a_full_window_are_said_with_the_next_one():
    speaker = ChannelState(load_settings(buffer_duration_secs=1))

    first = speaker.final(full(0), timed([("gale", 0.3), ("warn", 0.9)]))
    second = speaker.final(window(1), timed([("gale", 0.3), ("warning", 1.0), ("now", 1.5)], lead_s=1.0))

    assert (first.text, second.text) == ("gale", "warning now")


def test_a_window_that_failed_is_not_made_up_for_by_the_one_after_it_whenever_it_is_known():
    """It is published as missing; its words must not come with another one."""
    for late in (False, True):
        speaker = ChannelState(load_settings(buffer_duration_secs=1))
        if late:
            speaker.failed(window(1), "engine_error")
        first = speaker.final(full(0), timed([("gale", 0.3), ("warn", 0.9)]))
        if not late:
            speaker.failed(window(1), "engine_error")
        third = speaker.final(window(2), timed([("gale", 0.3), ("north", 1.5), ("now", 2.5)], lead_s=2.0))

        assert (first.text, third.text) == ("gale", "warn now")


def test_what_is_transcribed_later_holds_nothing_back():
    speaker = ChannelState(load_settings(buffer_duration_secs=1))

    assert speaker.final(full(0), timed([("gale", 0.3), ("warning", 0.9)]), again=True).text == "gale warning"


def test_another_daemon_resumes_with_what_was_written_and_held_back():
    settings = load_settings(buffer_duration_secs=1)
    speaker = ChannelState(settings)
    speaker.final(full(0), timed([("gale", 0.3), ("warn", 0.9)]))

    other = ChannelState(settings, SpeakerState.model_validate_json(speaker.state().model_dump_json()))

    answer = timed([("gale", 0.3), ("warning", 1.0)], lead_s=1.0)
    assert other.final(window(1), answer) == speaker.final(window(1), answer)
    assert other.history.allows_left_context("en")


def test_another_daemon_knows_that_the_window_before_failed():
    settings = load_settings(buffer_duration_secs=1)
    speaker = ChannelState(settings)
    speaker.final(full(0), timed([("gale", 0.3)]))
    speaker.failed(window(1), "engine_error")

    assert not ChannelState(settings, speaker.state()).history.allows_left_context("en")


def test_a_window_that_had_no_place_leaves_the_one_after_it_its_left_context():
    speaker = ChannelState(load_settings())

    speaker.failed(window(1), "queue_full")

    assert speaker.history.allows_left_context("en")


def test_revisions_of_several_gaps_say_what_was_held_back_before_them_not_at_all():
    """The first window that was transcribed after them has said it."""
    settings = load_settings(buffer_duration_secs=1)
    speaker = ChannelState(settings)
    speaker.final(full(0), timed([("gale", 0.3), ("warning", 0.9)]))
    state = speaker.state()

    answer = timed([("gale", 0.3), ("warning", 0.9), ("north", 1.5)], lead_s=1.0)
    assert ChannelState(settings, state).final(window(1), answer, again=True).text == "north"


def frames(*ranges_s, seconds):
    """What a detector makes of a window with speech then."""
    speech = np.zeros(round(seconds / FRAME_S), np.float32)
    for start_s, end_s in ranges_s:
        speech[round(start_s / FRAME_S) : round(end_s / FRAME_S)] = 0.9
    return speech


def heard_in(speech, before=None, *, start_s=0, seconds=25):
    """A window, and an answer with four words that share its time, as if all of it were speech."""
    cut = Cut(start_s * RATE, seconds * RATE, np.zeros(1, np.float32), speech=speech, speech_before=before)
    heard = Window(SESSION, 0, 0, start_s * RATE, seconds * RATE, cut, None, SESSION.places, WindowPolicy(1.0))
    each_s = seconds / 4
    words = tuple(
        Word(word, n * each_s, (n + 1) * each_s, 0.9) for n, word in enumerate(["gale", "warn", "over", "outs"])
    )
    text = " ".join(word.word for word in words)
    return heard, Transcript(text, words, "en", -0.1, None, 0.1, phrases=(Phrase(0.0, float(seconds), 16),))


def test_words_are_timed_where_there_is_speech():
    window, answer = heard_in(frames((20, 21), (23, 24), seconds=25))

    said = ChannelState(load_settings()).final(window, answer)

    assert said.text == answer.text
    assert said.words
    times_s = [(word.start_s, word.end_s) for word in said.words]
    assert np.ravel(times_s).tolist() == pytest.approx([20, 20.5, 20.5, 21, 23, 23.5, 23.5, 24], abs=0.1)


def test_words_of_a_partial_are_timed_where_there_is_speech():
    window, answer = heard_in(frames((20, 24), seconds=25))

    shown = ChannelState(load_settings()).partial(window, answer)

    assert shown
    assert shown.words
    assert shown.words[0].start_s == pytest.approx(20, abs=0.1)


def test_words_that_slipped_into_the_pause_before_a_window_are_timed_within_it():
    """Whisper gets the left context, too, and takes the pause there for the beginning of the sentence."""
    before = frames((0, 0.5), seconds=2)
    window, answer = heard_in(frames((0.25, 4), seconds=4), before, start_s=20, seconds=4)
    slipped = replace(
        answer,
        lead_s=1.4,
        words=tuple(replace(word, start_s=word.start_s * 5.4 / 4, end_s=word.end_s * 5.4 / 4) for word in answer.words),
        phrases=(Phrase(0.0, 5.4, 16),),
    )
    state = SpeakerState(
        said="", written={"until_s": 18.0, "words": [("yes", 17.5, 18.0)], "held": [], "language": "en"}
    )

    said = ChannelState(load_settings(), state).final(window, slipped)

    assert said.text == "gale warn over outs"
    assert said.words
    assert said.words[0].start_s == pytest.approx(0.25, abs=0.1)
    assert all(one.end_s <= other.start_s for one, other in pairwise(said.words))


def test_without_a_detector_words_stay_where_the_model_puts_them():
    window, answer = heard_in(None)

    assert ChannelState(load_settings()).final(window, answer).words == answer.words


def test_moving_words_out_of_pauses_changes_only_their_times():
    """What the next window is compared with is what whisper said, so that texts do not depend on the detector's frames."""
    with_speech, answer = heard_in(frames((20, 21), (23, 24), seconds=25))
    without, _ = heard_in(None)
    one, other = ChannelState(load_settings()), ChannelState(load_settings())

    moved, plain = one.final(with_speech, answer), other.final(without, answer)

    assert moved.text == plain.text
    assert moved.words != plain.words
    assert one.state() == other.state()


def test_the_next_daemon_knows_the_voices_as_of_the_last_window_that_was_published():
    """The worker is a window ahead of what is published."""
    labeller, speaker = LiveLabeller(LevelNetworks()), ChannelState(load_settings())
    jobs = []
    for number, level in enumerate((0.101, 0.201)):
        heard = window(number, 2 * RATE)
        heard.cut.samples[:] = level
        speakers = speaker.speakers_of(heard, Lane.FINAL, labeller)
        assert speakers
        speakers.find(busy=False)
        jobs.append(Job("s", heard.cut.samples, None, lambda *_: None, speakers=speakers))

    speaker.final(window(0), said("gale"), jobs[0])
    state = SpeakerState.model_validate_json(speaker.state().model_dump_json())
    speaker.final(window(1), said("warning"), jobs[1])

    resumed = ChannelState(load_settings(), state)
    assert len(resumed.known) == 1
    assert resumed.known == speaker.known[:1]
    assert len(speaker.known) == 2
    again = resumed.speakers_of(window(1, 2 * RATE), Lane.FINAL, labeller)
    assert again
    again.find(busy=False)
    assert again.known == resumed.known  # of silence nothing is learnt


def test_a_checkpoint_of_an_older_daemon_knows_no_voice_nor_one_of_another_network():
    older = ChannelState(load_settings()).state().model_dump()
    other = older | {"voices": [{"vector": "AAAA", "weight_s": 1.0}]}
    del older["voices"]

    for state in (older, other):
        assert ChannelState(load_settings(), SpeakerState.model_validate(state)).known == ()


def test_a_window_that_was_labelled_late_after_a_failure_takes_nothing_back():
    """In durable mode whisper failed at the first one, which was tried again after the second."""
    labeller, speaker, jobs = LiveLabeller(LevelNetworks()), ChannelState(load_settings()), []
    for number, level in enumerate((0.101, 0.201)):
        heard = window(number, 2 * RATE)
        heard.cut.samples[:] = level
        speakers = speaker.speakers_of(heard, Lane.FINAL, labeller)
        jobs.append(Job("s", heard.cut.samples, None, lambda *_: None, speakers=speakers))
    for job in reversed(jobs):
        assert job.speakers is not None
        job.speakers.find(busy=False, should_abort=lambda: False)

    known = []
    for number, job in enumerate(jobs):
        speaker.final(window(number), said("gale"), job)
        known.append(len(speaker.known))

    assert known == [0, 1], "with the first one nothing is stored of what the second taught"


def test_of_partials_nobody_asks_who_speaks_and_backfill_teaches_nothing():
    labeller, speaker = LiveLabeller(LevelNetworks()), ChannelState(load_settings())
    heard = window(0, 2 * RATE)
    heard.cut.samples[:] = 0.101

    assert speaker.speakers_of(heard, Lane.FILE, labeller) is None, "no voice is known, and none is added"
    later = speaker.speakers_of(heard, Lane.FINAL, labeller)
    assert later
    later.find(busy=False)
    assert (speaker.speakers_of(heard, Lane.PARTIAL, labeller), speaker.speakers_of(heard, Lane.FINAL, None)) == (
        None,
        None,
    )
    assert later.known is not None
    assert len(later.known) == 1
