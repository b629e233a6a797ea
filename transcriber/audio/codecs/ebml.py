"""EBML (RFC 8794), the language of WebM: elements with an id and a size.

In: bytes. Out: ids, sizes, numbers.
"""

from collections.abc import Iterator
from typing import NamedTuple

from transcriber.errors import BadInputError

MAX_ID_BYTES = 4
MAX_SIZE_BYTES = 8


class Element(NamedTuple):
    """An element's header.

    Attributes:
        id: with its length marker, as in published tables.
        body: where its content begins.
        size: bytes of its content; None: not known.
    """

    id: int
    body: int
    size: int | None


def header(data: bytes | bytearray, at: int) -> Element | None:
    """The header at ``at``; None if it is not complete.

    Raises:
        BadInputError: no element begins like this.
    """
    if at >= len(data):
        return None
    id_bytes = 9 - data[at].bit_length()
    if id_bytes > MAX_ID_BYTES:
        raise BadInputError("no EBML element begins here")
    if at + id_bytes >= len(data):
        return None
    found = number(data, at + id_bytes)
    if found is None:
        return None
    size, body = found
    return Element(int.from_bytes(data[at : at + id_bytes], "big"), body, size)


def number(data: bytes | bytearray, at: int) -> tuple[int | None, int] | None:
    """The number of variable length at ``at``, and where it ends; all ones are None. None if it is not complete.

    Raises:
        BadInputError: longer than eight bytes.
    """
    if at >= len(data):
        return None
    length = 9 - data[at].bit_length()
    if length > MAX_SIZE_BYTES:
        raise BadInputError("an EBML number of more than eight bytes")
    if at + length > len(data):
        return None
    ones = (1 << 7 * length) - 1
    value = int.from_bytes(data[at : at + length], "big") & ones
    return None if value == ones else value, at + length


def children(body: bytes) -> Iterator[tuple[int, bytes]]:
    """Ids and contents of the elements in a master element.

    Raises:
        BadInputError: they do not fill it.
    """
    at = 0
    while at < len(body):
        element = header(body, at)
        if element is None or element.size is None or element.body + element.size > len(body):
            raise BadInputError("an EBML element that is larger than the one around it")
        at = element.body + element.size
        yield element.id, body[element.body : at]


def unsigned(body: bytes) -> int:
    return int.from_bytes(body, "big")


def signed(body: bytes) -> int:
    return int.from_bytes(body, "big", signed=True)
