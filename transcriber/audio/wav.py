"""WAV files as they arrive. In: the bytes of a RIFF WAVE file, cut anywhere. Out: its format and its PCM.

Reads PCM of 8, 16, 24 and 32 bits, 32-bit float, mu-law and A-law, WAVE_FORMAT_EXTENSIBLE, and files
whose sizes were never filled in because they came through a pipe.
Memory is bounded by the piece that was fed in.
"""

import struct
import sys

from transcriber.audio.pcm import MAX_CHANNELS, MAX_SAMPLE_RATE, MIN_SAMPLE_RATE, AudioFormat, SampleFormat
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
_HUGE_BYTES = 0x7FFF_0000
"""From here on a size is what a writer into a pipe puts where it cannot know: read to the end, unless the file is that long."""


def is_wav(head: bytes) -> bool:
    """Whether a file that begins with these twelve bytes is one."""
    return head[:4] == b"RIFF" and head[8:12] == b"WAVE"


class WavParser:
    """Takes a WAV file in pieces and gives its samples.

    Attributes:
        format: format of the bytes that come out; None until the audio begins.
        frames: how many frames the header promises; None where it does not know.
    """

    def __init__(self, file_bytes: int | None = None) -> None:
        """``file_bytes``: the file's size, where it is known."""
        self._file_bytes = file_bytes or 0
        self.format: AudioFormat | None = None
        self.frames: int | None = None
        self._pending = bytearray()  # an unfinished header or frame
        self._riff_bytes = -1  # what RIFF claims; -1 before it
        self._header_bytes = 0  # behind the 8 bytes that the RIFF size does not count
        self._skip_bytes = 0  # of a chunk that is not ours
        self._format: AudioFormat | None = None  # read, but the audio has not begun
        self._frame_bytes = 0
        self._audio_bytes: int | None = None  # still to come; None before the audio

    def feed(self, data: bytes) -> bytes:
        """Whole frames of PCM from the next piece of the file; empty within headers and behind the audio.

        Raises:
            BadInputError: not a WAV file, or one of a format that is not read.
        """
        self._pending += data
        while self._audio_bytes is None:
            if not self._read_header():
                return b""
        usable = min(len(self._pending), self._audio_bytes)
        usable -= usable % self._frame_bytes
        pcm = bytes(memoryview(self._pending)[:usable])
        self._audio_bytes -= usable
        # The rest is the start of a frame or, behind the audio, other chunks.
        del self._pending[: usable if self._audio_bytes >= self._frame_bytes else None]
        return pcm

    def _take(self, count: int) -> bytes:
        taken = bytes(memoryview(self._pending)[:count])
        del self._pending[:count]
        self._header_bytes += len(taken)
        return taken

    def _read_header(self) -> bool:
        """Read one more part of the header; False when it is not all there yet."""
        self._skip_bytes -= len(self._take(self._skip_bytes))
        if self._skip_bytes:
            return False
        if self._riff_bytes < 0:
            return self._read_riff()
        if len(self._pending) < 8:  # noqa: PLR2004 - a chunk's name and size
            return False
        name, size = struct.unpack_from("<4sI", self._pending)
        match name:
            case b"fmt ":
                if size > _MAX_FORMAT_BYTES:
                    raise BadInputError(f"the format chunk of the WAV file claims {size} bytes")
                if len(self._pending) < 8 + size:
                    return False
                self._read_format(self._take(8 + size)[8:])
                self._skip_bytes = size % 2
            case b"data":
                self._take(8)
                self._begin_audio(size)
            case _:
                self._skip_bytes = 8 + size + size % 2
        return True

    def _read_riff(self) -> bool:
        # Something else is refused at its first bytes, however slowly the others come.
        if not b"RIFF".startswith(self._pending[:4]) or not b"WAVE".startswith(self._pending[8:12]):
            raise BadInputError("not a WAV file (RIFF WAVE)")
        if len(self._pending) < 12:  # noqa: PLR2004 - RIFF, size, WAVE
            return False
        self._riff_bytes = int.from_bytes(self._take(12)[4:8], "little")
        self._header_bytes = 4
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
        # 0 is the size in a file that was never finished, unless the RIFF goes on behind it.
        unfinished = size == 0 and not self._header_bytes < self._riff_bytes < _HUGE_BYTES
        known = not unfinished and (size < _HUGE_BYTES or 8 + self._header_bytes + size <= self._file_bytes)
        self._audio_bytes = size if known else sys.maxsize
        self.format, self.frames = self._format, size // self._frame_bytes if known else None
