"""Stored messages by sequence: listed without their payloads, and erased for good.

In: a stream and a subject. Out: sequence, size and, if wanted, payload of each; after ``erase`` none of them.

A purge by subject (``STREAM.PURGE``) takes messages out of the stream's index and leaves their bytes in its files until a whole block
is given up. ``STREAM.MSG.DELETE`` without ``no_erase`` overwrites them.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from nats import errors as nats_errors
from nats.aio.msg import Msg

from transcriber.bus.jetstream.admin import CONSUMER_NOT_FOUND
from transcriber.bus.jetstream.client import ANSWER_S, JetStream
from transcriber.errors import RefusedError, UnansweredError
from transcriber.tasks import cancel
from transcriber.ulid import new_ulid

CONSUMER = "purge"
"""The consumer that lists. One name, so that a user may be given this one alone, and two lists of one stream are not made at once."""

CONSUMER_IDLE_S = 5.0
"""After which the broker removes it, where its client died."""

NAME_IN_USE = frozenset({10013, 10105, 10148})
"""JetStream's codes for a consumer of that name that is another's."""

WAITS = 20
"""Attempts, half a second apart, while another client lists."""

MESSAGE_NOT_FOUND = frozenset({10037, 10043, 10057})
"""JetStream's codes for a sequence that is not stored any more."""

BATCH = 1000
AT_ONCE = 32
"""Messages erased together."""

RETRIES, RETRY_S = 20, 0.5


@dataclass(frozen=True, slots=True)
class Listed:
    """A stored message; ``size_bytes`` is that of its payload, which is empty unless it was asked for."""

    seq: int
    stored_at: datetime
    size_bytes: int
    payload: bytes


async def listed(
    jetstream: JetStream, stream: str, subject: str, last_seq: int, *, payloads: bool = False
) -> AsyncIterator[Listed]:
    """The messages of ``subject``, which may have wildcards, in order, up to ``last_seq``.

    Raises:
        UnansweredError: also where another client lists the same stream, or where the connection was lost and messages with
            it. RefusedError: also where there is no such stream.
    """
    found = await jetstream.call(f"STREAM.INFO.{stream}", {"subjects_filter": subject})
    if not found["state"].get("subjects"):  # a consumer of nothing would only wait
        return
    await _make_consumer(jetstream, stream, subject, payloads=payloads)
    subscription = None
    received = 0
    try:
        subscription = await jetstream.client.jetstream().pull_subscribe_bind(CONSUMER, stream)
        pending = 1
        while pending:
            for message in await subscription.fetch(BATCH, timeout=ANSWER_S):
                one, pending = _listed(message)
                received += 1
                if message.metadata.sequence.consumer != received:
                    # Nothing is acknowledged: what was lost does not come again.
                    raise UnansweredError(f"{stream} is not listed: messages were lost on their way")
                if one.seq > last_seq:
                    return
                yield one
    except TimeoutError:
        await _check_all_came(jetstream, stream, received)  # the rest may have been removed meanwhile
    except (nats_errors.Error, OSError) as error:
        raise UnansweredError(f"{stream} is not listed: {str(error) or type(error).__name__}") from None
    finally:
        if subscription is not None:
            await subscription.unsubscribe()
        with suppress(UnansweredError):  # it goes by itself
            await _remove_consumer(jetstream, stream)


async def _check_all_came(jetstream: JetStream, stream: str, received: int) -> None:
    """Whether the consumer has nothing left and has sent no more than was ``received``.

    Raises:
        UnansweredError: it has, or that is not known.
    """
    try:
        info = await jetstream.call(f"CONSUMER.INFO.{stream}.{CONSUMER}")
    except RefusedError as error:
        if error.code != CONSUMER_NOT_FOUND:
            raise
        raise UnansweredError(f"{stream} is not listed: the broker was away for too long") from None
    if info["num_pending"] or info["delivered"]["consumer_seq"] != received:
        raise UnansweredError(f"{stream} is not listed: the broker did not answer in time")


async def erase(jetstream: JetStream, stream: str, sequences: Iterable[int]) -> None:
    """Remove messages, and overwrite their bytes on disk; those that are gone are left out.

    Raises:
        UnansweredError: not all of them are removed; it may be tried again. RefusedError.
    """
    queue = iter(sequences)

    async def work() -> None:
        for seq in queue:
            await _erase_one(jetstream, stream, seq)

    tasks = [asyncio.create_task(work()) for _ in range(AT_ONCE)]
    try:
        await asyncio.gather(*tasks)
    finally:
        await cancel(tasks)


async def _erase_one(jetstream: JetStream, stream: str, seq: int) -> None:
    for left in reversed(range(RETRIES)):
        try:
            await jetstream.call(f"STREAM.MSG.DELETE.{stream}", {"seq": seq, "no_erase": False})
        except RefusedError as error:
            if error.code not in MESSAGE_NOT_FOUND:
                raise
            return
        except UnansweredError:
            if not left:
                raise
            await asyncio.sleep(RETRY_S)
        else:
            return


async def _remove_consumer(jetstream: JetStream, stream: str) -> None:
    try:
        await jetstream.call(f"CONSUMER.DELETE.{stream}.{CONSUMER}")
    except RefusedError as error:
        if error.code != CONSUMER_NOT_FOUND:
            raise


async def _make_consumer(jetstream: JetStream, stream: str, subject: str, *, payloads: bool) -> None:
    config: dict[str, Any] = {
        "name": CONSUMER, "filter_subject": subject, "deliver_policy": "all", "ack_policy": "none",
        "headers_only": not payloads, "mem_storage": True, "num_replicas": 1, "inactive_threshold": int(CONSUMER_IDLE_S * 1e9),
        "metadata": {"by": new_ulid()},  # a configuration that is the same would be answered with the other client's consumer
    }  # fmt: skip
    body = {"stream_name": stream, "config": config, "action": "create"}
    for left in reversed(range(WAITS)):
        try:
            await jetstream.call(f"CONSUMER.CREATE.{stream}.{CONSUMER}.{subject}", body)
        except RefusedError as error:
            if error.code not in NAME_IN_USE:
                raise
            if not left:
                raise UnansweredError(f"another client lists {stream} already: retry when it is done") from None
            await asyncio.sleep(RETRY_S)
        else:
            return


def _listed(message: Msg) -> tuple[Listed, int]:
    """A delivery, and how many follow it."""
    metadata = message.metadata
    size = (message.headers or {}).get("Nats-Msg-Size")
    size_bytes = len(message.data) if size is None else int(size)
    one = Listed(metadata.sequence.stream, metadata.timestamp, size_bytes, message.data)
    return one, metadata.num_pending
