"""What becomes of memory that whisper.cpp frees: of glibc alone; with another C library nothing here does anything."""

import ctypes

LARGE_BYTES = 4 << 20
"""No window needs a block of that size; a model's weights and its states do."""

_MMAP_THRESHOLD = -3


def return_large_blocks() -> None:
    """From now on blocks of ``LARGE_BYTES`` or more go back to the system when they are freed.

    By default glibc raises that size to that of the largest block freed so far, up to 32 MiB, and keeps the buffers of a state in its heap, in
    pieces: after 60 swaps between tiny.en and base by 17 and 20 MB more than after the first ones, and with this none.
    """
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(_MMAP_THRESHOLD, LARGE_BYTES)


def return_freed() -> None:
    """Give the system what was freed, which is kept in the arenas of the threads that allocated it."""
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)
