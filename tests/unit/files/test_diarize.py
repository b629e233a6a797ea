"""Where the turns of a file lie, with a decoder and networks that are told what there is."""

from types import SimpleNamespace

import numpy as np

from transcriber.audio.format import AudioFormat, SampleFormat
from transcriber.audio.media.pieces import Piece
from transcriber.audio.media.sources import BytesSource
from transcriber.diarization import networks
from transcriber.errors import MediaError
from transcriber.files import diarize
from transcriber.testing.fake_daemon import LevelNetworks

RATE = 48_000


def said(voice, seconds):
    return np.full(seconds * RATE, voice / 10, "<f4").tobytes()


def turns_of(monkeypatch, *pieces, broken=False):
    """Of a file of these pieces: first second, voice and seconds; ``broken``: no more of it can be read."""

    def decoded():
        for at_s, voice, seconds in pieces:
            yield Piece(at_s * RATE, said(voice, seconds))
        if broken:
            raise MediaError("it ends here")

    media = SimpleNamespace(format=AudioFormat(SampleFormat.F32LE, RATE, 1), pieces=decoded())
    monkeypatch.setattr(diarize, "open_media", lambda _: media)
    monkeypatch.setattr(networks, "voice_networks", LevelNetworks)
    return [(turn.voice, round(turn.start_s, 1), round(turn.end_s, 1)) for turn in diarize._turns(BytesSource(b""))]


def test_turns_behind_a_hole_lie_where_their_audio_does(monkeypatch):
    found = turns_of(monkeypatch, (0, 1, 12), (42, 2, 12), (54, 1, 12))

    assert [voice for voice, _, _ in found] == [0, 1, 0]
    assert [(abs(start_s - at_s) < 0.2, abs(end_s - at_s - 12) < 0.2) for (_, start_s, end_s), at_s in zip(found, (0, 42, 54), strict=True)] == [(True, True)] * 3  # fmt: skip


def test_of_a_file_that_breaks_off_what_was_read_has_turns(monkeypatch):
    assert [voice for voice, _, _ in turns_of(monkeypatch, (0, 1, 12), (12, 2, 12), broken=True)] == [0, 1]
