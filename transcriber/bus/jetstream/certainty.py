"""What is not there according to a leader that may be none any more. In: a question. Out: its answer, if that can be believed.

A broker that was cut off from the others, or stood still, takes itself for the leader of a JetStream stream for up to 20 s more, and
answers without what was stored since. What it does not store, it cannot confirm either: writing is safe. But where nothing is found,
and something would be given up for that, the answer must be the leader's.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from transcriber.bus.jetstream.client import JetStream
from transcriber.errors import UnansweredError

Found = TypeVar("Found")

ANSWERED_S = 3.0
"""Every copy answers its leader each second."""

LEARNT_S = 2.0
"""Until a leader that was replaced, and can be reached by us, has learnt that from the others."""


async def surely(jetstream: JetStream, stream: str, ask: Callable[[], Awaitable[Found | None]]) -> Found | None:
    """What ``ask`` finds of a JetStream stream; None only if it is certain that there is nothing.

    Raises:
        UnansweredError: it is not certain. What ``ask`` raises.
    """
    found = await ask()
    if found is None and await confirm_leader(jetstream, stream):
        found = await ask()
    return found


async def confirm_leader(jetstream: JetStream, stream: str) -> bool:
    """Wait until what the leader of ``stream`` says can be believed; False: no wait was needed, there is only one copy.

    Raises:
        UnansweredError: the broker that answers has no answers of most copies. RefusedError.
    """
    info = await jetstream.call(f"STREAM.INFO.{stream}")
    if not _others(info):
        return False
    if not is_led(info):
        raise UnansweredError(f"the leader of {stream} is cut off from the other copies")
    await asyncio.sleep(LEARNT_S)
    return True


def is_led(info: dict[str, Any]) -> bool:
    """Whether the broker that gave this answer to ``STREAM.INFO`` has just had answers of most copies, its own included."""
    others = _others(info)
    answered = [other for other in others if not other.get("offline") and other.get("active", 0) < ANSWERED_S * 1e9]
    return 2 * (1 + len(answered)) > 1 + len(others)


def _others(info: dict[str, Any]) -> list[dict[str, Any]]:
    replicas: list[dict[str, Any]] | None = (info.get("cluster") or {}).get("replicas")
    return replicas or []
