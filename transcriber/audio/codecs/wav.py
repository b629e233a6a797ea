"""WAV files as their bytes arrive. In: the bytes of a RIFF WAVE file, cut anywhere. Out: its format and its PCM.

Reads PCM of 8, 16, 24 and 32 bits, 32-bit float, mu-law and A-law, WAVE_FORMAT_EXTENSIBLE, the long forms RF64 and BW64, and
files whose sizes are wrong: never filled in because they came through a pipe, filled in too early, or wrapped at 4 GiB. Audio
ends where something else begins, whatever the sizes claim.
Memory is bounded by the piece that was fed in.
"""

import re
import struct
import sys
from typing import Literal

from transcriber.audio.format import MAX_CHANNELS, MAX_SAMPLE_RATE, MIN_SAMPLE_RATE, AudioFormat, SampleFormat
from transcriber.errors import BadInputError

_PCM, _FLOAT, _ALAW, _MULAW, _EXTENSIBLE = 1, 3, 6, 7, 0xFFFE
_SAMPLE_FORMATS = {
    (_PCM, 8): SampleFormat.U8,
    (_PCM, 16): SampleFormat.S16LE,
    (_PCM, 24): SampleFormat.S24LE,
    (_PCM, 32): SampleFormat.S32LE,
    (_FLOAT, 32): SampleFormat.F32LE,
    (_ALAW, 8): SampleFormat.ALAW,
    (_MULAW, 8): SampleFormat.MULAW,
}
_SUBFORMAT_TAIL = bytes.fromhex("000000001000800000aa00389b71")
"""What follows the format tag in the GUID of an extensible format."""

_MAX_FORMAT_BYTES = 1024
HUGE_BYTES = 0x7FFF_0000
"""From here on a size is a placeholder of a writer into a pipe: the file is read to its end, unless it is that long."""
_UNLIKELY_BYTES, _UNLIKELY = 2**29, 8
"""So is a size from here on if the file has less than an eighth of it: 1 000 000 000, 2 000 000 000 and the like."""

_KINDS = (b"RIFF", b"RF64", b"BW64")
BEGINNING = re.compile(rb"R(?:IFF|F64).{4}WAVE(?:fmt |ds64|JUNK|junk|bext|LIST|PAD )", re.DOTALL)
"""The beginning of a WAV file, and of nothing else. With the letter in front the search is ten times as fast."""
_BEGINNING_BYTES = 16
_CHUNKS = frozenset({
    b"LIST", b"list", b"INFO", b"id3 ", b"ID3 ", b"fact", b"cue ", b"plst", b"smpl", b"inst", b"bext", b"iXML", b"axml", b"chna", b"umid",
    b"JUNK", b"junk", b"PAD ", b"FLLR", b"Fake", b"PEAK", b"LGWV", b"_PMX", b"aXML", b"acid", b"strc", b"afsp", b"cart", b"levl", b"link",
    b"data", b"note", b"labl", b"DISP", b"MEXT", b"qlty", b"mext", b"regn", b"minf", b"elm1", b"ovwf", b"umd ", b"SAUR", b"ResU", b"tlst",
})  # fmt: skip
"""Chunks that are known to follow audio."""
TRAILER_BYTES = 1024
"""Up to so many unknown bytes are taken for a trailer of some other program; more are audio."""
_MAX_CHUNK_BYTES = 2**20
"""Limit of a chunk with an unknown name, where the size of the file is not known."""


def is_wav(head: bytes) -> bool:
    """Whether a file that begins with these twelve bytes is one."""
    return head[:4] in _KINDS and head[8:12] == b"WAVE"


def is_placeholder(claimed_bytes: int, file_bytes: int) -> bool:
    """Whether a claimed size, larger than the file (0: size not known), is a placeholder."""
    return claimed_bytes >= HUGE_BYTES or (
        claimed_bytes >= _UNLIKELY_BYTES and bool(file_bytes) and file_bytes * _UNLIKELY < claimed_bytes
    )


def what_follows(
    behind: bytes, left_bytes: int | None, order: Literal["little", "big"] = "little"
) -> Literal["chunk", "file", "audio"]:
    """What begins where audio should end: with these bytes, twelve if there are as many, of ``left_bytes`` in all if known."""
    if is_wav(behind[:12]) or (behind[:4] == b"FORM" and behind[8:11] == b"AIF"):
        return "file"
    name, size = behind[:4], int.from_bytes(behind[4:8], order)
    if name in _CHUNKS:
        return "chunk"
    printable = len(name) == 4 and all(0x20 <= byte < 0x7F for byte in name)  # noqa: PLR2004 - ASCII
    fits = 8 + size <= left_bytes if left_bytes is not None else size <= _MAX_CHUNK_BYTES
    return "chunk" if printable and fits else "audio"


class WavParser:
    """Takes a WAV file in pieces and gives its samples.

    Attributes:
        format: format of the bytes that come out; None until the audio begins.
        frames: how many frames there are, by the header and the file's size; None where these do not say.
        claimed: how many the header claims, where that is more; 0: it does not, or it is a placeholder.
        audio_end: where the audio should end, in bytes of the file; None where that is not known.
        behind: first bytes of another file behind it, once that is found; nothing more is to be fed then.
    """

    def __init__(self, file_bytes: int | None = None) -> None:
        """``file_bytes``: the file's size, where it is known."""
        self._file_bytes = file_bytes or 0
        self.format: AudioFormat | None = None
        self.frames: int | None = None
        self.claimed = 0
        self.audio_end: int | None = None
        self.behind: bytes | None = None
        self._pending = bytearray()  # an unfinished header or frame, or what may be another file
        self._at = 0  # of what is pending, in bytes of the file
        self._riff_bytes = -1  # what RIFF claims; -1 before it
        self._long_bytes: int | None = None  # the size of the audio, where it is too long for its own chunk
        self._skip_bytes = 0  # of a chunk that is ignored
        self._format: AudioFormat | None = None  # read, but the audio has not begun
        self._frame_bytes = 0
        self._audio_bytes: int | None = None  # still to come in this chunk; None outside of one
        self._over = False  # what follows is no audio

    def feed(self, data: bytes) -> bytes:
        """Whole frames of PCM from the next piece of the file; empty within headers and behind the audio.

        Raises:
            BadInputError: not a WAV file, or one of a format that is not read.
        """
        self._pending += data
        return self._read(last=False)

    def finish(self) -> bytes:
        """No more will arrive: the frames that were held back because they might have been something else."""
        return self._read(last=True)

    def _read(self, *, last: bool) -> bytes:
        pcm = b""
        while not self._over:
            if self._audio_bytes is None:
                if not self._read_header():
                    break
            else:
                pcm += self._read_audio(last=last)
                if self._audio_bytes >= self._frame_bytes or not self._look_behind(last=last):
                    break
        if self._over:
            self._pending.clear()
        return pcm

    def _read_audio(self, *, last: bool) -> bytes:
        """The frames of this chunk that have arrived."""
        left = self._audio_bytes or 0
        usable = min(len(self._pending), left)
        if left > sys.maxsize // 2:  # its end is not known
            if found := BEGINNING.search(self._pending):
                usable = found.start()
                self._end(usable)
            elif not last:
                usable = max(0, usable - _BEGINNING_BYTES + 1)
        usable -= usable % self._frame_bytes
        self._audio_bytes = left - usable
        return self._take(usable)

    def _look_behind(self, *, last: bool) -> bool:
        """The audio should be over: find out whether it is. False if more bytes are needed."""
        rest = self._audio_bytes or 0  # part of a frame
        left_bytes = self._file_bytes - self._at - rest if self._file_bytes else None
        if self._over or (len(self._pending) < rest + 13 and not last):
            return self._over
        for start in {rest + (self._at + rest) % 2, rest}:
            behind = bytes(self._pending[start : start + 12])
            match what_follows(behind, left_bytes) if len(behind) > 7 else "":  # noqa: PLR2004 - a name and a size
                case "file":
                    self._end(start)
                    return True
                case "chunk":
                    self._take(start)
                    self._audio_bytes = None
                    return True
                case _:
                    pass
        if len(self._pending) - rest > TRAILER_BYTES:
            self._audio_bytes, self.frames, self.audio_end = sys.maxsize, None, None  # the size was too small
            return True
        self._over = last
        return last

    def _end(self, count: int) -> None:
        """Another file begins after so many of the bytes that are pending."""
        self.behind, self._over = bytes(self._pending[count:]), True

    def _take(self, count: int) -> bytes:
        taken = bytes(memoryview(self._pending)[:count])
        del self._pending[:count]
        self._at += len(taken)
        return taken

    def _read_header(self) -> bool:
        """Read one more part of the header; False when it is not complete."""
        self._skip_bytes -= len(self._take(self._skip_bytes))
        if self._skip_bytes:
            return False
        if self._riff_bytes < 0:
            return self._read_riff()
        if len(self._pending) < 8:  # noqa: PLR2004 - a chunk's name and size
            return False
        name, size = struct.unpack_from("<4sI", self._pending)
        return self._read_chunk(name, size) if self.format is None else self._read_trailer(name, size)

    def _read_chunk(self, name: bytes, size: int) -> bool:
        """A chunk before the audio, or its beginning."""
        match name:
            case b"fmt ":
                if size > _MAX_FORMAT_BYTES:
                    raise BadInputError(f"the format chunk of the WAV file claims {size} bytes")
                if len(self._pending) < 8 + size:
                    return False
                self._read_format(self._take(8 + size)[8:])
                self._skip_bytes = size % 2
            case b"ds64":
                if len(self._pending) < 24:  # noqa: PLR2004 - its size, that of the file, that of the audio
                    return False
                self._long_bytes = int.from_bytes(self._pending[16:24], "little")
                self._skip_bytes = 8 + size + size % 2
            case b"data":
                self._take(8)
                self._begin_audio(size)
            case _:
                self._skip_bytes = 8 + size + size % 2
        return True

    def _read_trailer(self, name: bytes, size: int) -> bool:
        """A chunk behind the audio."""
        if len(self._pending) < 12 and name in _KINDS:  # noqa: PLR2004 - the length of a RIFF header
            return False
        match what_follows(bytes(self._pending[:12]), None):
            case "file":
                self._end(0)
            case "chunk" if name == b"data":
                self._take(8)
                self._audio_bytes = size
            case "chunk":
                self._skip_bytes = 8 + size + size % 2
            case _:
                self._over = True
        return not self._over

    def _read_riff(self) -> bool:
        # Anything else is refused at its first bytes, however slowly the others arrive.
        begun = bytes(self._pending[:4])
        if not any(kind.startswith(begun) for kind in _KINDS) or not b"WAVE".startswith(self._pending[8:12]):
            raise BadInputError("not a WAV file (RIFF WAVE)")
        if len(self._pending) < 12:  # noqa: PLR2004 - RIFF, size, WAVE
            return False
        self._riff_bytes = int.from_bytes(self._take(12)[4:8], "little")
        return True

    def _read_format(self, chunk: bytes) -> None:
        if len(chunk) < 16:  # noqa: PLR2004 - the oldest form
            raise BadInputError(f"the format chunk of the WAV file has only {len(chunk)} bytes")
        tag, channels, rate, _, frame_bytes, bits = struct.unpack_from("<HHIIHH", chunk)
        if tag == _EXTENSIBLE and chunk[26:40] == _SUBFORMAT_TAIL:
            tag = int.from_bytes(chunk[24:26], "little")
        sample = _SAMPLE_FORMATS.get((tag, bits))
        if sample is None:
            raise BadInputError(f"WAV format {tag:#x} with {bits} bits is not read")
        if not 1 <= channels <= MAX_CHANNELS:
            raise BadInputError(f"{channels} channels; 1 or {MAX_CHANNELS} are read")
        if not MIN_SAMPLE_RATE <= rate <= MAX_SAMPLE_RATE:
            raise BadInputError(f"{rate} Hz; {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE} are read")
        if frame_bytes != channels * bits // 8:
            raise BadInputError(f"{frame_bytes} bytes a frame do not fit {channels} channels of {bits} bits")
        self._format = AudioFormat(sample, rate, channels)
        self._frame_bytes = frame_bytes

    def _begin_audio(self, size: int) -> None:
        if self._format is None:
            raise BadInputError("the WAV file has audio before its format")
        if size == 2**32 - 1 and self._long_bytes:
            size = self._long_bytes
        room = self._file_bytes - self._at if self._file_bytes else None
        # 0 is the size in a file that was never finished, unless the RIFF continues behind it.
        unfinished = size == 0 and not self._at - 8 < self._riff_bytes < HUGE_BYTES
        known = not unfinished and (size <= room if room is not None else size < HUGE_BYTES)
        self._audio_bytes = size if known else sys.maxsize
        self.audio_end = self._at + size if known else None
        self.format, frames = self._format, size // self._frame_bytes
        if room is None:
            self.frames = frames if known and size < _UNLIKELY_BYTES else None
            self.claimed = self.frames or 0
        else:
            self.frames = frames if known else room // self._frame_bytes
            self.claimed = 0 if known or is_placeholder(size, self._file_bytes) else frames


class WavFiles:
    """Takes WAV files of one format, one behind the other, in pieces and gives their samples.

    Attributes:
        frames: of the first one, as in ``WavParser``.
    """

    def __init__(self, file_bytes: int | None = None) -> None:
        self._parser = WavParser(file_bytes)
        self.format: AudioFormat | None = None
        self.frames: int | None = None
        self._error: BadInputError | None = None

    def feed(self, data: bytes) -> bytes:
        """As ``WavParser.feed``.

        Raises:
            BadInputError: the same, or a file behind it has another format, or is none that is read.
        """
        if self._error:
            raise self._error
        return self._with_following(self._parser.feed(data), last=False)

    def finish(self) -> bytes:
        """As ``WavParser.finish``; raises as ``feed``."""
        pcm = self._with_following(self._parser.finish(), last=True)
        if self._error:
            raise self._error
        return pcm

    def _with_following(self, pcm: bytes, *, last: bool) -> bytes:
        """These samples and those of files that follow; an error in one is raised after the samples before it."""
        pcm = self._of_format(pcm)
        while self._error is None and (behind := self._parser.behind) is not None:
            self._parser = WavParser()
            try:
                pcm += self._of_format(self._parser.feed(behind) + (self._parser.finish() if last else b""))
            except BadInputError as error:
                self._error = error
        return pcm

    def _of_format(self, pcm: bytes) -> bytes:
        fmt = self._parser.format
        if self.format is None:
            self.format, self.frames = fmt, self._parser.frames
        elif fmt is not None and fmt != self.format:
            self._error = BadInputError(f"another WAV file behind it has another format: {fmt.content_type}")
            return b""
        return pcm
