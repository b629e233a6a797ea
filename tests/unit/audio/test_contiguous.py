"""One run of audio, resampled and cut."""

import numpy as np
import pytest
import soxr
from hypothesis import given, settings, strategies as st

from transcriber.audio.codecs.pcm import decode
from transcriber.audio.contiguous import ContiguousRun
from transcriber.audio.format import AudioFormat, SampleFormat
from transcriber.audio.resampler import DrainableResampler, Resampler, output_samples
from transcriber.audio.window_policy import WindowPolicy

RATES = st.sampled_from([8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000])


class Plain:
    """A run cut into windows of so many frames, and no other way."""

    def __init__(self, fmt, window):
        self.run = ContiguousRun(fmt, WindowPolicy((window + 0.5) / fmt.rate), None)

    def push(self, payload):
        return [cut for _, cut in self.run.push(payload, eager=False)]

    def flush(self):
        return [cut for _, cut in self.run.flush()]


def noise(frames, seed=0):
    return (np.random.default_rng(seed).standard_normal(frames) * 3000).astype("<i2")


def pieces(payload, frame_bytes, sizes):
    """Cut ``payload`` into pieces of ``sizes`` frames, the last size again and again."""
    at = 0
    for size in sizes:
        yield payload[at : at + size * frame_bytes]
        at += size * frame_bytes
    while at < len(payload):
        yield payload[at : at + sizes[-1] * frame_bytes]
        at += sizes[-1] * frame_bytes


@settings(max_examples=60, deadline=None)
@given(
    RATES,
    st.lists(st.integers(1, 30_000), min_size=1, max_size=12),
    st.integers(0, 150_000),
    st.integers(4_000, 60_000),
)
def test_any_way_to_cut_the_payloads_gives_the_same_windows(rate, sizes, frames, window):
    fmt, payload = AudioFormat(rate=rate), noise(frames).tobytes()
    whole, parts = Plain(fmt, window), Plain(fmt, window)

    expected = [*whole.push(payload), *whole.flush()]
    found = [cut for piece in pieces(payload, 2, sizes) for cut in parts.push(piece)] + parts.flush()

    assert [cut.frames for cut in found] == [cut.frames for cut in expected]
    assert sum(cut.frames for cut in found) == frames
    assert all(cut.frames == window for cut in found[:-1])
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a.samples, b.samples, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(RATES, st.integers(1, 200_000), st.integers(100, 60_000))
def test_windows_have_the_samples_of_their_frames_and_nothing_is_lost(rate, frames, window):
    cutter = Plain(AudioFormat(rate=rate), window)

    cuts = cutter.push(noise(frames).tobytes()) + cutter.flush()

    ends = np.cumsum([cut.frames for cut in cuts])
    starts = [0, *ends[:-1]]
    for cut, start, end in zip(cuts, starts, ends, strict=True):
        assert len(cut.samples) == output_samples(int(end), rate) - output_samples(int(start), rate)
    assert cutter.run.open_frames == 0


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000, 192_000])
def test_pieces_resampled_equal_the_whole_resampled_at_once(rate):
    samples = noise(rate * 3 + 7).astype(np.float32) / 2**15
    resampler = Resampler(rate)

    parts = [resampler.push(np.ascontiguousarray(samples[at : at + 777])) for at in range(0, len(samples), 777)]
    found = np.concatenate([*parts, resampler.flush()])

    expected = soxr.resample(samples, rate, 16_000)
    assert len(found) == output_samples(len(samples), rate) == len(expected)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_tone_keeps_its_pitch_level_and_place():
    seconds = np.arange(48_000 * 2) / 48_000
    tone = (0.5 * np.sin(2 * np.pi * 440 * seconds)).astype("<f4")
    cutter = Plain(AudioFormat(SampleFormat.F32LE), 48_000)

    cuts = cutter.push(tone.tobytes()) + cutter.flush()

    found = np.concatenate([cut.samples for cut in cuts])
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(32_000) / 16_000)
    np.testing.assert_allclose(found[500:-500], expected[500:-500], atol=1e-3)


def test_sixteen_kilohertz_passes_untouched():
    samples = noise(20_000)
    cutter = Plain(AudioFormat(rate=16_000), 16_000)

    cuts = cutter.push(samples.tobytes()) + cutter.flush()

    np.testing.assert_array_equal(np.concatenate([cut.samples for cut in cuts]), samples / np.float32(2**15))


def test_a_window_completes_as_soon_as_the_resampler_can_emit_its_last_sample():
    cutter, payload = Plain(AudioFormat(), 48_000), noise(960).tobytes()

    completing = next(number for number in range(1, 100) if cutter.push(payload))

    # 50 payloads are the window; soxr holds back at most 38 ms, which is two more.
    assert 50 <= completing <= 52


def test_a_window_owns_its_samples():
    cutter = Plain(AudioFormat(rate=16_000), 16_000)
    payload = bytearray(noise(24_000).tobytes())

    (cut,) = cutter.push(bytes(payload))
    before = cut.samples.copy()
    cutter.push(bytes(16_000))
    cutter.flush()

    np.testing.assert_array_equal(cut.samples, before)
    assert cut.samples.flags.c_contiguous


@pytest.mark.parametrize("sample", [SampleFormat.MULAW, SampleFormat.ALAW])
def test_two_speakers_on_the_phone_are_transcribed_apart(sample):
    fmt = AudioFormat(sample, 8_000, 2)
    rng = np.random.default_rng(5)
    silent = int(np.abs(decode(bytes(range(256)), AudioFormat(sample))[0]).argmin())
    codes = rng.integers(0, 256, (8_000 * 3, 2), np.uint8)
    codes[12_000:, 1] = silent
    run = ContiguousRun(fmt, WindowPolicy(1.0, split_channels=True), None)

    found = [one for at in range(0, len(codes), 160) for one in run.push(codes[at : at + 160].tobytes(), eager=True)]
    found += run.flush()

    for channel in (0, 1):
        said = decode(codes[:, channel].tobytes(), AudioFormat(sample))[0]
        cuts = [cut for where, cut in found if where == channel]
        assert [cut.frames for cut in cuts] == [8_000] * 3
        heard = np.concatenate([cut.samples for cut in cuts])
        np.testing.assert_allclose(heard, soxr.resample(said, 8_000, 16_000), atol=1e-4)
    assert np.abs([cut.samples for where, cut in found if where][-1]).max() < 1e-3
    assert np.abs([cut.samples for where, cut in found if not where][-1]).max() > 0.5


@settings(max_examples=20, deadline=None)
@given(
    st.sampled_from([8_000, 12_345, 16_000, 44_100, 48_000]), st.lists(st.integers(1, 9_000), min_size=1, max_size=8)
)
def test_a_resampler_that_is_drained_has_all_samples_at_once(rate, sizes):
    samples = np.sin(np.arange(sum(sizes)) * (2 * np.pi * 440 / rate)).astype(np.float32)
    resampler, found, fed = DrainableResampler(rate), [], 0

    for size in sizes:
        found += [resampler.push(samples[fed : fed + size]), resampler.drain()]
        fed += size
        assert sum(map(len, found)) == output_samples(fed, rate)


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000])
def test_a_drained_resampler_continues_the_same_audio(rate):
    tone = np.sin(np.arange(2 * rate) * (2 * np.pi * 440 / rate)).astype(np.float32)
    resampler = DrainableResampler(rate)

    found = np.concatenate([resampler.push(tone[:rate]), resampler.drain(), resampler.flush(tone[rate:])])

    # The filter has nothing after the place where it is drained, so just before it the audio is not exact.
    error = np.abs(found - np.sin(np.arange(32_000) * (2 * np.pi * 440 / 16_000)))
    assert error[200:15_800].max() < 0.02
    assert error[16_000:31_800].max() < 0.02
