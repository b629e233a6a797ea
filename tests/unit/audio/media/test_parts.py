"""Files that are several, one behind the other, or that change in the middle: all of it is decoded or reported."""

import itertools
from functools import cache

import numpy as np
import pytest

from bench.lib import media_files
from bench.lib.media_files import Kind, encode
from tests.support.media_files import SPEECH, Trickle, make, pcm, speech_at
from transcriber.audio.format import SampleFormat
from transcriber.audio.media import open as media_module
from transcriber.audio.media.open import open_media
from transcriber.audio.media.pieces import Chunk, Piece
from transcriber.audio.media.rate import RateConverter
from transcriber.errors import ClaimError, MediaError, TruncatedError

KINDS = media_files.KINDS | {
    "plain mp3": Kind("mp3", "libmp3lame", {"id3v2_version": "0", "write_xing": "0"}, bit_rate=64_000),
    "webm live": Kind("webm", "libopus", {"live": "1", "cluster_time_limit": "100"}),
}


def resembles(heard: np.ndarray, rate: int) -> float:
    """How much (n, channels) sounds like the bundled speech, at best: 1 is the same."""
    wanted = speech_at(rate)[:, 0].astype(float)
    mono = heard[:, 0].astype(float)
    size = 2 ** int(np.ceil(np.log2(len(mono) + len(wanted))))
    spectrum = np.fft.rfft(mono, size) * np.conj(np.fft.rfft(wanted, size))
    energy = np.sqrt((mono**2).sum() * (wanted**2).sum())
    return float(np.fft.irfft(spectrum, size).max() / max(energy, 1e-9))


@cache
def of(kind: str, rate: int = 48_000, channels: int = 1) -> bytes:
    return encode(KINDS[kind], speech_at(rate, channels), rate)


def joined(name: str) -> bytes:
    return b"".join(of(*file) for file in JOINED[name])


OGG: dict[str, tuple[str, int, int]] = {
    "opus": ("ogg opus", 48_000, 1),
    "opus stereo": ("ogg opus", 48_000, 2),
    "flac 16": ("ogg flac", 16_000, 1),
    "flac 8": ("ogg flac", 8_000, 1),
    "flac 44 stereo": ("ogg flac", 44_100, 2),
    "vorbis 44": ("ogg vorbis", 44_100, 2),
    "vorbis 16": ("ogg vorbis", 16_000, 2),
}
JOINED: dict[str, list[tuple[str, int, int]]] = {
    **{f"ogg {one}, {other}": [OGG[one], OGG[other]] for one, other in itertools.product(OGG, OGG)},
    **{
        f"{name} {rates[0]}, {rates[1]}": [(kind, rates[0], 1), (kind, rates[1], channels)]
        for name, kind in (("mp3", "plain mp3"), ("mp3 with tags", "mp3 cbr"), ("adts", "adts"), ("flac", "flac"))
        for rates, channels in (((44_100, 16_000), 1), ((16_000, 44_100), 2), ((48_000, 48_000), 2), ((44_100, 48_000), 1))
    },
    "wav of other rates": [("wav s16", 16_000, 1), ("wav s16", 48_000, 2)],
    "wav of other samples": [("wav s24", 16_000, 1), ("wav mulaw", 8_000, 1), ("wav f32", 44_100, 1)],
    "wav with a codec": [("wav s16", 16_000, 1), ("wav adpcm", 44_100, 1)],
    "wav with a codec first": [("wav adpcm", 44_100, 1), ("wav s16", 16_000, 1)],
    "webm": [("webm opus", 48_000, 1), ("webm opus", 48_000, 2)],
    "webm live": [("webm live", 48_000, 1), ("webm opus", 48_000, 1)],
    "matroska": [("matroska flac", 16_000, 1), ("webm opus", 48_000, 1), ("matroska aac", 44_100, 1)],
    "m4a": [("m4a", 44_100, 1), ("m4a alac", 16_000, 1)],
    "m4a moov first": [("m4a moov first", 44_100, 1), ("m4a moov first", 44_100, 2)],
    "m4a fragments": [("m4a fragments", 44_100, 1), ("m4a fragments", 16_000, 1)],
    "aiff": [("aiff", 16_000, 1), ("aiff", 48_000, 2)],
    "caf": [("caf", 16_000, 1), ("caf", 48_000, 1)],
    "au": [("au", 16_000, 1), ("au", 48_000, 1)],
}  # fmt: skip


@pytest.mark.parametrize("name", JOINED)
def test_what_lies_behind_a_file_is_decoded_after_it(name):
    data = joined(name)
    media = open_media(data)
    rate = media.format.rate

    heard = pcm(media)

    count = 3 if name in {"wav of other samples", "matroska"} else 2
    assert len(heard) / rate == pytest.approx(count * len(SPEECH) / 48_000, abs=0.15 * count)
    for number in range(count):
        assert resembles(heard[number * len(heard) // count :][: len(heard) // count], rate) > 0.8, number
    if media.frames is not None:
        assert media.frames <= len(heard) + 0.2 * rate or name == "caf"  # whose first claims all that there is


@pytest.mark.parametrize("name", [name for name in JOINED if "m4a" not in name or "frag" in name or "first" in name])
def test_it_is_the_same_however_it_comes(name):
    data = joined(name)
    expected = list(open_media(data).pieces)

    assert list(open_media(Trickle(data)).pieces) == expected
    if name not in {"m4a fragments", "m4a moov first", "wav with a codec", "wav with a codec first"}:
        piped = list(open_media(Trickle(data, pipe=True)).pieces)
        assert [piece.frame for piece in piped] == pytest.approx([piece.frame for piece in expected], abs=4000)


@pytest.mark.parametrize("kind", ["plain mp3", "mp3 cbr", "flac", "wav s16"])
@pytest.mark.parametrize("rates", [(44_100, 22_050), (16_000, 16_000), (44_100, 48_000), (16_000, 48_000)])
def test_decoding_from_any_piece_gives_the_very_same_rest(kind, rates):
    data = b"".join(encode(KINDS[kind], np.tile(speech_at(rate), (3, 1)), rate) for rate in rates)
    whole = list(open_media(data).pieces)

    for piece in whole:
        assert list(open_media(data, piece.frame).pieces) == whole[whole.index(piece) :], piece.frame


def test_a_file_behind_another_that_cannot_be_read_is_reported_where_it_lies():
    speex = b"OggS\0\2" + bytes(8) + b"spx1" + bytes(8) + b"\1\x50Speex   1.2" + bytes(70)
    rate = 48_000

    pieces = list(open_media(of(*OGG["opus"]) + speex + of(*OGG["flac 16"])).pieces)

    (reported,) = [piece for piece in pieces if piece.missing]
    assert reported.data == b""
    assert "\n" not in reported.missing
    assert reported.frame == pytest.approx(len(SPEECH), abs=0.1 * rate)
    assert pieces[-1].frame + len(pieces[-1].data) // 4 == pytest.approx(2 * len(SPEECH), abs=0.2 * rate)


def test_the_last_file_that_cannot_be_read_is_an_error():
    with pytest.raises(MediaError):
        list(open_media(of(*OGG["opus"]) + of(*OGG["vorbis 44"])[:3000]).pieces)


def test_what_breaks_off_before_another_file_is_a_hole_of_its_length():
    flac = of("flac", 16_000)
    media = open_media(flac[: len(flac) * 6 // 10] + flac)

    pieces = list(media.pieces)

    (after,) = [
        after
        for before, after in itertools.pairwise(pieces)
        if after.frame > before.frame + len(before.data) // media.format.frame_bytes
    ]
    assert after.frame == pytest.approx(len(SPEECH) / 3, abs=100)


def test_however_many_files_cannot_be_read_it_ends():
    page = b"OggS\0\2" + bytes(8) + b"spx1" + bytes(8) + b"\1\x01" + b"x"

    with pytest.raises(MediaError):
        list(open_media(of(*OGG["opus"]) + 50_000 * page).pieces)


def test_a_long_chain_takes_no_more_than_a_link(monkeypatch):
    opened: list[bytes] = []

    def opening(reader, first, like, real=media_module._open):
        opened.append(reader.peek(4))
        return real(reader, first, like)

    monkeypatch.setattr(media_module, "_open", opening)

    media = open_media(Trickle(b"".join(of(*OGG[name]) for name in ("opus", "vorbis 44", "flac 8") * 20)))

    frames = sum(len(piece.data) // media.format.frame_bytes for piece in media.pieces)
    assert len(opened) == 60
    assert frames == pytest.approx(60 * len(SPEECH), rel=0.02)


def test_a_film_in_ogg_begins_with_a_page_for_each_stream():
    """Two pages that begin streams, one after the other, are one file."""
    opus, flac = of(*OGG["opus"]), of(*OGG["flac 16"])
    head = opus[: opus.index(b"OggS", 4)]

    media = open_media(flac[: flac.index(b"OggS", 4)] + head + flac[flac.index(b"OggS", 4) :])

    assert media.codec == "flac"
    assert sum(len(piece.data) for piece in media.pieces) // 2 == pytest.approx(len(SPEECH) / 3, abs=10)


@pytest.mark.parametrize("name", ["flac", "ogg opus", "wav s16", "mp3 cbr", "matroska aac"])
def test_floats_and_integers_follow_each_other_as_loud(name):
    first = open_media(of("wav f32") + of(name))
    loud = [np.abs(part).max() for part in np.array_split(pcm(first), 2)]

    assert first.format.sample in {SampleFormat.F32LE, SampleFormat.S16LE}
    assert loud[1] == pytest.approx(loud[0], rel=0.2) or name != "wav s16"


@pytest.mark.parametrize("rates", [(8_000, 44_100), (44_100, 8_000), (48_000, 44_100), (192_000, 8_000)])
@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_samples_of_another_rate_tile_as_those_of_one(rates, dtype):
    rate, other = rates
    one, dice, place = RateConverter(rate), np.random.default_rng(1), 0
    out: list[Chunk] = []
    for _ in range(60):
        now = rate if dice.random() < 0.3 else other
        count = int(dice.integers(1, 4000))
        place += int(dice.integers(0, 500)) if dice.random() < 0.1 else 0
        frames = one.frames(count, now)
        out += one.add(place, frames, np.ones((count, 2), dtype), now)
        place += frames
    out += one.flush()

    ends = [start + len(samples) for start, samples in out]
    assert all(start >= end for end, (start, _) in zip(ends, out[1:], strict=False))
    assert ends[-1] == place
    assert {samples.dtype for _, samples in out} == {np.dtype(dtype)}


@pytest.mark.parametrize("name", ["wav s16", "aiff", "au"])
def test_a_claim_of_more_than_there_is_is_reported_and_no_length(name):
    data = make(name)
    cut = data[: len(data) * 6 // 10]
    pieces: list[Piece] = []

    media = open_media(cut)
    with pytest.raises(ClaimError, match=r"its header claims 2.1 s, and there are 1.3 s") as caught:
        pieces.extend(media.pieces)

    end = pieces[-1].frame + len(pieces[-1].data) // 2
    assert caught.value.frames == end
    assert media.frames == pytest.approx(end, abs=50)
    assert isinstance(caught.value, TruncatedError)
