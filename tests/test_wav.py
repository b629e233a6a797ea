import io
import struct
import tracemalloc

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings, strategies as st

from transcriber.audio.pcm import AudioFormat, SampleFormat
from transcriber.audio.wav import WavParser
from transcriber.errors import BadInputError


def chunk(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def fmt(tag=1, channels=1, rate=48_000, bits=16, frame_bytes=None) -> bytes:
    frame_bytes = channels * bits // 8 if frame_bytes is None else frame_bytes
    return chunk(b"fmt ", struct.pack("<HHIIHH", tag, channels, rate, rate * frame_bytes, frame_bytes, bits))


def riff(*chunks: bytes, size: int | None = None) -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body) if size is None else size) + body


def parse(data: bytes, cuts: list[int] | None = None) -> tuple[WavParser, bytes]:
    parser, pcm, start = WavParser(), b"", 0
    for end in [*sorted(cuts or []), len(data)]:
        pcm += parser.feed(data[start:end])
        start = max(start, end)
    if parser.format is None:
        raise BadInputError("ends before its audio")
    return parser, pcm


@st.composite
def wav_files(draw: st.DrawFn) -> tuple[bytes, AudioFormat, bytes]:
    """A file as libsndfile writes it, and what is in it."""
    subtype, sample = draw(
        st.sampled_from(
            [
                ("PCM_U8", SampleFormat.U8),
                ("PCM_16", SampleFormat.S16LE),
                ("PCM_24", SampleFormat.S24LE),
                ("PCM_32", SampleFormat.S32LE),
                ("FLOAT", SampleFormat.F32LE),
                ("ULAW", SampleFormat.MULAW),
                ("ALAW", SampleFormat.ALAW),
            ]
        )
    )
    fmt = AudioFormat(sample, draw(st.sampled_from([8_000, 44_100, 48_000, 192_000])), draw(st.sampled_from([1, 2])))
    frames = draw(st.integers(0, 300))
    values = np.random.default_rng(draw(st.integers(0, 99))).integers(-(2**31), 2**31, (frames, fmt.channels), np.int32)
    if subtype == "PCM_24":
        values &= ~0xFF
    file = io.BytesIO()
    container = draw(st.sampled_from(["WAV", "WAVEX"]))
    soundfile.write(file, values, fmt.rate, subtype=subtype, format=container)
    raw = io.BytesIO()
    # libsndfile's own headerless output is the reference.
    soundfile.write(raw, values, fmt.rate, subtype=subtype, format="RAW")
    return file.getvalue(), fmt, raw.getvalue()


@given(file=wav_files(), cuts=st.lists(st.integers(0, 3000), max_size=30))
def test_any_wav_gives_its_samples_however_it_is_cut(file, cuts) -> None:
    data, fmt, pcm = file

    parser, found = parse(data, cuts)

    assert found == pcm
    assert parser.format == fmt
    assert (parser.frames or 0) == len(pcm) // fmt.frame_bytes


@given(file=wav_files(), length=st.integers(0, 3000))
def test_a_truncated_wav_gives_the_whole_frames_it_has(file, length) -> None:
    data, fmt, pcm = file
    parser = WavParser()

    found = parser.feed(data[:length])

    assert pcm.startswith(found)
    assert len(found) % fmt.frame_bytes == 0
    assert len(pcm) - len(found) <= max(0, len(data) - length) * 2 + fmt.frame_bytes


@given(data=st.binary(max_size=200), cuts=st.lists(st.integers(0, 200), max_size=5))
def test_arbitrary_bytes_are_refused(data, cuts) -> None:
    with pytest.raises(BadInputError):
        parse(data, cuts)


@settings(max_examples=300)
@given(data=st.data())
def test_a_damaged_header_gives_frames_or_is_refused(data) -> None:
    good = bytearray(riff(chunk(b"LIST", b"odd"), fmt(channels=2), chunk(b"data", bytes(range(64)))))
    for place in data.draw(st.lists(st.integers(0, len(good) - 1), min_size=1, max_size=4)):
        good[place] = data.draw(st.integers(0, 255))

    try:
        parser, pcm = parse(bytes(good), data.draw(st.lists(st.integers(0, len(good)), max_size=4)))
    except BadInputError:
        return

    assert parser.format is not None
    assert len(pcm) % parser.format.frame_bytes == 0


@pytest.mark.parametrize(
    ("riff_size", "data_size"),
    [(36, 0), (0, 0), (0xFFFFFFFF, 0), (0xFFFFFFFF, 0xFFFFFFFF), (0x7FFFF024, 0x7FFFF000), (0, 0xFFFFFFFF)],
)
def test_a_piped_wav_of_unknown_size_is_read_to_its_end(riff_size, data_size) -> None:
    pcm = bytes(range(100))

    parser, found = parse(riff(fmt(), b"data" + struct.pack("<I", data_size) + pcm, size=riff_size))

    assert found == pcm
    assert parser.frames is None


def test_an_empty_wav_with_a_chunk_behind_its_audio_is_empty() -> None:
    parser, found = parse(riff(fmt(), chunk(b"data", b""), chunk(b"LIST", b"title")))

    assert found == b""
    assert parser.frames == 0


def test_chunks_around_the_audio_are_left_out() -> None:
    pcm = b"\1\2\3\4"

    _, found = parse(
        riff(chunk(b"JUNK", b"odd"), fmt(), chunk(b"fact", b"1234"), chunk(b"data", pcm), chunk(b"LIST", b"x"))
    )

    assert found == pcm


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"ID3\x04", "not a WAV"),
        (b"RIFX" + bytes(8), "not a WAV"),
        (b"RIFF\0\0\0\0AVI ", "not a WAV"),
        (riff(chunk(b"data", b"1234")), "before its format"),
        (riff(chunk(b"fmt ", bytes(14))), "only 14 bytes"),
        (riff(b"fmt " + struct.pack("<I", 2**31)), "claims 2147483648 bytes"),
        (riff(fmt(tag=0x11, bits=4)), "0x11 with 4 bits"),
        (riff(fmt(bits=64, tag=3)), "0x3 with 64 bits"),
        (riff(fmt(channels=0)), "0 channels"),
        (riff(fmt(channels=6)), "6 channels"),
        (riff(fmt(rate=4_000)), "4000 Hz"),
        (riff(fmt(rate=384_000)), "384000 Hz"),
        (riff(fmt(frame_bytes=0)), "0 bytes a frame"),
        (riff(chunk(b"fmt ", struct.pack("<HHIIHH", 0xFFFE, 1, 48_000, 96_000, 2, 16) + bytes(24))), "0xfffe"),
    ],
)
def test_what_is_not_read_is_refused_with_its_reason(data, message) -> None:
    with pytest.raises(BadInputError, match=message):
        parse(data)


@pytest.mark.parametrize("data", [b"", b"RIFF", riff(), riff(fmt()), riff(fmt(), b"data\0\0\0")])
def test_the_format_is_unknown_until_the_audio_begins(data) -> None:
    parser = WavParser()

    pcm = parser.feed(data)

    assert pcm == b""
    assert parser.format is None


def test_a_chunk_that_claims_gigabytes_takes_no_memory() -> None:
    parser = WavParser()
    parser.feed(b"RIFF\0\0\0\0WAVELIST\xff\xff\xff\xff")
    piece = bytes(65_536)
    tracemalloc.start()

    for _ in range(200):
        parser.feed(piece)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 10 * len(piece)
