import io
import struct
import tracemalloc

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings, strategies as st

from transcriber.audio.codecs.wav import WavFiles, WavParser
from transcriber.audio.format import AudioFormat, SampleFormat
from transcriber.errors import BadInputError


def chunk(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def fmt(tag=1, channels=1, rate=48_000, bits=16, frame_bytes=None) -> bytes:
    frame_bytes = channels * bits // 8 if frame_bytes is None else frame_bytes
    return chunk(b"fmt ", struct.pack("<HHIIHH", tag, channels, rate, rate * frame_bytes, frame_bytes, bits))


def riff(*chunks: bytes, size: int | None = None) -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body) if size is None else size) + body


def parse(data: bytes, cuts: list[int] | None = None, size: int | None = None) -> tuple[WavParser, bytes]:
    parser, pcm, start = WavParser(size), b"", 0
    for end in [*sorted(cuts or []), len(data)]:
        pcm += parser.feed(data[start:end])
        start = max(start, end)
    pcm += parser.finish()
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

    found = parser.feed(data[:length]) + parser.finish()

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


SOUND = np.random.default_rng(1).integers(-9_000, 9_000, 20_000, np.int16).tobytes()
CUTS = st.lists(st.integers(0, 45_000), max_size=20)


def data_chunk(pcm: bytes, size: int) -> bytes:
    return b"data" + struct.pack("<I", size & 0xFFFF_FFFF) + pcm


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("size", [0, 2, 1000, 31_999, 2_000, 2**32 - 1, 2_000_000_000, 10**9, 2**30, 80_000])
@given(cuts=CUTS)
def test_audio_is_as_long_as_it_is_whatever_its_size_claims(channels, size, cuts) -> None:
    data = riff(fmt(channels=channels), data_chunk(SOUND, size), size=(size + 36) % 2**32)

    for file_bytes in (None, len(data)):
        parser, found = parse(data, cuts, file_bytes)
        # What is behind 80 000 bytes of which nobody knows that they never came is no audio.
        assert found == SOUND
        if file_bytes:
            assert parser.frames in {None, len(SOUND) // 2 // channels}
            assert parser.claimed == (40_000 // channels if size == 80_000 else 0)


def test_a_size_that_wrapped_at_four_gigabytes_is_read_on() -> None:
    """Its audio was 4 GiB longer than the header says; frames of six bytes do not begin where it says so."""
    pcm = SOUND[: 30_000 - 30_000 % 6]

    _, found = parse(riff(fmt(channels=2, bits=24), data_chunk(pcm, 2_000)))

    assert found == pcm


@pytest.mark.parametrize("magic", [b"RF64", b"BW64"])
@pytest.mark.parametrize("size", [len(SOUND), 0, 2**64 - 1, 2_000_000_000, 1000])
def test_the_long_forms_are_read_whatever_their_sizes(magic, size) -> None:
    long = chunk(b"ds64", struct.pack("<QQQI", (size + 100) % 2**64, size, 0, 0))
    data = magic + b"\xff\xff\xff\xffWAVE" + long + fmt() + data_chunk(SOUND, 2**32 - 1)

    for file_bytes in (None, len(data)):
        _, found = parse(data, [], file_bytes)
        assert found == SOUND


@pytest.mark.parametrize(
    "trailer",
    [
        chunk(b"LIST", b"INFOISFT" + b"x" * 2001),
        chunk(b"bext", b"x" * 5000) + chunk(b"iXML", b"<BWFXML/>" * 300),
        chunk(b"Mine", b"x" * 3000),
        b"TAG" + b"x" * 125,
        b"\r\n--boundary--\r\n",
    ],
    ids=["LIST", "bext and iXML", "a chunk of somebody", "ID3v1", "the end of a form"],
)
@given(cuts=CUTS)
def test_what_stands_behind_the_audio_is_not_transcribed(trailer, cuts) -> None:
    data = riff(fmt(), chunk(b"data", SOUND)) + trailer

    for file_bytes in (None, len(data)):
        assert parse(data, cuts, file_bytes)[1] == SOUND


def test_several_chunks_of_audio_follow_each_other() -> None:
    data = riff(fmt(), chunk(b"data", SOUND), chunk(b"LIST", b"abc"), chunk(b"data", SOUND[::-1]))

    assert parse(data)[1] == SOUND + SOUND[::-1]


@pytest.mark.parametrize("size", [len(SOUND), 2**32 - 1, 0, 1000])
@given(cuts=CUTS)
def test_files_of_one_format_follow_each_other(size, cuts) -> None:
    one = riff(fmt(), data_chunk(SOUND, size))
    parser, pcm, start = WavFiles(), b"", 0

    for end in [*sorted(cuts), 2 * len(one)]:
        pcm += parser.feed((one + one)[start:end])
        start = max(start, end)

    assert pcm + parser.finish() == 2 * SOUND


def test_a_file_of_another_format_behind_one_is_reported() -> None:
    parser = WavFiles()

    pcm = parser.feed(riff(fmt(), chunk(b"data", SOUND)) + riff(fmt(rate=8_000), chunk(b"data", SOUND)))

    assert pcm == SOUND
    with pytest.raises(BadInputError, match=r"another WAV file behind it has another format: .*rate=8000"):
        parser.finish()
