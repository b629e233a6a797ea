"""What kind of file is it? In: its first bytes. Out: the demuxer that is to read it, and whether it tells its length."""

import re

from transcriber.audio.sources import Reader, read_exactly

_MAGIC = (
    (0, b"fLaC", "flac"), (0, b"OggS", "ogg"), (0, b"\x1a\x45\xdf\xa3", "matroska"), (0, b".snd", "au"), (0, b"caff", "caf"),
    (0, b"FORM", "aiff"), (0, b"RIFF", "wav"), (0, b"RF64", "wav"),
    (4, b"ftyp", "mov"), (4, b"moov", "mov"), (4, b"mdat", "mov"), (4, b"free", "mov"), (4, b"skip", "mov"), (4, b"wide", "mov"),
)  # fmt: skip
"""Where in a file which bytes lie, and the demuxer that it belongs to."""

_TELL_LENGTH = frozenset({"flac", "mov", "aiff", "au", "caf", "wav"})
_VBR_TAG = re.compile(rb"^.{4,200}?(Xing|Info|VBRI)", re.DOTALL)
"""In the first frame of an MP3 file; it tells how many there are."""
_DURATION = re.compile(rb"\x15\x49\xa9\x66.{1,256}?\x44\x89[\x84\x88]", re.DOTALL)
"""In the segment information of Matroska: the element of the length."""
_HEADER_BYTES = 4096


def find_kind(head: bytes) -> str:
    """The demuxer for a file that begins so; empty where only a closer look can tell."""
    for at, magic, kind in _MAGIC:
        if head[at : at + 4] == magic:
            return kind
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:  # noqa: PLR2004 - MPEG's sync word
        return "mp3" if head[1] & 0x06 else "aac"
    return ""


def tells_length(kind: str, reader: Reader) -> bool:
    """Whether the header tells how long the audio is; FFmpeg would else guess it from the size."""
    if kind not in {"mp3", "matroska"}:
        return kind in _TELL_LENGTH
    if not reader.seekable():
        return False
    head = read_exactly(reader.source, reader.start, _HEADER_BYTES)
    return bool((_VBR_TAG if kind == "mp3" else _DURATION).search(head))


def skip_tags(reader: Reader) -> None:
    """Go behind the ID3 tags that MP3, AAC and FLAC files may begin with: they hold pictures of megabytes."""
    while (head := reader.peek(10)).startswith(b"ID3") and len(head) == 10:  # noqa: PLR2004 - the tag's header
        size = sum((byte & 0x7F) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
        reader.skip(10 + size + (10 if head[5] & 0x10 else 0))
