"""Where reading a damaged WebM stream resumes. In: its bytes, and the number of the audio track. Out: a place.

That is a recording, a cluster, or a block of the audio track that is followed by another element.
"""

import re
from functools import cache

from transcriber.audio.codecs.ebml import header
from transcriber.audio.codecs.matroska import track_bytes

MAX_AUDIO_BLOCK_BYTES = 2**14
"""A damaged size defers at most so many bytes: some seconds of speech."""

MAX_PCM_BLOCK_BYTES = 2**16
"""As above, where blocks hold samples."""

_KEPT_BYTES = 32
"""So many bytes at the end may be an incomplete beginning."""

_SIZE = rb"(?:[\x81-\xfe]|[\x40-\x7f].|[\x20-\x3f]..|\x10...|\x01.{7})"
_TOP = rb"\x1a\x45\xdf\xa3|\x1f\x43\xb6\x75" + _SIZE.replace(rb"\xfe", rb"\xff") + rb"[\xe7\xbf\xec\xab\xa7\xa3\xa0]"
_FOLLOWING = bytes.fromhex("a3 a0 ec bf ab a7 e7 1f 1a 1c 12 58")
"""First bytes of elements that may follow a block."""


def find_resync_point(
    data: bytearray, at: int, track: int | None, most: int = MAX_AUDIO_BLOCK_BYTES
) -> tuple[int, bool]:
    """The first place from ``at`` on, and True; or where to continue searching with more bytes, and False.

    ``most``: bytes of a block.
    """
    undecided = max(at, len(data) - _KEPT_BYTES)
    pattern = _places(track_bytes(track) if track else None)
    while match := pattern.search(data, at):
        start = match.start()
        end = start if match["top"] else _end_of_block(data, start, most)
        if end > len(data):
            undecided = min(undecided, start)
        elif match["top"] or (end and data[end : end + 1] in _FOLLOWING):  # or nothing follows yet
            return start, True
        at = start + 1
    return undecided, False


@cache
def _places(track: bytes | None) -> re.Pattern[bytes]:
    """A recording, a cluster, or a block of ``track``; of any track if it is None."""
    number = rb"[\x81-\x8f]" if track is None else re.escape(track)
    return re.compile(
        rb"(?P<top>" + _TOP + rb")|\xa0" + _SIZE + rb"\xa1" + _SIZE + number + rb"..[\x00-\x0f]"
        rb"|\xa3" + _SIZE + number + rb"..[\x00-\x0f\x80-\x8f]",
        re.DOTALL,
    )


def _end_of_block(data: bytearray, start: int, most: int) -> int:
    """Where the block ends that seems to begin at ``start``; 0 if there is none."""
    element = header(data, start)
    if element is None or element.size is None or element.size > most:
        return 0
    return element.body + element.size
