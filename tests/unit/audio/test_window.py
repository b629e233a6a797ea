"""Where windows are cut: at the end of speech, before it, at quiet places; nothing is lost or doubled.

The network is a fake that takes what is loud for speech. Times are in beats of 32 ms, the network's own frames, so that
where a cut must fall can be counted on one's fingers.
"""

from itertools import pairwise

import numpy as np
import pytest

from tests.support.synthetic_speech import BEAT, LOUD, LoudnessDetector, hiss, joined, silence, speech
from transcriber.audio.quiet_place import SEARCH_S
from transcriber.audio.resampler import output_samples
from transcriber.audio.vad.detector import MIN_SPEECH_FRAMES
from transcriber.audio.window import OVERLAP_S
from transcriber.audio.window_cutter import (
    BEFORE_FRAMES,
    HELD_BACK_FRAMES,
    MIN_SILENCE_FRAMES,
    PRE_ROLL_FRAMES,
    SPEAKING_FRAMES,
    WindowCutter,
)
from transcriber.audio.window_policy import WindowPolicy

RATE = 16_000
WINDOW_S = 160 * BEAT / RATE  # 5.12 s
END_S, END = 0.5, 16  # the silence that ends speech, in seconds and in whole beats
KEPT = 8  # half of it stays with what was said, the other half goes to what comes


def cutter(**options):
    policy = WindowPolicy(**{"window_s": WINDOW_S, "endpoint_s": END_S, "speech_gate": True} | options)
    return WindowCutter(RATE, policy, LoudnessDetector())


def flushed(cutter, samples, *, eager=True):
    """All cuts of a run."""
    return cutter.push(samples, eager=eager) + cutter.flush(np.empty(0, np.float32), len(samples))


def ends(cuts):
    """In beats; a fraction where a cut is not at one."""
    return [(cut.start + cut.frames) / BEAT for cut in cuts]


def check_samples(cuts, samples):
    """Each cut has the run's own samples, of its range and of the audio around it."""
    for cut in cuts:
        begin = cut.start - round(cut.lead_s * RATE)
        end = cut.start + cut.frames + round(cut.tail_s * RATE)
        np.testing.assert_array_equal(cut.samples, samples[begin:end])
    assert [cut.start for cut in cuts] == [0, *(cut.start + cut.frames for cut in cuts[:-1])]


def test_a_window_ends_where_speech_has_ended():
    (first, _) = flushed(cutter(), joined(speech(30), silence(100)))

    assert ends([first]) == [30 + KEPT]
    assert first.speech_final
    assert not first.silent


def test_a_pause_that_is_one_beat_too_short_ends_nothing():
    cuts = flushed(cutter(), joined(speech(30), silence(END - 1), speech(30)))

    assert ends(cuts) == [30 + END - 1 + 30]


def test_speech_may_end_right_before_the_window_is_full_and_right_after_the_next_one_began():
    before_full = flushed(cutter(), joined(speech(160 - END - 1), silence(40)))
    just_begun = flushed(cutter(), joined(speech(160 + MIN_SPEECH_FRAMES), silence(40)))

    assert ends(before_full) == [143 + KEPT, 183]
    assert ends(just_begun) == [160, 160 + MIN_SPEECH_FRAMES + KEPT, 203]
    assert just_begun[1].speech_final


@pytest.mark.parametrize("left_s", [0.0, 5.0])
def test_halfway_through_the_silence_it_is_known_how_the_window_ends(left_s):
    source = cutter(left_context_s=left_s)
    source.push(joined(speech(30), silence(END - KEPT - 1)))
    too_soon = source.closing

    source.push(silence(1))
    assert (too_soon, source.closing) == (False, True)
    predicted = source.closing_cut()
    (cut,) = source.push(silence(KEPT))

    np.testing.assert_array_equal(predicted.samples, cut.samples)
    assert (predicted.start, predicted.frames, predicted.lead_s) == (cut.start, cut.frames, cut.lead_s)
    assert not source.closing


def test_nothing_closes_that_is_full_first_or_that_no_silence_ends():
    full = cutter()
    full.push(joined(speech(150), silence(KEPT)))
    endless = cutter(endpoint_s=0.0)
    endless.push(joined(speech(30), silence(END)))

    patient = cutter(endpoint_s=4.0)
    patient.push(joined(speech(30), silence(END)))

    assert (full.closing, endless.closing, patient.closing) == (False, False, False)
    assert (full.pauses, endless.pauses, patient.pauses) == (True, False, False)


def test_without_an_endpoint_only_a_full_window_ends():
    assert ends(flushed(cutter(endpoint_s=0.0), joined(speech(30), silence(200)))) == [160, 230]


def test_a_window_is_not_closed_early_while_others_wait():
    samples = joined(speech(30), silence(100))

    (cut,) = flushed(cutter(), samples, eager=False)

    assert ends([cut]) == [130]
    assert cut.speech_final


def test_a_window_is_closed_as_soon_as_nobody_waits_any_more():
    source = cutter()

    busy = source.push(joined(speech(30), silence(40)), eager=False)
    (cut,) = source.push(silence(1), eager=True)

    assert busy == []
    assert ends([cut]) == [71 - (END - KEPT)]
    assert cut.speech_final


def test_a_window_that_was_kept_open_is_closed_without_another_sample_and_once():
    source = cutter()

    speaking = source.push(speech(30), eager=False) + source.end_speech()
    early = source.push(silence(END - 1), eager=False) + source.end_speech()
    busy = source.push(silence(1), eager=False)
    (cut,), again = source.end_speech(), source.end_speech()
    rest = source.flush(silence(3), (30 + END + 3) * BEAT)

    assert speaking == early == busy == again == []
    assert ends([cut, *rest]) == [30 + END - KEPT, 30 + END + 3]
    assert [one.speech_final for one in (cut, *rest)] == [True, False]


def test_without_an_end_of_speech_or_a_detector_nothing_is_closed_early():
    endless, deaf = cutter(endpoint_s=0.0), WindowCutter(RATE, WindowPolicy(WINDOW_S), None)
    for source in endless, deaf:
        source.push(joined(speech(30), silence(40)), eager=False)

    assert endless.end_speech() == deaf.end_speech() == []


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000])
def test_a_window_that_ends_early_needs_no_sample_that_is_yet_to_come(rate):
    for beats in range(3, 60):
        source = WindowCutter(rate, WindowPolicy(WINDOW_S, endpoint_s=END_S), LoudnessDetector())

        (cut,) = source.push(joined(speech(beats), silence(END)))

        end = output_samples(cut.frames, rate)
        assert len(cut.samples) == end
        assert (beats + KEPT) * BEAT - 2 <= end <= (beats + KEPT) * BEAT


def test_what_is_no_speech_ends_no_window():
    clicks = [silence(40), *[piece for _ in range(MIN_SPEECH_FRAMES - 1) for piece in (speech(1), silence(20))]]

    assert flushed(cutter(speech_gate=False), joined(*clicks))[0].frames == sum(map(len, clicks))


def test_silence_before_speech_is_a_cut_of_its_own_and_leaves_the_pre_roll():
    silent, spoken = flushed(cutter(), joined(silence(60), speech(30)))

    assert ends([silent, spoken]) == [60 - PRE_ROLL_FRAMES, 90]
    assert (silent.silent, spoken.silent) == (True, False)
    assert (silent.speech_final, spoken.speech_final) == (False, False)


def test_silence_before_speech_stays_with_it_where_nothing_is_gated():
    assert ends(flushed(cutter(speech_gate=False), joined(silence(60), speech(30)))) == [90]


@pytest.mark.parametrize(
    ("beats", "expected"),
    [
        (PRE_ROLL_FRAMES + MIN_SILENCE_FRAMES - 1, [PRE_ROLL_FRAMES + MIN_SILENCE_FRAMES - 1 + 30]),
        (PRE_ROLL_FRAMES + MIN_SILENCE_FRAMES, [MIN_SILENCE_FRAMES, PRE_ROLL_FRAMES + MIN_SILENCE_FRAMES + 30]),
    ],
)
def test_silence_before_speech_that_is_too_short_stays_with_it(beats, expected):
    assert ends(flushed(cutter(), joined(silence(beats), speech(30)))) == expected


def test_silence_between_two_speakers_is_cut_apart_from_both():
    cuts = flushed(cutter(), joined(speech(20), silence(60), speech(20), silence(END)))

    assert ends(cuts) == [20 + KEPT, 80 - PRE_ROLL_FRAMES, 100 + KEPT, 100 + END]
    assert [cut.silent for cut in cuts] == [False, True, False, True]
    assert [cut.speech_final for cut in cuts] == [True, False, True, False]


@pytest.mark.parametrize("quiet", [False, True])
def test_a_full_window_of_silence_is_cut_short_of_its_end_by_what_may_belong_to_speech(quiet):
    cuts = flushed(cutter(quiet_cut=quiet), silence(400))

    assert ends(cuts) == [160 - HELD_BACK_FRAMES, 320 - 2 * HELD_BACK_FRAMES, 400]
    assert all(cut.silent for cut in cuts)
    assert all((cut.lead_s, cut.tail_s) == (0, 0) for cut in cuts)


@pytest.mark.parametrize("begin", range(140, 180))
def test_speech_always_has_its_pre_roll_even_where_a_window_of_silence_is_full(begin):
    cuts = flushed(cutter(quiet_cut=True), joined(silence(begin), speech(60)))

    (spoken,) = (cut for cut in cuts if not cut.silent)
    assert spoken.start <= (begin - PRE_ROLL_FRAMES) * BEAT
    assert ends([spoken]) == [begin + 60]


def test_a_click_long_before_speech_does_not_begin_it():
    cuts = flushed(cutter(), joined(silence(40), speech(1), silence(39), speech(30)))

    assert ends(cuts) == [80 - PRE_ROLL_FRAMES, 110]
    assert cuts[0].silent


def test_speech_is_final_only_if_silence_enough_follows_in_its_own_window():
    soon = flushed(cutter(), joined(speech(30), silence(END - 1)))
    full = flushed(cutter(), joined(speech(160 - END), silence(END)), eager=False)
    never = flushed(cutter(endpoint_s=0.0), joined(speech(30), silence(100)))
    nobody = flushed(cutter(), silence(100))
    click = flushed(cutter(), joined(speech(MIN_SPEECH_FRAMES - 1), silence(100)))

    found = [cut.speech_final for cuts in (soon, full, never, nobody, click) for cut in cuts]
    assert found == [False, True, False, False, False]
    assert all(type(final) is bool for final in found)  # for it goes into a message


@pytest.mark.parametrize("gate", [False, True])
def test_a_full_window_is_cut_in_the_middle_of_the_pause_near_its_end(gate):
    samples = joined(speech(130), silence(10), speech(80))

    cut, rest = flushed(cutter(quiet_cut=True, speech_gate=gate), samples)

    assert 130 < ends([cut])[0] < 140
    assert (cut.tail_s, rest.lead_s) == (0, 0)
    check_samples([cut, rest], samples)


def test_a_pause_in_noise_is_as_good():
    samples = joined(speech(130), silence(10), speech(80)) + hiss(220 * BEAT, 0.03)

    cut, _ = flushed(cutter(quiet_cut=True), samples)

    assert 130 < ends([cut])[0] < 140
    assert cut.tail_s == 0


@pytest.mark.parametrize(("dip_db", "overlaps"), [(-8, True), (-14, False)])
def test_only_a_place_that_is_much_quieter_than_the_window_is_a_pause(dip_db, overlaps):
    samples = hiss(8 * RATE)
    samples[round(4.2 * RATE) : round(4.5 * RATE)] *= np.float32(10 ** (dip_db / 20))

    cut, rest = flushed(WindowCutter(RATE, WindowPolicy(5.0, quiet_cut=True), None), samples)

    assert 4.2 < cut.frames / RATE < 4.5
    assert (cut.tail_s > 0, rest.lead_s > 0) == (overlaps, overlaps)


class Fine(LoudnessDetector):
    """To whom a frame is speech, however soft, if it swings to one side more than to the other."""

    def __call__(self, rows, state):
        return (rows[:, -BEAT:].mean(axis=1) > LOUD / 10).astype(np.float32), state


def test_a_pause_in_noise_is_a_better_place_than_a_soft_consonant():
    samples = np.abs(speech(220))
    consonant, pause = slice(122 * BEAT, 130 * BEAT), slice(144 * BEAT, 152 * BEAT)
    samples[consonant] = np.abs(hiss(8 * BEAT, 0.03))
    samples[pause] = hiss(8 * BEAT, 0.06)

    heard, not_heard = (
        flushed(WindowCutter(RATE, WindowPolicy(WINDOW_S, quiet_cut=True, endpoint_s=endpoint_s), Fine()), samples)
        for endpoint_s in (END_S, 0.0)
    )

    assert 144 < ends(heard)[0] < 152
    assert 122 < ends(not_heard)[0] < 130


def test_a_pause_further_from_the_end_than_is_searched_is_not_taken():
    samples = joined(speech(100), silence(10), speech(110))

    cut, *_ = flushed(cutter(quiet_cut=True), samples)

    assert 160 - SEARCH_S * RATE / BEAT <= ends([cut])[0] <= 160


def test_a_full_window_is_cut_at_its_end_where_no_quiet_place_is_wanted():
    assert ends(flushed(cutter(quiet_cut=False), joined(speech(130), silence(10), speech(80)))) == [160, 220]


def test_where_no_place_is_quiet_both_windows_hear_half_a_second_of_each_other():
    samples = hiss(20 * RATE)

    cuts = flushed(WindowCutter(RATE, WindowPolicy(5.0, quiet_cut=True), None), samples)

    check_samples(cuts, samples)
    assert len(cuts) > 4
    for before, after in pairwise(cuts):
        assert after.lead_s == OVERLAP_S
        left_s = 5.0 - before.lead_s - before.frames / RATE
        assert before.tail_s == pytest.approx(min(OVERLAP_S, left_s))
    assert all(len(cut.samples) <= 5 * RATE for cut in cuts)
    assert (cuts[0].lead_s, cuts[-1].tail_s) == (0, 0)


def test_with_left_context_each_window_includes_the_audio_before_it_and_what_had_arrived_after_it():
    samples = hiss(20 * RATE)

    cuts = flushed(WindowCutter(RATE, WindowPolicy(5.0, quiet_cut=True, left_context_s=7.5), None), samples)

    check_samples(cuts, samples)
    assert [cut.lead_s for cut in cuts] == [min(7.5, cut.start / RATE) for cut in cuts]
    for cut in cuts[:-1]:
        assert cut.goes_on
        assert cut.tail_s == pytest.approx(min(OVERLAP_S, 5.0 - cut.frames / RATE))
    assert (cuts[-1].tail_s, cuts[-1].goes_on) == (0, False)
    assert min(cut.frames for cut in cuts[:-1]) >= (5 - SEARCH_S) * RATE  # a window is as long as without


def test_a_window_that_ends_with_speech_or_in_silence_does_not_continue():
    ended = flushed(cutter(left_context_s=5.0), joined(speech(30), silence(60), speech(200), silence(400)))

    # Speech ends; silence; a full window of speech, cut as it is full; its rest, which ends; silence.
    assert [cut.goes_on for cut in ended] == [False, False, True, *[False] * (len(ended) - 3)]
    assert all(cut.lead_s == min(5.0, cut.start / RATE) for cut in ended)


def test_what_a_full_window_left_to_the_next_one_waits_for_the_end_of_speech_only():
    samples = joined(speech(150), silence(60), speech(30), silence(60))

    full, rest, *_ = flushed(cutter(left_context_s=5.0), samples)
    busy = flushed(cutter(left_context_s=5.0), samples, eager=False)
    alone = flushed(cutter(), samples)

    assert full.goes_on
    assert ends([full]) == [160]
    assert ends([rest]) == [160 + KEPT]
    assert rest.speech_final
    assert rest.silent  # the next window, which got the words, is transcribed all the same
    # Where windows are for when nobody waits, or nothing is left to the next one, it lasts until speech begins.
    assert ends(busy[1:2]) == ends(alone[1:2]) == [210 - PRE_ROLL_FRAMES]


def test_what_is_cut_where_it_is_full_leaves_words_only_to_a_window_that_comes():
    source = cutter(quiet_cut=False, left_context_s=5.0)

    exactly = source.push(speech(160))
    one_more = source.push(speech(1))
    (rest,) = source.flush(np.empty(0, np.float32), 161 * BEAT)
    (alone,) = flushed(cutter(quiet_cut=False, left_context_s=5.0), speech(160))

    assert exactly == []
    assert [(cut.frames, cut.goes_on) for cut in one_more] == [(160 * BEAT, True)]
    assert rest.frames == BEAT
    assert (alone.frames, alone.goes_on) == (160 * BEAT, False)


@pytest.mark.parametrize("window_s", [0.5, 0.6, 0.75, 1.0, 2.0])
def test_short_windows_hear_more_of_their_own_than_of_their_neighbours(window_s):
    for seed in range(10):
        samples = hiss(30 * RATE, seed=seed)

        cuts = flushed(WindowCutter(RATE, WindowPolicy(window_s, quiet_cut=True), None), samples)

        check_samples(cuts, samples)
        assert all(len(cut.samples) <= window_s * RATE for cut in cuts)
        assert min(cut.frames for cut in cuts[:-1]) >= window_s * RATE / 4


def test_what_is_left_at_the_end_of_a_run_is_one_window_if_it_can_be():
    spoken = flushed(cutter(quiet_cut=True), joined(speech(150), silence(9)))
    silent = flushed(cutter(quiet_cut=True), silence(159))
    ended_late = cutter()
    before = ended_late.push(speech(30), eager=True)
    exactly = cutter(quiet_cut=True).flush(joined(speech(130), silence(10), speech(20)), 160 * BEAT)

    assert ends(spoken) == ends(silent) == [159]
    assert ends(exactly) == [160]
    assert before == []
    assert ends(ended_late.flush(silence(100), 130 * BEAT)) == [130]


def test_what_is_left_at_the_end_of_a_run_is_cut_if_it_is_longer_than_a_window():
    source = cutter(quiet_cut=True)

    cuts = source.flush(joined(speech(130), silence(10), speech(80)), 220 * BEAT)

    assert len(cuts) == 2
    assert 130 < ends(cuts)[0] < 140
    assert ends(cuts)[1] == 220


def test_a_run_without_audio_has_no_windows():
    assert cutter().flush(np.empty(0, np.float32), 0) == []


@pytest.mark.parametrize("left", [1, 100, BEAT // 2 - 1])
def test_a_last_window_of_less_than_half_a_frame_is_a_window_all_the_same(left):
    samples = joined(silence(160), np.zeros(left, np.float32))

    cuts = flushed(cutter(speech_gate=False), samples)

    assert ends(cuts) == [160, 160 + left / BEAT]
    check_samples(cuts, samples)


def test_to_look_at_the_open_window_changes_nothing_of_what_comes():
    samples = joined(silence(60), speech(200), silence(10), speech(60), silence(100))
    looked_at, left_alone = cutter(quiet_cut=True), cutter(quiet_cut=True)
    found, opened = [], []

    for at in range(0, len(samples), 700):
        found += looked_at.push(samples[at : at + 700])
        opened.append(looked_at.open_cut())
    found += looked_at.flush(np.empty(0, np.float32), len(samples))
    expected = flushed(left_alone, samples)

    assert ends(found) == ends(expected)
    assert [cut.speech_final for cut in found] == [cut.speech_final for cut in expected]
    check_samples(found, samples)
    for cut in opened:
        begin = cut.start - round(cut.lead_s * RATE)
        np.testing.assert_array_equal(cut.samples, samples[begin : cut.start + cut.frames])


@pytest.mark.parametrize("left_s", [0.0, 5.0])
def test_a_window_knows_who_spoke_in_the_two_seconds_before_it(left_s):
    samples = joined(speech(20), silence(80), speech(200), silence(60))
    ear = cutter(quiet_cut=True, left_context_s=left_s)

    cuts, opened = ear.push(samples), ear.open_cut()
    cuts += ear.flush(np.empty(0, np.float32), len(samples))

    spoken = np.concatenate([cut.speech for cut in cuts])
    at = 0
    for cut in cuts:
        assert len(cut.speech_before) == min(at, BEFORE_FRAMES)
        np.testing.assert_array_equal(cut.speech_before, spoken[max(0, at - BEFORE_FRAMES) : at])
        at += len(cut.speech)
    np.testing.assert_array_equal(opened.speech_before, cuts[-1].speech_before)


def test_the_open_window_knows_whether_there_was_speech_and_how_far_it_was_detected():
    source, deaf = cutter(), WindowCutter(RATE, WindowPolicy(WINDOW_S), None)

    states = []
    for piece in (silence(20), speech(MIN_SPEECH_FRAMES - 1), speech(1), silence(10)):
        source.push(piece)
        states.append((source.spoken, source.last_speech, source.open_s * RATE / BEAT))
    deaf.push(silence(20))

    assert states == [(False, -1, 20), (False, 21, 22), (True, 22, 23), (True, 22, 33)]
    assert (deaf.spoken, deaf.last_speech) == (True, 20)


def test_somebody_speaks_until_half_a_second_after_speech():
    open_one, said = cutter(endpoint_s=0), speech(30)
    shown = [open_one.speaking]
    for samples in (said, silence(SPEAKING_FRAMES - MIN_SPEECH_FRAMES), silence(MIN_SPEECH_FRAMES)):
        open_one.push(samples)
        shown.append(open_one.speaking)

    assert shown == [False, True, True, False]
    assert WindowCutter(RATE, WindowPolicy(5.0), None).speaking is None


@pytest.mark.parametrize("wanted", [0, 1, 99, 100, 101, 250, 1_000])
def test_the_latest_samples_are_those_pushed_last_however_they_were_sliced(wanted):
    samples, source = hiss(250), WindowCutter(RATE, WindowPolicy(5.0), None)
    for begin in range(0, 250, 100):
        source.push(samples[begin : begin + 100])

    np.testing.assert_array_equal(source.latest(wanted), samples[max(0, 250 - wanted) :])
