"""Recordings as Safari's recorder and internet radios send them, by FFmpeg, and decoded again."""

import io
import re
from fractions import Fraction

import av
import numpy as np

SAFARI = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "frag_duration": "250000"}
EDITED = {"movflags": "frag_keyframe+delay_moov+default_base_moof", "frag_duration": "250000"}
"""With an edit list, which says how much of the beginning is priming."""


def encode(pcm, codec, container="mp4", *, rate=48_000, channels=1, bit_rate=64_000, **options):
    """Samples (S16LE, 48 kHz, mono) as the bytes of a file."""
    samples = np.frombuffer(pcm, "<i2")
    layout = "mono" if channels == 1 else "stereo"
    file = io.BytesIO()
    with av.open(file, "w", format=container, options=options) as output:
        stream = output.add_stream(codec, rate=rate)
        stream.layout = layout
        if not codec.startswith("pcm"):
            stream.bit_rate = bit_rate
        resampler = av.AudioResampler(format=stream.codec_context.format.name, layout=layout, rate=rate)
        for start in range(0, len(samples), 4_800):
            frame = av.AudioFrame.from_ndarray(samples[np.newaxis, start : start + 4_800], format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 48_000, start, Fraction(1, 48_000)
            for part in resampler.resample(frame):
                for packet in stream.encode(part):
                    output.mux(packet)
        for packet in stream.encode(None):
            output.mux(packet)
    return file.getvalue()


def as_he_aac(file):
    """MP4 of AAC-LC at 24 kHz, announced as HE-AAC: FFmpeg has no encoder. Its packets hold nothing of the upper band, so that a
    decoder only doubles the rate; of one channel it makes two, as the packets to come may tell them apart."""
    plain, *more = re.findall(rb"\x13[\x08\x10]\x56\xe5\x00", file)
    assert not more
    return file.replace(plain, plain[:-1] + b"\x98")


def decode(file):
    """All samples of a file, as FFmpeg reads it: (frames, channels) in int16; of MP3, with what LAME added."""
    parts = []
    with av.open(io.BytesIO(file), "r") as container:
        stream = container.streams.audio[0]
        if stream.codec_context.name.startswith("mp3"):
            stream.codec_context.options = {"flags2": "skip_manual"}
        for frame in container.decode(stream):
            data = frame.to_ndarray()
            data = data.T if frame.format.is_planar else data.reshape(-1, frame.layout.nb_channels)
            if data.dtype != np.int16:
                data = np.clip(np.rint(data * 2**15), -(2**15), 2**15 - 1).astype(np.int16)
            parts.append(data)
    return np.concatenate(parts)
