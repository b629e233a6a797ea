"""How long a file is, and where in time its sound lies: what is there counts, not what a header claims."""

import io
import struct
from fractions import Fraction

import av
import numpy as np
import pytest
from av.stream import Disposition

from bench.lib.media_files import KINDS, encode
from tests.support.media_files import SPEECH, make, pcm, speech_at
from transcriber.audio.media.open import open_media

SPEECH_S = len(SPEECH) / 48_000


def film(container, codec, sound_at, picture_at=0.0, **options):
    """Speech that begins at ``sound_at`` seconds, and a picture, if any, at ``picture_at``, each with its own time stamps."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container, options=options) as out:
        picture = out.add_stream("mpeg4", rate=25) if picture_at is not None else None
        voice = out.add_stream(codec, rate=48_000, layout="mono")
        packets = []
        if picture is not None:
            picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
            images = [
                av.VideoFrame(64, 48, "yuv420p") for _ in range(int(25 * (SPEECH_S + abs(sound_at - picture_at))))
            ]
            packets += moved([packet for image in [*images, None] for packet in picture.encode(image)], picture_at)
        voice.codec_context.open()
        resampler = av.AudioResampler(
            format=voice.codec_context.format, layout="mono", rate=48_000, frame_size=voice.codec_context.frame_size
        )
        frame = av.AudioFrame.from_ndarray(SPEECH.reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate, frame.pts = 48_000, 0
        parts = [*resampler.resample(frame), *resampler.resample(None), None]
        packets += moved([packet for part in parts for packet in voice.encode(part)], sound_at)
        for packet in sorted(packets, key=lambda packet: float((packet.dts or 0) * packet.time_base)):
            out.mux(packet)
    return buffer.getvalue()


def moved(packets, by_s):
    """The packets, so many seconds later."""
    for packet in packets:
        if packet.pts is not None:
            ticks = round(Fraction(by_s).limit_denominator(1000) / packet.time_base)
            packet.pts, packet.dts = packet.pts + ticks, packet.dts + ticks
    return packets


FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}


@pytest.mark.parametrize(
    ("container", "codec", "options"),
    [
        ("matroska", "aac", {}), ("matroska", "libopus", {}), ("webm", "libopus", {}), ("ipod", "aac", {}), ("mp4", "aac", FRAGMENTED),
        ("ogg", "libopus", {}), ("ogg", "flac", {}), ("mov", "pcm_s16le", {}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("sound_at", [1000.0, 0.3, 3700.0])
def test_a_recording_cut_from_a_longer_one_is_as_long_as_it_is(container, codec, options, sound_at):
    media = open_media(film(container, codec, sound_at, None, **options))

    heard = pcm(media)

    assert len(heard) / 48_000 == pytest.approx(SPEECH_S, abs=0.06)
    assert media.frames is None or media.frames / 48_000 == pytest.approx(SPEECH_S, abs=0.1)


@pytest.mark.parametrize(("container", "options"), [("matroska", {}), ("mp4", {}), ("mov", {}), ("mp4", FRAGMENTED)])
@pytest.mark.parametrize(
    ("sound_at", "picture_at"), [(4.9, 0.0), (0.3, 0.0), (1004.9, 1000.0), (0.0, 1.5), (1000.0, 1002.0)]
)
def test_sound_that_begins_after_the_picture_is_where_it_is_in_the_film_and_nothing_is_missing(
    container, options, sound_at, picture_at
):
    media = open_media(film(container, "aac", sound_at, picture_at, **options))
    starts_s = max(0.0, sound_at - picture_at)

    heard = pcm(media)  # without a hole

    assert len(heard) / 48_000 == pytest.approx(starts_s + SPEECH_S, abs=0.1)
    # Matroska states the length of the film, and each fragment only its own.
    assert (media.frames is None) == (options is FRAGMENTED)
    if media.frames is not None:
        assert media.frames / 48_000 >= starts_s + SPEECH_S - 0.1
        assert media.frames / 48_000 <= abs(sound_at - picture_at) * 2 + SPEECH_S + 0.1
    quiet = heard[: int(max(0, starts_s - 0.1) * 48_000)]
    assert np.abs(quiet).max(initial=0) < 1e-3
    spoken = heard[int(starts_s * 48_000) :][:90_000, 0]
    shift = np.argmax(np.fft.irfft(np.fft.rfft(spoken, 2**18) * np.conj(np.fft.rfft(SPEECH[:90_000, 0], 2**18))))
    assert min(shift, 2**18 - shift) / 48_000 < 0.1


def test_a_cover_picture_begins_no_film():
    """It stands at 0, wherever the sound begins."""
    data = film("mp4", "aac", 1000.0, None)
    buffer = io.BytesIO()
    with av.open(io.BytesIO(data), "r") as source, av.open(buffer, "w", format="mp4") as out:
        voice = out.add_stream_from_template(source.streams.audio[0])
        cover = out.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 16, 16, "yuvj420p"
        cover.disposition = Disposition.attached_pic
        out.mux(cover.encode(av.VideoFrame(16, 16, "yuvj420p")))
        for packet in source.demux(source.streams.audio[0]):
            if packet.size:
                packet.stream = voice
                out.mux(packet)

    assert len(pcm(open_media(buffer.getvalue()))) / 48_000 == pytest.approx(SPEECH_S, abs=0.06)


def wav(size: int, channels: int = 3) -> bytes:
    """As FFmpeg is to read it: with more channels than we read ourselves."""
    samples = speech_at(16_000).repeat(channels, axis=1).tobytes()
    fmt = struct.pack("<HHIIHH", 1, channels, 16_000, 32_000 * channels, 2 * channels, 16)
    head = b"WAVEfmt " + struct.pack("<I", 16) + fmt + b"data" + struct.pack("<I", size & 0xFFFF_FFFF)
    return b"RIFF" + struct.pack("<I", (size + 36) & 0xFFFF_FFFF) + head + samples


def rf64(size: int) -> bytes:
    data = wav(-1)
    sizes = struct.pack("<QQQI", (size + 100) % 2**64, size % 2**64, 0, 0)
    return b"RF64" + b"\xff" * 4 + b"WAVEds64" + struct.pack("<I", 28) + sizes + data[12:]


def sized(kind: str, name: bytes, form: str, size: int, skip: int = 0) -> bytes:
    """A file whose size behind ``name`` is another one."""
    data = bytearray(encode(KINDS[kind], speech_at(16_000), 16_000))
    at = data.index(name) + len(name) + skip
    width = struct.calcsize(form)
    data[at : at + width] = struct.pack(form, size & ((1 << 8 * width) - 1))
    return bytes(data)


def aiff(size: int) -> bytes:
    data = bytearray(sized("aiff", b"SSND", ">I", size))
    at = data.index(b"COMM") + 10
    data[at : at + 4] = struct.pack(">I", (size & 0xFFFF_FFFF) // 2)
    data[4:8] = struct.pack(">I", (size + 46) & 0xFFFF_FFFF)
    return bytes(data)


MAKERS = {
    "wav": wav,
    "rf64": rf64,
    "aiff": aiff,
    "au": lambda size: sized("au", b".snd", ">I", size, 4),
    "caf": lambda size: sized("caf", b"data", ">Q", size),
}
SIZES = [0, 32_000, 32_001, 10**9, 2_000_000_000, 2**30, 2**31 - 1, 2**31 - 2, -1]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", MAKERS)
def test_sizes_that_nobody_filled_in_or_too_early_change_nothing(name, size):
    media = open_media(MAKERS[name](size))

    heard = pcm(media)

    assert len(heard) / 16_000 == pytest.approx(SPEECH_S, abs=0.01)
    # Of a size that is too small only WAV and AIFF tell that it is.
    assert media.frames is None or media.frames / 16_000 == pytest.approx(SPEECH_S, abs=0.01) or name in {"au", "caf"}
    assert media.frames is None or media.frames / 16_000 < SPEECH_S + 0.01


@pytest.mark.parametrize(
    "name", ["wav s16", "wav adpcm", "aiff", "caf", "au", "flac", "m4a", "mp3 cbr", "webm opus", "ogg opus"]
)
def test_whatever_a_header_claims_the_length_is_no_more_than_there_can_be(name):
    """Requests are refused by this length."""
    media = open_media(make(name))

    assert media.frames is None or media.frames / media.format.rate == pytest.approx(SPEECH_S, abs=0.1)
