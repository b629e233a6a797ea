"""What JetStream stores. In: a subject. Out: the stream that stores it, and where its messages are; None in live mode."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

from nats import errors as nats_errors

from transcriber.bus.connection import Connection
from transcriber.bus.jetstream.client import ANSWER_S, PAGE, PAGE_BYTES, JetStream, Stored, parse_answer
from transcriber.errors import UnansweredError


@dataclass(frozen=True, slots=True)
class Storage:
    """Where the messages of a subject are stored.

    Attributes:
        name: of the JetStream stream.
        filter: subject of the stored messages; has wildcards where they are partitioned.
        last_seq: of the JetStream stream, when this was read.
    """

    name: str
    filter: str
    last_seq: int


async def storage_of(connection: Connection, subject: str) -> Storage | None:
    """The storage of ``subject``, which may end in a wildcard; None if no JetStream stream stores it.

    Raises:
        UnansweredError: the broker is away or does not answer.
    """
    if not connection.connected:
        raise UnansweredError("the broker is away")
    question = json.dumps({"subject": subject}).encode()
    try:
        message = await connection.client.request("$JS.API.STREAM.LIST", question, timeout=ANSWER_S)
    except nats_errors.NoRespondersError:
        return None  # no JetStream
    except (TimeoutError, nats_errors.Error, OSError):
        raise UnansweredError("the broker does not answer") from None
    found = (parse_answer(message) or {}).get("streams") or ()
    for one in found:
        config = one["config"]
        prefix, _, last = subject.rpartition(".")
        parted = f"{prefix}.*.{last}" if config.get("subject_transform") else subject
        return Storage(config["name"], parted, one["state"]["last_seq"])
    return None


async def text_storage_of(connection: Connection, subject: str) -> Storage | None:
    """The storage of all messages on ``<subject>.<type>``, a stream's text; None in live mode.

    Raises:
        UnansweredError: as ``storage_of``.
    """
    found = await storage_of(connection, f"{subject}.final")
    return found and replace(found, filter=f"{subject}.*")


async def stored_from(jetstream: JetStream, storage: Storage, seq: int) -> AsyncIterator[list[Stored]]:
    """Pages of the stored messages from ``seq`` on, in order, until there are no more.

    Raises:
        UnansweredError, RefusedError.
    """
    while page := await jetstream.page(
        storage.name, batch=PAGE, max_bytes=PAGE_BYTES, seq=seq, next_by_subj=storage.filter
    ):
        yield page
        seq = page[-1].seq + 1
