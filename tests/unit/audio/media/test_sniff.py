"""Which files are which, whether they are all there, and what is in them that is no audio."""

import itertools
import random
import struct

import numpy as np
import pytest
from hypothesis import given, strategies as st

from bench.lib.media_files import Kind, encode
from tests.support.media_files import SPEECH, Trickle, make, pcm
from transcriber.audio.media.open import open_media
from transcriber.audio.media.outline import Outline
from transcriber.audio.media.pieces import Piece
from transcriber.errors import EncryptedError, MediaError, NoAudioError, TruncatedError

SECTOR, PACKET = 2048, 188


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b".RMF\0\0\0\x12", "RealMedia"), (b".ra\xfd\0\4", "RealAudio"), (b"MAC \x96\x0f", "Monkey's Audio"), (b"wvpk", "WavPack"),
        (b"TTA1", "True Audio"), (b"MPCKSH", "Musepack"), (b"MP+\7", "Musepack"), (b"tBaK", "TAK"), (b"OFR ", "OptimFROG"),
        (b"DSD \x1c", "DSF"), (b"FRM8", "DSDIFF"), (b"ADIF", "AAC in ADIF"), (b"\x0b\x77\x9f\xfe", "AC-3"),
        (b"\x7f\xfe\x80\x01", "DTS"), (b"Creative Voice File\x1a", "VOC"), (b"#!SILK_V3", "SILK"), (b"\2#!SILK_V3", "SILK"),
        (b"MThd\0\0\0\6", "MIDI"), (b"RIFF\x20\0\0\0RMID", "MIDI"), (bytes.fromhex("b7d800203749da11"), "WTV"), (b"\x1f\7\0\xbf", "DV"),
        (b"nut/multimedia container\0", "NUT"), (b"\0\0\1\xb3\x16", "MPEG video"), (b"\0\0\0\1\x67", "H.264 or HEVC video"),
        (b"FWS\6", "Flash"), (b"#EXTM3U\n", "playlist"), (b"\x89PNG\r\n", "PNG"), (b"\xff\xd8\xff\xe0", "JPEG"), (b"GIF89a", "GIF"),
        (b"RIFF\x20\0\0\0WEBPVP8 ", "WebP"), (b"%PDF-1.7", "PDF"), (b"PK\3\4", "ZIP"), (b"Rar!\x1a", "RAR"), (b"7z\xbc\xaf\x27", "7z"),
        (b"\x1f\x8b\x08", "gzip"), (b"<!DOCTYPE html>", "HTML"), (b"<html>", "HTML"),
    ],
)  # fmt: skip
def test_what_is_not_read_is_refused_by_its_name(head, name):
    with pytest.raises(MediaError) as caught:
        open_media(head + bytes(3000))

    assert str(caught.value) == f"it is no audio file of a kind that is read: {name}"


def test_a_broadcast_that_was_tuned_into_is_decoded():
    """The first packet is whole hardly ever."""
    data = make("ts aac")

    for lost in (1, 77, PACKET - 1):
        media = open_media(data[lost:])
        heard = sum(len(piece.data) for piece in media.pieces) // media.format.frame_bytes

        assert media.container == "mpegts"
        assert heard > len(SPEECH) * 0.8


def test_amr_wb_is_read():
    """FFmpeg cannot encode it: a second of noise, at the lowest rate."""
    dice = random.Random(1)

    media = open_media(b"#!AMR-WB\n" + b"".join(b"\4" + dice.randbytes(17) for _ in range(50)))

    assert (media.container, media.codec, media.format.rate) == ("amr", "amrwb", 16_000)
    assert len(pcm(media)) == 16_000


def scramble(data, at, bits):
    """Encrypt a packet, as it were, and let its header say so."""
    payload = at + 4 + (1 + data[at + 4] if data[at + 3] & 0x20 else 0)
    data[at + 3] |= bits
    data[payload : at + PACKET] = bytes(byte ^ 0x5A for byte in data[payload : at + PACKET])


@pytest.mark.parametrize("bits", [0x40, 0x80, 0xC0])
def test_an_encrypted_broadcast_says_so(bits):
    data = bytearray(make("ts film"))
    for at in range(0, len(data), PACKET):
        pid = int.from_bytes(data[at + 1 : at + 3], "big") & 0x1FFF
        if 0x100 <= pid < 0x1000:  # pictures and sound, as FFmpeg numbers them
            scramble(data, at, bits)

    with pytest.raises(EncryptedError, match="the audio is encrypted"):
        open_media(bytes(data))


def test_pictures_that_are_encrypted_cost_no_sound():
    data = bytearray(make("ts film"))
    for at in range(0, len(data), PACKET):
        if int.from_bytes(data[at + 1 : at + 3], "big") & 0x1FFF == 0x100:
            scramble(data, at, 0x80)

    assert np.array_equal(pcm(open_media(bytes(data))), pcm(open_media(make("ts film"))))


def test_a_broadcast_of_which_nothing_is_known_is_no_crash():
    packet = bytearray(PACKET)
    packet[:5] = b"\x47\x40\0\x30" + bytes([PACKET - 8])  # three bytes are left for what begins in it
    packet[-3:] = b"\0\0\1"

    with pytest.raises(MediaError):
        open_media(bytes(packet) * 40)


@pytest.mark.parametrize(
    ("kind", "part"),
    [("matroska", b"\xec\x80"), ("avi", b"JUNK\0\0\0\0"), ("mov", b"\0\0\0\x08free"), ("mov", b"\0\0\0\x08mdat")],
)
def test_millions_of_tiny_parts_keep_nobody_busy(kind, part):
    outline = Outline(kind, part)
    parse, seen = outline._parse, 0
    assert parse

    def count(header):
        nonlocal seen
        seen += 1
        return parse(header)

    outline._parse = count

    outline.observe(0, part * 1_000_000)

    assert 1000 < seen < 20_000


def test_the_noise_of_an_encrypted_disc_is_not_transcribed():
    data = bytearray(make("vob ac3"))
    for at in range(0, len(data), SECTOR):
        if data[at + 14 : at + 18] == b"\0\0\1\xbd":
            data[at + 20] |= 0x10

    with pytest.raises(EncryptedError, match="the audio is encrypted"):
        open_media(bytes(data))


def test_an_encrypted_wma_file_says_so():
    data = make("wma")
    words = [word + b"\0" for word in (b"key", b"DRM", b"id", b"https://licence.example")]
    body = struct.pack("<I", 0) + b"".join(struct.pack("<I", len(word)) + word for word in words)
    lock = bytes.fromhex("fbb3112223bdd211b4b700a0c955fc6e") + struct.pack("<Q", 24 + len(body)) + body
    (size, count) = struct.unpack_from("<QI", data, 16)
    head = data[:16] + struct.pack("<QI", size + len(lock), count + 1) + data[28:30]

    with pytest.raises(EncryptedError, match="the audio is encrypted"):
        open_media(head + lock + data[30:])


def test_sound_that_begins_behind_much_picture_is_found():
    """A disc has no list of what is on it."""
    data = make("mpeg film")
    sectors = [data[at : at + SECTOR] for at in range(0, len(data), SECTOR)]
    picture = next(sector for sector in sectors if b"\0\0\1\xe0" in sector and b"\0\0\1\xc0" not in sector)

    heard = pcm(open_media(sectors[0] + picture * 1000 + b"".join(sectors[1:])))

    assert abs(len(heard) - len(SPEECH)) < 3000


CUT = [
    "caf", "m4a fragments", "matroska aac", "matroska film", "avi pcm", "avi film", "flv aac", "flv film", "wma", "wmv", "mxf", "w64", "rf64",
    "bw64",
]  # fmt: skip


@pytest.mark.parametrize("name", CUT)
@pytest.mark.parametrize("share", [0.3, 0.5, 0.7])
@pytest.mark.parametrize("pipe", [False, True])
def test_a_file_that_is_cut_off_is_no_success(name, share, pipe):
    whole = make(name)
    media = open_media(Trickle(whole[: int(len(whole) * share)], pipe=pipe))
    heard: list[Piece] = []

    with pytest.raises(MediaError, match=r"^(it ends after|it is cut off: it has|its header claims) .*"):
        heard.extend(media.pieces)

    assert heard
    assert len(pcm(open_media(Trickle(whole, pipe=pipe)))) >= len(SPEECH) * media.format.rate // 48_000 - 2048


@pytest.mark.parametrize(("name", "index"), [("avi film", b"idx1"), ("matroska film", b"\x1c\x53\xbb\x6b")])
def test_who_has_lost_only_the_index_has_lost_nothing(name, index):
    whole = make(name)
    cut = whole[: whole.rindex(index)]
    assert len(cut) < len(whole)

    assert np.array_equal(pcm(open_media(cut)), pcm(open_media(whole)))


FRAGMENTS = Kind("ipod", "aac", {"movflags": "frag_keyframe+empty_moov", "frag_duration": "200000"})


def test_a_fragment_is_all_there_or_the_file_is_cut_off():
    """Only between two fragments nobody can know that there was another."""
    whole = encode(FRAGMENTS, SPEECH, 48_000)
    edges = [at - 4 for at in range(len(whole)) if whole.startswith(b"moof", at)]
    assert len(edges) > 5
    everything = len(pcm(open_media(whole)))
    assert open_media(whole).frames is None  # each fragment states its own length alone

    for number, (edge, following) in enumerate(itertools.pairwise(edges[1:])):
        assert len(pcm(open_media(whole[:edge]))) < everything * (number + 2) / len(edges)
        for cut in (edge + 8, edge + 100, following - 1):
            with pytest.raises(MediaError, match=r"^(it ends after|it is cut off: it has|a broken mov file: ).*"):
                list(open_media(whole[:cut]).pieces)


@pytest.mark.parametrize("kind", ["mov", "avi", "w64", "caf", "asf", "matroska", "flv", "mp3"])
@given(data=st.binary(max_size=300), cuts=st.lists(st.integers(0, 300), max_size=6))
def test_an_outline_is_the_same_however_its_bytes_come_and_never_fails(kind, data, cuts):
    starts = {"mov": b"\0\0\0\x08free", "avi": b"RIFF\0\0\0\0AVI ", "matroska": b"\x1a\x45\xdf\xa3\x80"}
    data = starts.get(kind, b"") + data
    at_once, in_pieces = Outline(kind, data), Outline(kind, data)

    at_once.observe(0, data)
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(data)], strict=True):
        in_pieces.observe(start, data[start:end])

    assert at_once.reach == in_pieces.reach >= 0


def test_an_index_alone_is_no_audio():
    with pytest.raises(NoAudioError, match="without an index"):
        open_media(make("m4a")[: len(make("m4a")) // 2])


def test_a_cut_file_that_states_its_length_reports_what_is_missing():
    whole = make("matroska film")

    with pytest.raises(TruncatedError) as caught:
        list(open_media(whole[: len(whole) // 2]).pieces)

    assert abs(caught.value.frames - len(SPEECH)) < 3000


def test_a_stream_that_is_found_late_is_no_crash():
    """As of another programme, where a receiver was tuned to it."""
    film = make("ts film")
    one = film.replace(b"\x47\x01\x00", b"\x47\x01\x80").replace(
        b"\x47\x41\x00", b"\x47\x41\x80"
    )  # the picture elsewhere

    heard = pcm(open_media(make("ts aac") + one))

    assert len(heard) >= len(SPEECH)
