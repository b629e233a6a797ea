"""MPEG's streams for broadcast and discs. In: first bytes. Out: whether they are one, and whether it is encrypted.

FFmpeg decodes an encrypted disc to noise, and finds nothing in an encrypted broadcast.
"""

from collections.abc import Iterator

from transcriber.errors import EncryptedError

LOOK_BYTES = 2**17
"""So many bytes show whether the audio is encrypted."""

_TS_SIZES, _TS_SYNC, _TS_PACKETS = (188, 192, 204), 0x47, 5
"""Packets of MPEG-TS, as broadcast, as on a Blu-ray disc and with parity; each has a sync byte at the same place."""

_SECTOR_BYTES = 2048
_START = b"\0\0\1"
_AUDIO = frozenset({0xBD, 0xFD, *range(0xC0, 0xE0)})
"""Streams that may be audio, by the byte behind the start code."""


def find_packets(head: bytes) -> tuple[int, int] | None:
    """Where the first whole packet of a transport stream begins, and the bytes to the next; None: it is not one.

    A recording may begin in the middle of one.
    """
    for size in _TS_SIZES:
        for start in range(size):
            syncs = head[start : start + _TS_PACKETS * size : size]
            if len(syncs) == _TS_PACKETS and set(syncs) == {_TS_SYNC}:
                return start, size
    return None


def check_clear(head: bytes) -> None:
    """Check that the audio of a disc with these first ``LOOK_BYTES`` is not encrypted.

    Raises:
        EncryptedError: it is encrypted.
    """
    if set(_of_disc(head)) == {True}:
        raise EncryptedError("the audio is encrypted")


def is_scrambled(head: bytes) -> bool:
    """Whether some of a broadcast that begins so is encrypted; it may be the video, or another programme."""
    start, size = find_packets(head) or (0, len(head) + 1)
    return any(head[at + 3] & 0xC0 for at in range(start, len(head) - 3, size))


def _of_disc(head: bytes) -> Iterator[bool]:
    """For each sector of audio, whether it is encrypted."""
    for at in range(0, len(head) - _SECTOR_BYTES + 1, _SECTOR_BYTES):
        sector = head[at : at + _SECTOR_BYTES]
        packet = sector[14 + (sector[13] & 7) :]  # behind the pack's header
        if sector.startswith(_START + b"\xba\x44") and packet.startswith(_START) and packet[3] in _AUDIO:
            yield packet[6] & 0xF0 in {0x90, 0xA0, 0xB0}
