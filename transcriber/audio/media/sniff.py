"""The kind of a file. In: its first bytes. Out: the demuxer to read it with, and whether it states its length."""

import re

from transcriber.audio.media.mpeg import find_packets
from transcriber.audio.media.sources import Reader

_MAGIC = (
    (0, b"fLaC", "flac"), (0, b"OggS", "ogg"), (0, b"\x1a\x45\xdf\xa3", "matroska"), (0, b".snd", "au"), (0, b"caff", "caf"),
    (0, b"FORM", "aiff"), (8, b"WAVE", "wav"), (0, b"riff\x2e\x91\xcf\x11", "w64"), (0, b"#!AMR", "amr"),
    (4, b"ftyp", "mov"), (4, b"moov", "mov"), (4, b"mdat", "mov"), (4, b"free", "mov"), (4, b"skip", "mov"), (4, b"wide", "mov"),
    (8, b"AVI ", "avi"), (0, b"FLV\1", "flv"), (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "asf"), (0, b"\0\0\1\xba", "mpeg"),
    (0, b"\x06\x0e\x2b\x34\x02\x05\x01\x01", "mxf"),
)  # fmt: skip
"""Offset in a file, the bytes there, and the demuxer."""

_UNREAD = (
    (0, b".RMF", "RealMedia"), (0, b".ra\xfd", "RealAudio"), (0, b"MAC ", "Monkey's Audio"), (0, b"wvpk", "WavPack"),
    (0, b"TTA1", "True Audio"), (0, b"MPCK", "Musepack"), (0, b"MP+", "Musepack"), (0, b"tBaK", "TAK"), (0, b"OFR ", "OptimFROG"),
    (0, b"DSD ", "DSF"), (0, b"FRM8", "DSDIFF"), (0, b"ADIF", "AAC in ADIF"), (0, b"\x0b\x77", "AC-3"),
    (0, b"\x7f\xfe\x80\x01", "DTS"), (0, b"Creative Voice File", "VOC"), (0, b"#!SILK", "SILK"), (0, b"\2#!SILK", "SILK"),
    (0, b"MThd", "MIDI"), (8, b"RMID", "MIDI"), (0, b"\xb7\xd8\0\x20\x37\x49\xda\x11", "WTV"), (0, b"\x1f\x07\0", "DV"),
    (0, b"nut/multimedia container", "NUT"), (0, b"\0\0\1\xb3", "MPEG video"), (0, b"\0\0\0\1", "H.264 or HEVC video"),
    (0, b"FWS", "Flash"), (0, b"CWS", "Flash"), (0, b"#EXTM3U", "playlist"), (0, b"ffconcat", "playlist"),
    (0, b"\x89PNG", "PNG"), (0, b"\xff\xd8\xff", "JPEG"), (0, b"GIF8", "GIF"), (8, b"WEBP", "WebP"), (0, b"%PDF", "PDF"),
    (0, b"PK\3\4", "ZIP"), (0, b"Rar!", "RAR"), (0, b"7z\xbc\xaf", "7z"), (0, b"\x1f\x8b", "gzip"), (0, b"<!DOCTYPE", "HTML"),
    (0, b"<html", "HTML"),
)  # fmt: skip
"""As ``_MAGIC``, for kinds that are not read: their names."""

HEAD_BYTES = 4096
"""So many bytes show the kind of a file, and its length."""

_TELL_LENGTH = frozenset({"flac", "mov", "aiff", "au", "caf", "wav", "mxf", "flv"})
_VBR_TAG = re.compile(rb"^.{4,200}?(Xing|Info|VBRI)", re.DOTALL)
"""In the first frame of an MP3 file; it states the number of frames."""
_DURATION = re.compile(rb"\x15\x49\xa9\x66.{1,256}?\x44\x89[\x84\x88]", re.DOTALL)
"""The length element in the segment information of Matroska."""


def find_kind(head: bytes) -> str:
    """The demuxer for a file with these first ``HEAD_BYTES``; empty if these do not suffice."""
    if kind := _named(head, _MAGIC):
        return kind
    if find_packets(head):
        return "mpegts"
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:  # noqa: PLR2004 - MPEG's sync word
        return "mp3" if head[1] & 0x06 else "aac"
    return ""


def unread_kind(head: bytes) -> str:
    """The name of a kind that is not read; empty if it is not known."""
    return _named(head, _UNREAD)


def _named(head: bytes, table: tuple[tuple[int, bytes, str], ...]) -> str:
    return next((name for at, magic, name in table if head.startswith(magic, at)), "")


def states_length(kind: str, reader: Reader) -> bool:
    """Whether the header states the length of the audio; FFmpeg would else guess it from the size."""
    if kind not in {"mp3", "matroska"}:
        return kind in _TELL_LENGTH
    if kind == "mp3" and not reader.seekable():
        return False
    return bool((_VBR_TAG if kind == "mp3" else _DURATION).search(reader.peek(HEAD_BYTES)))


def skip_tags(reader: Reader) -> None:
    """Skip the ID3 tags that MP3, AAC and FLAC files may begin with: they hold pictures of megabytes."""
    while (head := reader.peek(10)).startswith(b"ID3") and len(head) == 10:  # noqa: PLR2004 - the tag's header
        size = sum((byte & 0x7F) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
        reader.skip(10 + size + (10 if head[5] & 0x10 else 0))
