"""Titles between the bytes of an internet radio's sound."""

import random
from functools import cache

import numpy as np
import pytest
from hypothesis import given, strategies as st

from bench.lib.media_files import KINDS, Kind, encode
from tests.support.media_files import Trickle, speech_at
from transcriber.audio.media.icy import without_titles
from transcriber.audio.media.open import open_media
from transcriber.audio.media.sources import BytesSource

SENT = {
    "mp3": Kind("mp3", "libmp3lame", {"id3v2_version": "0", "write_xing": "0"}, bit_rate=64_000),
    "aac": KINDS["adts"],
}


@cache
def sound_of(kind: str) -> bytes:
    return encode(SENT[kind], np.tile(speech_at(44_100), (4, 1)), 44_100)


def with_titles(sound: bytes, interval: int, first: int | None = None, every: int = 3) -> bytes:
    """As a radio sends it; each ``every``-th title says something."""
    at = interval if first is None else first
    sent = sound[:at]
    number = 0
    while at < len(sound):
        title = f"StreamTitle='It's number {number}';StreamUrl='';".encode() if number % every == 0 else b""
        units = -(-len(title) // 16)
        sent += bytes([units]) + title.ljust(16 * units, b"\0") + sound[at : at + interval]
        at, number = at + interval, number + 1
    return sent


@pytest.mark.parametrize("kind", SENT)
@pytest.mark.parametrize("interval", [8192, 16_000, 5000])
def test_the_sound_is_decoded_as_if_there_were_no_titles(kind, interval):
    sent = with_titles(sound_of(kind), interval)

    expected = list(open_media(Trickle(sound_of(kind), pipe=True)).pieces)

    assert list(open_media(sent).pieces) == expected
    assert list(open_media(Trickle(sent)).pieces) == expected
    assert list(open_media(sent, expected[2].frame).pieces) == expected[2:]


@given(
    st.integers(0, 99), st.integers(30_000, 60_000), st.sampled_from([1024, 4096, 8192]), st.integers(0, 8192), st.integers(1, 4),
    st.lists(st.tuples(st.integers(0, 60_000), st.integers(1, 9000)), max_size=8),
)  # fmt: skip
def test_every_byte_of_the_sound_is_where_it_was(seed, size, interval, first, every, reads):
    sound = random.Random(seed).randbytes(size)
    source = without_titles(
        BytesSource(with_titles(sound, interval, min(first, interval), every if first >= interval else 1)), 0
    )

    assert source
    whole, piece = b"", b"more"
    while piece:
        piece = source.read_at(len(whole), 10_000)
        whole += piece
    assert whole == sound
    for offset, length in reads:
        piece = source.read_at(offset, length)
        assert sound[offset:].startswith(piece)
        assert piece or offset >= len(sound)


@pytest.mark.parametrize(
    "data", [b"", b"StreamTitle='", b"\5StreamTitle='", b"x" * 8192 + b"\3StreamTitle='no end" + bytes(9000)]
)
def test_what_has_no_titles_stays_as_it_is(data):
    assert without_titles(BytesSource(data), 0) is None


@pytest.mark.parametrize("kind", SENT)
def test_sound_without_titles_stays_as_it_is_and_so_does_a_pipe_with_some(kind):
    assert without_titles(BytesSource(sound_of(kind)), 0) is None
    assert without_titles(Trickle(with_titles(sound_of(kind), 8192), pipe=True), 0) is None
