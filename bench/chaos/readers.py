"""What the broker has stored, and how far it has been read. In: a connection. Out: the messages of both JetStream streams."""

import asyncio

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from bench.chaos.proof import Acknowledged, StoredAudio, StoredText
from bench.chaos.world import AUDIO, TEXT
from transcriber.schema.messages import ANY_MESSAGE

_BATCH = 1000
_TRIES = 20
_KEPT_S = 600.0
"""A consumer that nobody reads from: by default it is gone after 5 s, and on a busy machine a reader waits longer for its turn."""


async def consumers(client: Client) -> dict[str, Acknowledged]:
    """By stream: a consumer's name is ``transcriber-STREAM``."""
    found, offset = {}, 0
    while page := await client.jetstream().consumers_info(AUDIO, offset=offset):
        offset += len(page)
        for info in page:
            if info.name.startswith("transcriber-") and info.ack_floor:
                pending = (info.num_pending or 0) + (info.num_ack_pending or 0)
                # Before nats-server 2.14 a reset makes the consumer again, which knows where it begins, not what was before.
                floor = max(info.ack_floor.stream_seq, (info.config.opt_start_seq or 1) - 1)
                found[info.name.removeprefix("transcriber-")] = Acknowledged(floor, pending)
    return found


async def read_audio(client: Client) -> list[StoredAudio]:
    """Every message of the stream of audio, without its payload."""
    return [
        StoredAudio(message.metadata.sequence.stream, message.subject.rpartition(".")[2], _id(message))
        for message in await _read_all(client, AUDIO, headers_only=True)
    ]


async def read_back(client: Client) -> tuple[list[StoredAudio], list[StoredText]]:
    """Both."""
    return await read_audio(client), await read_texts(client)


async def read_texts(client: Client) -> list[StoredText]:
    """Every message of the stream of transcripts."""
    return [StoredText(_id(m), ANY_MESSAGE.validate_json(m.data)) for m in await _read_all(client, TEXT)]


def _id(message: Msg) -> str:
    return (message.headers or {}).get("Nats-Msg-Id", "")


async def _read_all(client: Client, stream: str, *, headers_only: bool = False) -> list[Msg]:
    """Every message of a JetStream stream, in the order in which it was stored; again from the first on if there is no leader."""
    for _ in range(_TRIES - 1):
        try:
            return await _read_once(client, stream, headers_only=headers_only)
        except (Error, OSError):
            await asyncio.sleep(1.0)
    return await _read_once(client, stream, headers_only=headers_only)


async def _read_once(client: Client, stream: str, *, headers_only: bool) -> list[Msg]:
    jetstream = client.jetstream()
    config = ConsumerConfig(
        ack_policy=AckPolicy.NONE, deliver_policy=DeliverPolicy.ALL, headers_only=headers_only, mem_storage=True,
        inactive_threshold=_KEPT_S,
    )  # fmt: skip
    count = (await jetstream.stream_info(stream)).state.messages
    reader = await jetstream.pull_subscribe("", stream=stream, config=config)
    messages: list[Msg] = []
    while len(messages) < count:
        messages += await reader.fetch(min(_BATCH, count - len(messages)), timeout=5)
    await jetstream.delete_consumer(stream, (await reader.consumer_info()).name)
    await reader.unsubscribe()
    return messages
