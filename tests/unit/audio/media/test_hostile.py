import gc
import io
import os
import random
import resource
import struct
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from bench.fuzz_media import decode_all, mutate, originals
from bench.lib.media_files import KINDS, encode
from tests.support.media_files import SPEECH, Claim, Trickle, make, pcm, without_packets
from tests.support.webm_ogg import blocks, cluster, element, opus_head, track, webm_head
from transcriber.audio.media.open import open_media
from transcriber.audio.media.pieces import Piece, join
from transcriber.audio.media.sources import MAX_SILENT_BYTES
from transcriber.audio.media.timeline import Timeline
from transcriber.errors import EncryptedError, MediaError, NoAudioError, TruncatedError, UnseekableError

PLAYLIST = b"#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile://%s\n#EXT-X-ENDLIST\n"
CONCAT = b"ffconcat version 1.0\nfile %s\nduration 10\n"
DASH = b"<?xml version='1.0'?><MPD type='static'><Period><BaseURL>file://%s</BaseURL></Period></MPD>"
SDP = b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\na=%s\n"


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def film(container: str, *, sound: bool) -> bytes:
    """Two seconds of moving grey, with speech or without."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as out:
        picture = out.add_stream("mpeg4", rate=25)
        picture.width = picture.height = 64
        picture.pix_fmt = "yuv420p"
        voice = out.add_stream("aac", rate=48_000, layout="mono") if sound else None
        for number in range(50):
            image = np.full((64, 64, 3), number * 5, np.uint8)
            out.mux(picture.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        out.mux(picture.encode(None))
        if voice is not None:
            for start in range(0, 96_000, 1024):
                frame = av.AudioFrame.from_ndarray(SPEECH[start : start + 1024].reshape(1, -1), layout="mono")
                frame.sample_rate, frame.pts = 48_000, start
                resampler = av.AudioResampler(format="fltp")
                out.mux([packet for part in resampler.resample(frame) for packet in voice.encode(part)])
            out.mux(voice.encode(None))
    return buffer.getvalue()


def au(rate: int, channels: int) -> bytes:
    return b".snd" + struct.pack(">5I", 24, 0xFFFF_FFFF, 3, rate, channels) + bytes(100_000)


def wav(rate: int, channels: int) -> bytes:
    fmt = struct.pack("<HHIIHH", 1, channels, rate, 0, (2 * channels) & 0xFFFF, 16)
    return (
        b"RIFF"
        + struct.pack("<I", 100_036)
        + b"WAVEfmt "
        + struct.pack("<I", 16)
        + fmt
        + b"data"
        + struct.pack("<I", 100_000)
        + bytes(100_000)
    )


def caf(rate: float, channels: int) -> bytes:
    desc = struct.pack(">d4sIIIII", rate, b"lpcm", 0, 2 * channels, 1, channels, 16)
    return b"caff\0\1\0\0desc" + struct.pack(">q", 32) + desc + b"data" + struct.pack(">qI", -1, 0) + bytes(100_000)


def claim_packets(count: int) -> bytes:
    """An M4A file that claims so many packets of one byte."""
    data = bytearray(make("m4a moov first"))
    at = data.index(b"stsz") + 8
    data[at : at + 8] = struct.pack(">II", 1, count)
    return bytes(data)


def claim_fragments(count: int) -> bytes:
    """A fragmented M4A file of which each fragment claims so many packets, all as long as the default."""
    data = bytearray(make("m4a fragments"))
    at = data.find(b"trun")
    while at >= 0:
        data[at + 4 : at + 12] = struct.pack(">II", 0, count)
        at = data.find(b"trun", at + 4)
    return bytes(data)


def nest_boxes(count: int) -> bytes:
    """An MP4 file of boxes, each in the one before."""
    return b"".join(struct.pack(">I4s", 8 * (count - number), b"moov") for number in range(count))


def encrypted_webm() -> bytes:
    """Without its key: the packets are noise."""
    key = element(0x5035, element(0x47E1, b"\5") + element(0x47E2, bytes(16)))
    encoding = element(0x6D80, element(0x6240, element(0x5033, b"\1") + key))
    noise = random.Random(1)
    head: bytes = webm_head(track(1, 2, b"A_OPUS", opus_head(), encoding))
    packets: bytes = cluster(0, *blocks([noise.randbytes(80) for _ in range(50)]))
    return head + packets


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        (b"", NoAudioError, "nothing in it"),
        (b"\0", MediaError, "no audio file"),
        (random.Random(1).randbytes(100_000), MediaError, "no audio file"),
        (b"not audio at all\n" * 1000, MediaError, "no audio file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(1000), MediaError, "no audio file"),
        (b"ID3\4\0\0\0\0\0\0" + bytes(1000), MediaError, "no audio file"),
        (b"ID3", MediaError, "no audio file"),
        (b"ID3\4\0\0\0\0\0\0" * 100_000 + make("flac"), MediaError, "MB without a frame of audio"),
        (b"\xff\xfb" + bytes(10_000), MediaError, "."),
        (b"\xff\xff" * 100_000, MediaError, "."),
        (b"fLaC", MediaError, "."),
        (b"OggS" + bytes(100), MediaError, "."),
        (b"\x1a\x45\xdf\xa3" + bytes(100), MediaError, "."),
        (b"RIFF\0\0\0\0WAVE", MediaError, "ends before its audio begins"),
        (b"\0\0\0\x10ftypM4A \0\0\0\0", MediaError, "without an index"),
        (nest_boxes(3000), MediaError, "too many in one another"),
        (film("mp4", sound=False), NoAudioError, "there is no audio in it"),
        (film("matroska", sound=False), NoAudioError, "there is no audio in it"),
        (make("m4a").replace(b"mp4a", b"enca", 1), EncryptedError, "the audio is encrypted"),
        (make("m4a").replace(b"mp4a", b"drms", 1), EncryptedError, "the audio is encrypted"),
        (encrypted_webm(), EncryptedError, "the audio is encrypted"),
        (wav(0, 1), MediaError, "0 Hz; 8000 to 192000"),
        (wav(4_000_000_000, 1), MediaError, "4000000000 Hz"),
        (wav(48_000, 65_535), MediaError, "65535 channels"),
        (wav(48_000, 0), MediaError, "0 channels"),
        (au(100, 1), MediaError, "100 Hz; 8000 to 192000 are read"),
        (au(4_000_000, 1), MediaError, "Hz; 8000 to 192000"),
        (au(48_000, 1_000_000), MediaError, "."),
        (au(48_000, 200), MediaError, "channels"),
        (caf(48_000.0, 1_000_000), MediaError, "."),
        (caf(float("nan"), 1), MediaError, "."),
        (caf(1e300, 1), MediaError, "."),
        (claim_packets(2**31 - 1), MediaError, "packets"),
        (claim_packets(100_000_000), MediaError, "packets"),
        # FFmpeg 9, in PyAV 19, sees by itself that so many are not there.
        (claim_fragments(100_000_000), MediaError, "broken mov file: (Cannot allocate memory|Invalid data)"),
        (claim_fragments(2**32 - 1), MediaError, "broken mov"),
    ],
)  # fmt: skip
def test_what_cannot_be_decoded_is_one_line_that_says_why(data, error, words, capfd):
    with pytest.raises(error, match=words) as caught:
        list(open_media(data).pieces)

    assert "\n" not in str(caught.value)
    assert 0 < len(str(caught.value)) < 120
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("text", [PLAYLIST, CONCAT, DASH, SDP, b"ID3\4\0\0\0\0\0\0" + PLAYLIST, b"\xff\xfb" + PLAYLIST])
def test_a_file_cannot_have_another_one_opened(text, tmp_path):
    """A pipe shows it: opening it to read waits for a writer, and a writer is refused while nobody reads."""
    (tmp_path / "speech.wav").write_bytes(make("wav s16"))
    os.mkfifo(tmp_path / "pipe")

    for name in (tmp_path / "speech.wav", tmp_path / "pipe", "/etc/passwd"):
        with pytest.raises(MediaError):
            open_media(text % str(name).encode())

    with pytest.raises(OSError, match="No such device"):
        os.open(tmp_path / "pipe", os.O_WRONLY | os.O_NONBLOCK)


def test_a_wav_file_of_three_gigabytes_ends_where_its_audio_does():
    """So long is also what a writer into a pipe claims; a file can be asked how long it is."""
    size = 3_000_000_000  # bytes
    head = b"RIFF" + struct.pack("<I", size + 36 + 60) + wav(48_000, 2)[8:40] + struct.pack("<I", size)
    source = Claim(head, len(head) + size + 60)  # a title comes behind it

    assert open_media(source).frames == size // 4


@pytest.mark.parametrize("name", ["mp3 cbr", "mp3 vbr", "webm opus"])
def test_the_length_is_known_however_few_bytes_come_at_once(name, monkeypatch):
    data = make(name)
    expected = open_media(data).frames
    assert expected

    monkeypatch.setattr("tests.support.media_files.TRICKLE_BYTES", 20)

    assert open_media(Trickle(data)).frames == expected


@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_of_a_film_the_sound_is_transcribed(container):
    heard = pcm(open_media(film(container, sound=True)))

    assert abs(len(heard) - 96_000) <= 2048
    assert np.corrcoef(heard[:96_000, 0], SPEECH[:96_000, 0])[0, 1] > 0.95


@pytest.mark.parametrize("name", ["m4a moov first", "flac", "mp3 cbr", "webm opus"])
def test_a_file_that_is_cut_off_gives_what_there_is_and_reports_what_is_missing(name):
    whole = make(name)
    media = open_media(whole[: len(whole) * 6 // 10])
    pieces: list[Piece] = []

    with pytest.raises(TruncatedError) as caught:
        pieces.extend(media.pieces)

    assert abs(caught.value.frames - len(SPEECH)) <= 2000
    assert "it ends after" in str(caught.value)
    frames = pieces[-1].frame + len(pieces[-1].data) // media.format.frame_bytes if pieces else 0
    assert frames < caught.value.frames


INDEX_AT_THE_END = ["m4a", "m4a alac", "mp4 opus", "3gp"]


@pytest.mark.parametrize("name", [name for name in INDEX_AT_THE_END if name in KINDS])
def test_an_index_at_the_end_is_found_unless_the_file_comes_from_a_pipe(name):
    data = make(name)
    assert data.index(b"mdat") < data.index(b"moov")

    assert list(open_media(Trickle(data)).pieces) == list(open_media(data).pieces)
    with pytest.raises(UnseekableError, match="pipe"):
        open_media(Trickle(data, pipe=True))


@pytest.mark.parametrize("name", [name for name in KINDS if name not in {*INDEX_AT_THE_END, "wav adpcm"}])
def test_a_pipe_gives_the_same_as_a_file(name):
    data = make(name)

    piped, whole = pcm(open_media(Trickle(data, pipe=True))), pcm(open_media(data))

    assert np.array_equal(piped[: len(whole)], whole)
    # Where an MP3 file ends is found out at its end first.
    assert len(piped) == len(whole) or "mp3" in name


@pytest.mark.parametrize("name", ["flac", "mp3 cbr", "ogg opus", "webm opus", "adts", "ogg flac", "m4a fragments"])
def test_from_a_pipe_sound_comes_before_much_has_been_read(name):
    data = encode(KINDS[name], np.tile(SPEECH, (12, 1)), 48_000)
    source = Trickle(data, pipe=True)

    next(open_media(source).pieces)

    assert source.given < min(len(data) // 5, 300_000)


def test_a_tag_with_a_large_picture_is_passed_over():
    mp3, size = make("mp3 cbr"), 20_000_000
    tag = b"ID3\4\0\0" + bytes((size >> shift) & 0x7F for shift in (21, 14, 7, 0))

    heard = pcm(open_media(tag + random.Random(1).randbytes(size) + mp3))

    assert np.array_equal(heard, pcm(open_media(mp3)))


@pytest.mark.parametrize(
    "begin",
    [
        b"\x1a\x45\xdf\xa3", b"OggS", b"fLaC", b"\xff\xfb", b"\xff\xf1", b"", b"RIFF\0\0\0\0WAVE", b"caff\0\1\0\0", b"\0\0\0\x08free",
        b"RIFF\0\0\0\0WAVELIST\xff\xff\xff\xff", b"RIFF\0\0\0\0WAVEjunk\0\0\0\x7f", b"FORM\0\0\0\0AIFF",
        b"FLV\1\5\0\0\0\x09\0\0\0\0", b"\0\0\1\xba", b"RIFF\xff\xff\xff\x7fAVI LIST\xff\xff\xff\x7fmovi", (b"\x47\x40\0\x10" + bytes(184)) * 9,
        bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c") + b"\xff" * 6, bytes.fromhex("060e2b34020501010d01020101020400"),
        bytes.fromhex("726966662e91cf11a5d628db04c10000"),
        b"\x1a\x45\xdf\xa3\x84webm\x18\x53\x80\x67\x01\xff\xff\xff\xff\xff\xff\xff", b"\x00\x00\x00\x08moov",
    ],
)  # fmt: skip
def test_ten_gigabytes_of_nothing_are_given_up_soon(begin):
    source = Claim(begin, 10_000_000_000)

    with pytest.raises(MediaError):
        list(open_media(source).pieces)

    assert source.given < 1.1 * MAX_SILENT_BYTES


@pytest.mark.parametrize("name", ["mp3 cbr", "adts", "ogg opus", "flac", "webm opus"])
def test_sound_that_nothing_follows_is_given_up_too(name):
    source = Claim(make(name), 10_000_000_000)
    media = open_media(source)
    heard: list[Piece] = []

    with pytest.raises(MediaError):
        heard.extend(media.pieces)

    assert len(heard) >= 2
    assert source.given < 1.2 * MAX_SILENT_BYTES


def test_what_was_lost_in_a_flac_file_is_a_hole_of_that_length():
    data = bytearray(make("flac"))
    data[len(data) // 2 : len(data) // 2 + 3000] = bytes(3000)

    media = open_media(bytes(data))
    pieces = list(media.pieces)

    ends = [piece.frame + len(piece.data) // 2 for piece in pieces]
    assert ends[-1] == len(SPEECH)
    assert any(piece.frame > end for piece, end in zip(pieces[1:], ends, strict=False))
    for piece in pieces:
        frames = len(piece.data) // 2
        assert piece.data == SPEECH[piece.frame : piece.frame + frames].tobytes()


def test_what_was_overwritten_in_an_mp3_file_is_a_hole_of_about_that_length():
    """It has no time stamps: only the bytes show the length."""
    data = bytearray(encode(KINDS["mp3 cbr"], np.tile(SPEECH, (4, 1)), 48_000))
    data[30_000:54_000] = bytes(24_000)

    media = open_media(bytes(data))
    pieces = list(media.pieces)

    ends = [piece.frame + len(piece.data) // media.format.frame_bytes for piece in pieces]
    holes = [piece.frame - end for piece, end in zip(pieces[1:], ends, strict=False) if piece.frame != end]
    assert len(holes) == 1
    assert holes[0] / 48_000 == pytest.approx(2.0, abs=0.15)
    assert ends[-1] / 48_000 == pytest.approx(4 * len(SPEECH) / 48_000, abs=0.2)


def test_a_second_that_is_missing_in_a_webm_file_is_a_hole_of_a_second():
    media = open_media(without_packets(make("webm opus"), "webm", range(30, 80)))
    pieces = list(media.pieces)

    ends = [piece.frame + len(piece.data) // media.format.frame_bytes for piece in pieces]
    holes = [piece.frame - end for piece, end in zip(pieces[1:], ends, strict=False) if piece.frame != end]
    assert len(holes) == 1
    assert abs(holes[0] - 48_000) <= 96


@pytest.mark.parametrize(("layout", "container", "codec"), [
    ("5.1", "flac", "flac"), ("7.1", "flac", "flac"), ("7.1", "ipod", "aac"), ("7.1", "ogg", "libopus"), ("5.1", "wav", "pcm_s16le"),
    ("16 channels", "wav", "pcm_s16le"), ("3 channels", "au", "pcm_s16be"),
])  # fmt: skip
def test_many_channels_become_one(layout, container, codec):
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as out:
        stream = out.add_stream(codec, rate=48_000, layout=layout)
        stream.codec_context.open()
        size = stream.codec_context.frame_size or 1024
        channels = stream.codec_context.channels
        resampler = av.AudioResampler(format=stream.codec_context.format)
        for start in range(0, 96_000 - size, size):
            samples = SPEECH[start : start + size].repeat(channels, axis=1).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), layout=layout)
            frame.sample_rate, frame.pts = 48_000, start
            for part in resampler.resample(frame):
                out.mux(stream.encode(part))
        out.mux(stream.encode(None))

    media = open_media(buffer.getvalue())

    heard = pcm(media)
    assert media.format.channels == 1
    assert np.corrcoef(heard[:90_000, 0], SPEECH[:90_000, 0])[0, 1] > 0.9


def test_samples_that_are_no_numbers_become_silence():
    samples = np.array([0.5, np.nan, np.inf, -np.inf], np.float32)
    fmt = struct.pack("<HHIIHH", 3, 1, 48_000, 192_000, 4, 32)
    data = (
        b"RIFF"
        + bytes(4)
        + b"WAVEfmt "
        + struct.pack("<I", 16)
        + fmt
        + b"data"
        + struct.pack("<I", 16)
        + samples.tobytes()
    )

    assert pcm(open_media(data)).ravel().tolist() == [0.5, 0.0, 1.0, -1.0]


def test_a_bomb_takes_no_more_memory_than_a_second_of_it():
    bomb = encode(KINDS["flac"], np.zeros((48_000 * 600, 1), np.int16), 48_000)
    assert len(bomb) < 150_000
    gc.collect()
    before_mb = resident_mb()

    most_mb, frames = 0.0, 0
    for piece in open_media(bomb).pieces:
        frames += len(piece.data) // 2
        most_mb = max(most_mb, resident_mb() - before_mb)

    assert frames == 48_000 * 600
    assert most_mb < 8


def test_what_was_opened_leaves_nothing_behind():
    files = originals()
    dice = random.Random(5)
    broken = [mutate(files, dice) for _ in range(40)]

    def open_all(rounds: int) -> None:
        for _ in range(rounds):
            for data in files:
                next(open_media(data).pieces)  # left before its end
            for data in broken:
                decode_all(data, 10.0)

    open_all(5)
    gc.collect()
    before_mb = resident_mb()
    open_all(15)
    gc.collect()

    assert resident_mb() - before_mb < 8


@pytest.fixture(scope="module")
def files():
    return originals()


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_broken_file_is_decoded_or_refused_and_nothing_else(files, seed):
    outcome, wrong = decode_all(mutate(files, random.Random(seed)), 60.0)

    assert outcome
    assert not wrong


stamps = st.one_of(st.none(), st.integers(-(2**63), 2**63), st.integers(-10_000, 500_000))


@given(st.lists(st.tuples(stamps, st.integers(0, 5000), st.integers(-1, 5000))), st.integers(-(2**62), 2**62))
def test_places_only_grow_whatever_the_time_stamps(frames, origin):
    timeline, end = Timeline(48_000, origin), 0

    for stamp, count, lost in frames:
        if lost >= 0:
            timeline.lose(lost)
        start = timeline.place(stamp, count)
        assert end <= start <= end + 3600 * 48_000 + 5000 * len(frames)
        end = start + count


def test_time_stamps_that_are_rounded_make_no_holes_and_a_lost_packet_one_of_its_length():
    timeline = Timeline(44_100, 0)
    starts = [timeline.place(round(round(n * 1024 / 44.1) * 44.1), 1024) for n in range(100)]
    assert starts == [n * 1024 for n in range(100)]

    timeline.lose(1024)
    assert timeline.place(round(round(101 * 1024 / 44.1) * 44.1), 1024) == pytest.approx(101 * 1024, abs=60)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 30)), max_size=20),
    st.integers(1, 12),
)
def test_pieces_hold_what_was_decoded_where_it_was(parts, rate):
    timeline: dict[int, int] = {}
    chunks, end = [], 0
    for hole, count in parts:
        samples = np.arange(end + hole, end + hole + count, dtype=np.int16)[:, np.newaxis]
        chunks.append((end + hole, samples))
        timeline |= {int(value): int(value) for value in samples.ravel()}
        end += hole + count

    pieces = list(join(iter(chunks), rate, None))

    heard = [
        (piece.frame + at, int(value)) for piece in pieces for at, value in enumerate(np.frombuffer(piece.data, "<i2"))
    ]
    assert heard == sorted(timeline.items())
    assert all(0 < len(piece.data) // 2 <= rate for piece in pieces)
