"""Hypothesis strategies: audio, formats, settings of the cutter, sizes of payloads."""

from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st

from transcriber.audio.codecs.pcm import decode
from transcriber.audio.format import AudioFormat, SampleFormat
from transcriber.audio.window_policy import WindowPolicy

CUTTINGS = st.builds(
    WindowPolicy,
    window_s=st.floats(0.5, 7) | st.sampled_from([0.5, 1.0, 5.0]),
    quiet_cut=st.booleans(),
    endpoint_s=st.just(0.0) | st.floats(0.1, 2),
    speech_gate=st.booleans(),
    split_channels=st.booleans(),
    replayable=st.booleans(),
    left_context_s=st.just(0.0) | st.floats(1, 10),
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
        """All of it in this format; if the channels are not split (``apart``), no block of them is the negative of another."""
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


def mutate(data, draws):
    """Damage a ``bytearray`` in up to 20 places, as ``draws``, of ``st.data()``, has it."""
    for _ in range(draws.draw(st.integers(1, 20))):
        at = draws.draw(st.integers(0, len(data) - 1))
        match draws.draw(st.sampled_from(["set", "cut", "insert", "copy"])):
            case "set":
                data[at] = draws.draw(st.integers(0, 255))
            case "cut":
                del data[at : at + draws.draw(st.integers(1, 50))]
            case "insert":
                data[at:at] = draws.draw(st.binary(max_size=50))
            case "copy":
                data[at:at] = data[draws.draw(st.integers(0, len(data))) :][:300]
