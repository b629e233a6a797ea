"""Whatever is heard, however it is cut: no sample is lost or doubled, no window too long, and slices do not matter."""

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from tests.hearing import Ear
from transcriber.audio.contiguous import ContiguousRun, ReplayableRun
from transcriber.audio.format import AudioFormat, SampleFormat
from transcriber.audio.pcm import decode
from transcriber.audio.resampler import TARGET_SAMPLE_RATE, Resampler, output_samples
from transcriber.audio.vad.detector import FRAME_SAMPLES, SpeechDetector, has_speech
from transcriber.audio.vad.silero import Silero
from transcriber.audio.window import Cut, Cutting

SILERO = Silero()
EAR = Ear()
NETWORKS = st.sampled_from([EAR, EAR, EAR, SILERO])

CUTTINGS = st.builds(
    Cutting,
    window_s=st.floats(0.5, 7) | st.sampled_from([0.5, 1.0, 5.0]),
    quiet=st.booleans(),
    endpoint_s=st.just(0.0) | st.floats(0.1, 2),
    gate=st.booleans(),
    apart=st.booleans(),
    afresh=st.booleans(),
    left_s=st.just(0.0) | st.floats(1, 10),
)
FORMATS = st.builds(
    AudioFormat,
    st.sampled_from(SampleFormat),
    st.sampled_from([8_000, 11_025, 16_000, 22_050, 44_100, 48_000]),
    st.integers(1, 2),
)
STRETCHES = st.lists(
    st.tuples(
        st.sampled_from(["silence", "silence", "syllables", "syllables", "noise", "hiss", "tone"]), st.floats(0.01, 3)
    ),
    max_size=10,
)
SIZES = st.lists(st.integers(1, 2_000) | st.integers(1, 60_000), max_size=12).map(lambda sizes: [*sizes, 9_000])
"""Frames of the payloads, again and again; some are long, for nothing is found by a million short ones."""


class Audio(NamedTuple):
    """``channels`` stretches each, one after the other; ``seed`` is that of the noise."""

    channels: tuple[list[tuple[str, float]], list[tuple[str, float]]]
    seed: int

    def payload(self, fmt, *, apart=True):
        """All of it in this format; if the channels are not heard ``apart``, no block of them is the negative of another."""
        rng = np.random.default_rng(self.seed)
        channels = [
            np.concatenate([np.zeros(0), *(sound(rng, kind, round(s * fmt.rate), fmt.rate) for kind, s in stretches)])
            for stretches in self.channels[: fmt.channels]
        ]
        frames = max(map(len, channels))
        samples = np.stack([np.pad(one, (0, frames - len(one))) for one in channels], axis=1)
        if not apart:
            samples[:, 1:] = np.copysign(samples[:, 1:], samples[:, :1])
        return encode(samples, fmt)


AUDIO = st.builds(Audio, st.tuples(STRETCHES, STRETCHES), st.integers(0, 2**32 - 1))


def sound(rng, kind, frames, rate):
    match kind:
        case "silence":
            return np.zeros(frames)
        case "noise":
            return rng.uniform(-0.6, 0.6, frames)
        case "hiss":
            return rng.uniform(-0.01, 0.01, frames)
        case "tone":
            return 0.5 * np.sin(np.arange(frames) * (2 * np.pi * 440 / rate))
        case _:
            return rng.uniform(-1, 1, frames) * np.where(np.arange(frames) // (rate // 8) % 2, 0.3, 0.9)


def encode(samples, fmt):
    """The nearest values that ``fmt`` has."""
    flat = np.clip(samples.reshape(-1), -1, 1 - 2**-15)
    match fmt.sample:
        case SampleFormat.S16LE:
            return (flat * 2**15).astype("<i2").tobytes()
        case SampleFormat.S24LE:
            return (flat * 2**31).astype("<i4").view("u1").reshape(-1, 4)[:, 1:].tobytes()
        case SampleFormat.S32LE:
            return (flat * 2**31).astype("<i4").tobytes()
        case SampleFormat.F32LE:
            return flat.astype("<f4").tobytes()
    values = decode(bytes(range(256)), AudioFormat(fmt.sample))[0]
    order = np.argsort(values, kind="stable")
    middles = (values[order][1:] + values[order][:-1]) / 2
    return order[np.searchsorted(middles, flat)].astype(np.uint8).tobytes()


def sliced(payload, fmt, sizes):
    at, number = 0, 0
    while at < len(payload):
        size = sizes[number % len(sizes)] * fmt.frame_bytes
        yield payload[at : at + size]
        at, number = at + size, number + 1


def cuts_of(payload, fmt, cutting, network, sizes, eager=(True,)):
    """Of each channel that is heard."""
    run = (ReplayableRun if cutting.afresh else ContiguousRun)(fmt, cutting, network)
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
def test_no_sample_is_lost_or_doubled_and_no_window_is_too_long(audio, fmt, cutting, network, sizes, eager):
    payload = audio.payload(fmt, apart=cutting.apart)
    frames = len(payload) // fmt.frame_bytes

    channels = cuts_of(payload, fmt, cutting, network, sizes, eager)

    heard = heard_at_once(payload, fmt, split=cutting.apart)
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
            assert len(cut.samples) <= math.ceil((cutting.left_s + cutting.window_s) * TARGET_SAMPLE_RATE) + 1
            if cutting.left_s:
                assert lead == pytest.approx(min(begin, cutting.left_s * TARGET_SAMPLE_RATE), abs=2)
            assert cut.empty == (begin == end)
            np.testing.assert_allclose(cut.samples, samples[begin - lead : end + tail], atol=1e-4)
        assert at == frames
        for before, after in pairwise(cuts):
            assert bool(before.tail_s) <= bool(after.lead_s)
        assert not (cuts and cuts[-1].goes_on)


@settings(max_examples=100, deadline=None)
@given(AUDIO, FORMATS, CUTTINGS.filter(lambda cutting: cutting.endpoint_s), SIZES)
def test_a_window_that_closes_is_cut_as_was_foretold(audio, fmt, cutting, sizes):
    payload = audio.payload(fmt, apart=cutting.apart)
    run = (ReplayableRun if cutting.afresh else ContiguousRun)(fmt, cutting, EAR)
    foretold: dict[int, Cut] = {}

    for piece in sliced(payload, fmt, sizes):
        for channel, cut in run.push(piece, eager=True):
            told = foretold.pop(channel, None)
            if told and not spoke_again(told, cut, cutting):
                assert described(told) == described(cut)
        for channel, cutter in enumerate(run.cutters):
            if cutter.closing:
                foretold[channel] = cutter.closing_cut()


def spoke_again(told, cut, cutting):
    """Whether the window has speech behind the place where it was to end, or in the silence that the next one was to have."""
    heard = [] if cut.speech is None or told.speech is None else cut.speech[len(told.speech) :]
    return cut.frames != told.frames and (cut.frames < told.frames or max(heard, default=0) >= cutting.threshold)


def described(cut):
    """All but where it is, which only its run knows."""
    heard = cut.samples.tobytes(), None if cut.speech is None else cut.speech.tobytes()
    return heard, cut.lead_s, cut.tail_s, cut.goes_on, cut.speech_final, cut.silent, cut.next_lead


@settings(max_examples=100, deadline=None)
@given(
    AUDIO,
    FORMATS,
    CUTTINGS.filter(lambda cutting: cutting.gate and not cutting.afresh),
    SIZES,
    st.lists(st.booleans(), min_size=1, max_size=20),
)
def test_in_silence_nobody_speaks_and_speech_is_final_only_where_it_has_ended(audio, fmt, cutting, sizes, eager):
    payload = audio.payload(fmt, apart=cutting.apart)

    channels = cuts_of(payload, fmt, cutting, EAR, sizes, eager)

    for cuts, samples in zip(channels, heard_at_once(payload, fmt, split=cutting.apart), strict=True):
        speech = speech_at_once(samples, EAR)
        for cut, follows in zip(cuts, [False, *(cut.goes_on and cutting.left_s > 0 for cut in cuts)], strict=False):
            begin, end = (output_samples(place, fmt.rate) for place in (cut.start, cut.start + cut.frames))
            # Frames that lie in the window with all their samples.
            inside = speech[-(-begin // FRAME_SAMPLES) : end // FRAME_SAMPLES]
            assert not cut.silent or not has_speech(inside, cutting.threshold)
            assert not (cut.silent and cut.speech_final) or follows  # it may be the end of what a full one says
            if cut.speech_final:
                spoken = [*([-1] if follows else []), *np.flatnonzero(inside >= cutting.threshold)]
                assert spoken
                # Half of the silence may be the next window's.
                after = speech[-(-begin // FRAME_SAMPLES) + spoken[-1] + 1 :] >= cutting.threshold
                silence = int(np.argmax(after)) if after.any() else len(after)
                assert (silence + 2) * FRAME_SAMPLES >= cutting.endpoint_s * TARGET_SAMPLE_RATE


@settings(max_examples=100, deadline=None)
@given(AUDIO, st.integers(1, 2), CUTTINGS, SIZES, SIZES, st.booleans())
def test_where_windows_are_cut_does_not_depend_on_the_slices(audio, channels, cutting, sizes, other_sizes, eager):
    fmt = AudioFormat(rate=TARGET_SAMPLE_RATE, channels=channels)
    # Only of the last tenth of a second it depends on the slices whether a cut was thought of before the run ended; nothing
    # ends in speech.
    rest = sound(np.random.default_rng(0), "syllables", 2_081, fmt.rate)
    payload = audio.payload(fmt, apart=cutting.apart) + encode(np.stack([rest] * channels, axis=1), fmt)

    one, other = (cuts_of(payload, fmt, cutting, EAR, slices, (eager,)) for slices in (sizes, other_sizes))

    for cuts, others in zip(one, other, strict=True):
        assert [(cut.start, cut.frames) for cut in cuts] == [(cut.start, cut.frames) for cut in others]
