"""ULIDs: 26 characters that sort by time. In: the wall clock and random bits. Out: an identifier."""

import secrets
import time

CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's base 32: no I, L, O or U."""


def new_ulid() -> str:
    """A new ULID: 48 bits of milliseconds since 1970, then 80 random bits.

    ULIDs of one millisecond are in no particular order.

    >>> ulid = new_ulid()
    >>> len(ulid), set(ulid) <= set(CROCKFORD), ulid[0] < "8"
    (26, True, True)
    """
    value = time.time_ns() // 1_000_000 << 80 | secrets.randbits(80)
    return "".join(CROCKFORD[value >> shift & 31] for shift in range(125, -1, -5))
