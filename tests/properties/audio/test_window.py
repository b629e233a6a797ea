"""Whatever the audio, however it is cut: no sample is lost or doubled, no window too long, and slices do not matter."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from tests.support.audio_strategies import AUDIO, CUTTINGS, FORMATS, SIZES, encode, sliced, sound
from tests.support.synthetic_speech import LoudnessDetector
from transcriber.audio.codecs.pcm import decode
from transcriber.audio.contiguous import ContiguousRun, ReplayableRun
from transcriber.audio.format import AudioFormat
from transcriber.audio.resampler import TARGET_SAMPLE_RATE, Resampler, output_samples
from transcriber.audio.vad.detector import FRAME_SAMPLES, SpeechDetector, has_speech
from transcriber.audio.vad.silero import Silero
from transcriber.audio.window import Cut

SILERO = Silero()
EAR = LoudnessDetector()
NETWORKS = st.sampled_from([EAR, EAR, EAR, SILERO])


def cuts_of(payload, fmt, policy, network, sizes, eager=(True,)):
    """Of each channel that is transcribed."""
    run = (ReplayableRun if policy.replayable else ContiguousRun)(fmt, policy, network)
    found = [
        one
        for number, piece in enumerate(sliced(payload, fmt, sizes))
        for one in run.push(piece, eager=eager[number % len(eager)])
    ]
    found += run.flush()
    assert run.open_frames == 0
    return [[cut for channel, cut in found if channel == wanted] for wanted in range(len(run.cutters))]


def heard_at_once(payload, fmt, *, split):
    """The samples of each channel, by one resampler that is fed once."""
    heard = []
    for samples in decode(payload, fmt, split=split):
        resampler = Resampler(fmt.rate)
        heard.append(resampler.flush(samples))
    return heard


def speech_at_once(samples, network):
    detector = SpeechDetector(network)
    return np.concatenate((detector.push(samples).speech, detector.flush().speech))


@settings(max_examples=100, deadline=None)
@given(AUDIO, FORMATS, CUTTINGS, NETWORKS, SIZES, st.lists(st.booleans(), min_size=1, max_size=20))
def test_no_sample_is_lost_or_doubled_and_no_window_is_too_long(audio, fmt, policy, network, sizes, eager):
    payload = audio.payload(fmt, apart=policy.split_channels)
    frames = len(payload) // fmt.frame_bytes

    channels = cuts_of(payload, fmt, policy, network, sizes, eager)

    heard = heard_at_once(payload, fmt, split=policy.split_channels)
    assert len(channels) == len(heard)
    for cuts, samples in zip(channels, heard, strict=True):
        at = 0
        for cut in cuts:
            assert cut.start == at
            assert cut.frames > 0
            at += cut.frames
            begin, end = (output_samples(place, fmt.rate) for place in (cut.start, at))
            lead, tail = (round(seconds * TARGET_SAMPLE_RATE) for seconds in (cut.lead_s, cut.tail_s))
            assert len(cut.samples) == lead + end - begin + tail
            assert len(cut.samples) <= math.ceil((policy.left_context_s + policy.window_s) * TARGET_SAMPLE_RATE) + 1
            if policy.left_context_s:
                # It is a whole number of frames, and begins at the sample before one.
                a_frame = TARGET_SAMPLE_RATE / fmt.rate
                assert lead == pytest.approx(min(begin, policy.left_context_s * TARGET_SAMPLE_RATE), abs=a_frame + 1)
            assert cut.empty == (begin == end)
            np.testing.assert_allclose(cut.samples, samples[begin - lead : end + tail], atol=1e-4)
        assert at == frames
        for before, after in pairwise(cuts):
            assert bool(before.tail_s) <= bool(after.lead_s)
        if (
            policy.left_context_s or policy.quiet_cut
        ):  # else a full window is out before it is known that nothing follows
            assert not (cuts and cuts[-1].goes_on)


@settings(max_examples=100, deadline=None)
@given(AUDIO, FORMATS, CUTTINGS.filter(lambda policy: policy.endpoint_s), SIZES)
def test_a_window_that_closes_is_cut_as_predicted(audio, fmt, policy, sizes):
    payload = audio.payload(fmt, apart=policy.split_channels)
    run = (ReplayableRun if policy.replayable else ContiguousRun)(fmt, policy, EAR)
    predicted: dict[int, Cut] = {}

    for piece in sliced(payload, fmt, sizes):
        for channel, cut in run.push(piece, eager=True):
            expected = predicted.pop(channel, None)
            if expected and not spoke_again(expected, cut, policy):
                assert described(expected) == described(cut)
        for channel, cutter in enumerate(run.cutters):
            if cutter.closing:
                predicted[channel] = cutter.closing_cut()


def spoke_again(expected, cut, policy):
    """Whether the window has speech behind the place where it was to end, or in the silence that the next one was to have.

    Or it did not end because speech did: what resumed it, in the last moments of the silence, may lie behind its end.
    """
    if not cut.speech_final:
        return True
    heard = [] if cut.speech is None or expected.speech is None else cut.speech[len(expected.speech) :]
    return cut.frames != expected.frames and (
        cut.frames < expected.frames or max(heard, default=0) >= policy.speech_threshold
    )


def described(cut):
    """All but where it is, which only its run knows."""
    heard = cut.samples.tobytes(), None if cut.speech is None else cut.speech.tobytes()
    return heard, cut.lead_s, cut.tail_s, cut.goes_on, cut.speech_final, cut.silent, cut.next_lead


@settings(max_examples=100, deadline=None)
@given(
    AUDIO,
    FORMATS,
    CUTTINGS.filter(lambda policy: policy.speech_gate and not policy.replayable),
    SIZES,
    st.lists(st.booleans(), min_size=1, max_size=20),
)
def test_in_silence_nobody_speaks_and_speech_is_final_only_where_it_has_ended(audio, fmt, policy, sizes, eager):
    payload = audio.payload(fmt, apart=policy.split_channels)

    channels = cuts_of(payload, fmt, policy, EAR, sizes, eager)

    for cuts, samples in zip(channels, heard_at_once(payload, fmt, split=policy.split_channels), strict=True):
        speech = speech_at_once(samples, EAR)
        for cut, follows in zip(
            cuts, [False, *(cut.goes_on and policy.left_context_s > 0 for cut in cuts)], strict=False
        ):
            begin, end = (output_samples(place, fmt.rate) for place in (cut.start, cut.start + cut.frames))
            # Frames that lie in the window with all their samples.
            inside = speech[-(-begin // FRAME_SAMPLES) : end // FRAME_SAMPLES]
            assert not cut.silent or not has_speech(inside, policy.speech_threshold)
            assert not (cut.silent and cut.speech_final) or follows  # it may be the end of what a full one says
            if cut.speech_final:
                spoken = [*([-1] if follows else []), *np.flatnonzero(inside >= policy.speech_threshold)]
                assert spoken
                # Half of the silence may be the next window's.
                after = speech[-(-begin // FRAME_SAMPLES) + spoken[-1] + 1 :] >= policy.speech_threshold
                silence = int(np.argmax(after)) if after.any() else len(after)
                assert (silence + 2) * FRAME_SAMPLES >= policy.endpoint_s * TARGET_SAMPLE_RATE


@settings(max_examples=100, deadline=None)
@given(AUDIO, st.integers(1, 2), CUTTINGS, SIZES, SIZES, st.booleans())
def test_where_windows_are_cut_does_not_depend_on_the_slices(audio, channels, policy, sizes, other_sizes, eager):
    fmt = AudioFormat(rate=TARGET_SAMPLE_RATE, channels=channels)
    # Only of the last tenth of a second it depends on the slices whether a cut was thought of before the run ended; nothing
    # ends in speech.
    rest = sound(np.random.default_rng(0), "syllables", 2_081, fmt.rate)
    payload = audio.payload(fmt, apart=policy.split_channels) + encode(np.stack([rest] * channels, axis=1), fmt)

    one, other = (cuts_of(payload, fmt, policy, EAR, slices, (eager,)) for slices in (sizes, other_sizes))

    for cuts, others in zip(one, other, strict=True):
        assert [(cut.start, cut.frames) for cut in cuts] == [(cut.start, cut.frames) for cut in others]
