"""What we ask of JetStream, beyond nats-py: stored messages, the fence, a consumer put back to where it must go on.

In: requests. Out: answers, or one of two errors: ``UnansweredError``, which time may mend, and ``RefusedError``, which it may not.
"""

import base64
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from nats import errors as nats_errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from transcriber.bus.connection import Connection
from transcriber.errors import RefusedError, UnansweredError

ANSWER_S = 5.0
"""How long an answer may take: a broker that syncs every message to disk needs some hundred milliseconds."""

RESET_SINCE = (2, 14)
"""The server from which on a consumer can be put back without being made again."""

PIN_GROUP, PIN_S = "transcriber", 10.0
"""The priority group of our consumers; one reader of it is pinned until it has asked for nothing for so long."""

FENCE = "Nats-Expected-Last-Subject-Sequence"
"""Header with the sequence of the message that ours follows upon; 0: it is the first of its subject."""

WRONG_LAST_SEQUENCE, NO_MESSAGE, STREAM_FULL = 10071, 10037, 10077
OUT_OF_STORAGE, NO_RESOURCES = 10047, 10023
_TOO_MANY_REQUESTS, _UNAVAILABLE = 429, 503
_NOT_FOUND, _END_OF_PAGE = "404", "204"


@dataclass(frozen=True, slots=True)
class Stored:
    """A message of a stream."""

    seq: int
    stored_at: datetime
    headers: dict[str, str]
    payload: bytes


@dataclass(frozen=True, slots=True)
class Confirmed:
    """What was published is stored under ``seq``; ``duplicate``: by an earlier message of the same id."""

    seq: int
    duplicate: bool


class JetStream:
    """Requests over one connection. Event loop only."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def client(self) -> Client:
        return self._connection.client

    def room(self, headers: dict[str, str]) -> int:
        """Bytes that the broker takes in one message beside these headers."""
        return self._connection.room(headers)

    @property
    def connected(self) -> bool:
        return self._connection.connected

    @property
    def reconnects(self) -> int:
        """How often the connection was lost and came back."""
        return self._connection.reconnects

    @property
    def version(self) -> tuple[int, int]:
        """Of the server we are connected to: major and minor."""
        version = self.client.connected_server_version
        return int(version.major), int(version.minor)

    async def call(self, name: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask ``$JS.API.<name>``.

        Raises:
            UnansweredError, RefusedError.
        """
        message = await self._request(f"$JS.API.{name}", b"" if body is None else json.dumps(body).encode())
        return _answer(message)

    async def store(
        self, subject: str, payload: bytes, headers: dict[str, str], timeout_s: float = ANSWER_S
    ) -> Confirmed:
        """Publish, and wait until it is stored.

        Raises:
            UnansweredError: it may be stored or not. RefusedError: it is not.
        """
        answer = _answer(await self._request(subject, payload, headers, timeout_s))
        if not isinstance(answer.get("seq"), int):
            raise UnansweredError(f"somebody else answers on {subject}")
        return Confirmed(answer["seq"], bool(answer.get("duplicate")))

    async def message(self, stream: str, **which: str | int) -> Stored | None:
        """One message: ``seq=``, ``last_by_subj=``, or ``seq=`` and ``next_by_subj=``; None if there is none.

        Raises:
            UnansweredError, RefusedError.
        """
        try:
            found = (await self.call(f"STREAM.MSG.GET.{stream}", dict(which)))["message"]
        except RefusedError as error:
            if error.code == NO_MESSAGE:
                return None
            raise
        return Stored(
            found["seq"],
            datetime.fromisoformat(found["time"]),
            _headers(base64.b64decode(found.get("hdrs", ""))),
            base64.b64decode(found.get("data", "")),
        )

    async def messages(self, stream: str, subject: str, seq: int) -> AsyncIterator[Stored]:
        """The messages of ``subject``, which may have wildcards, from ``seq`` on.

        Raises:
            UnansweredError, RefusedError.
        """
        while found := await self.message(stream, seq=seq, next_by_subj=subject):
            yield found
            seq = found.seq + 1

    async def direct(self, stream: str, **which: str | int) -> Stored | None:
        """As ``message``, cheaper: the payload as it is. ``batch=1`` has the header ``Nats-Num-Pending`` count what follows.

        Any copy of the stream may answer, also one that has not got the newest messages yet.

        Raises:
            UnansweredError: there is no such stream, or it does not allow this, or nobody answers. RefusedError.
        """
        return _stored(await self._request(f"$JS.API.DIRECT.GET.{stream}", json.dumps(which).encode()))

    async def page(self, stream: str, **which: str | int) -> list[Stored]:
        """As ``direct``, up to ``batch`` messages: those from ``seq`` on that fit ``next_by_subj``.

        Raises:
            UnansweredError, RefusedError.
        """
        if not self._connection.connected:
            raise UnansweredError("the broker is away")
        found: list[Stored] = []
        inbox = self.client.new_inbox()
        try:
            subscription = await self.client.subscribe(inbox)
            try:
                await self.client.publish(f"$JS.API.DIRECT.GET.{stream}", json.dumps(which).encode(), reply=inbox)
                while True:
                    message = await subscription.next_msg(timeout=ANSWER_S)
                    if (message.headers or {}).get("Status") == _END_OF_PAGE or (stored := _stored(message)) is None:
                        return found
                    found.append(stored)
            finally:
                await subscription.unsubscribe()
        except (TimeoutError, nats_errors.Error, OSError) as error:
            raise UnansweredError(f"{stream} is not shown: {str(error) or type(error).__name__}") from None

    async def reset_consumer(self, stream: str, consumer: str, seq: int) -> None:
        """Have ``consumer`` deliver from stream sequence ``seq`` on, as if nothing after it had been delivered.

        With a plain restart the server would deliver what is new first, and what is not acknowledged only after
        ``ack_wait``: acknowledging the one would then lose the other (nats-server issues 4627, 6114).

        Raises:
            UnansweredError, RefusedError.
        """
        # A consumer that is missing does not answer to a reset.
        config = (await self.call(f"CONSUMER.INFO.{stream}.{consumer}"))["config"]
        if self.version >= RESET_SINCE:
            await self.call(f"CONSUMER.RESET.{stream}.{consumer}", {"seq": seq})
            return
        await self.call(f"CONSUMER.DELETE.{stream}.{consumer}")
        config |= {"deliver_policy": "by_start_sequence", "opt_start_seq": seq}
        await self.call(
            f"CONSUMER.CREATE.{stream}.{consumer}.{config['filter_subject']}", {"stream_name": stream, "config": config}
        )

    async def _request(
        self, subject: str, payload: bytes, headers: dict[str, str] | None = None, timeout_s: float = ANSWER_S
    ) -> Msg:
        if not self._connection.connected:
            raise UnansweredError("the broker is away")
        try:
            return await self.client.request(subject, payload, timeout=timeout_s, headers=headers)
        except nats_errors.NoRespondersError:
            raise UnansweredError(f"nobody answers on {subject}: no JetStream, or no stream stores it") from None
        except nats_errors.MaxPayloadError:
            raise RefusedError(f"{len(payload)} bytes are more than the broker's max_payload allows", 0) from None
        except (TimeoutError, nats_errors.Error, OSError) as error:
            raise UnansweredError(f"no answer on {subject}: {str(error) or type(error).__name__}") from None


def parse_answer(message: Msg) -> dict[str, Any] | None:
    """What JetStream answers; None if it is no JSON object, so somebody else's."""
    try:
        answer = json.loads(message.data)
    except ValueError:
        return None
    return answer if isinstance(answer, dict) and isinstance(answer.get("error") or {}, dict) else None


def _answer(message: Msg) -> dict[str, Any]:
    if (answer := parse_answer(message)) is None:
        raise UnansweredError("what was answered is none of the broker's")
    if error := answer.get("error"):
        code, text = error.get("err_code", 0), str(error.get("description", "refused"))
        if error.get("code") in {_TOO_MANY_REQUESTS, _UNAVAILABLE} or code == OUT_OF_STORAGE:
            raise UnansweredError(text, code)
        raise RefusedError(text, code)
    return answer


def _stored(message: Msg) -> Stored | None:
    """The answer to a direct request, whose headers are the broker's and the publisher's; the broker's win."""
    headers = message.headers or {}
    if "Nats-Sequence" not in headers and headers.get("Status") == _NOT_FOUND:
        return None
    try:
        stored_at = datetime.fromisoformat(headers["Nats-Time-Stamp"])
        return Stored(int(headers["Nats-Sequence"]), stored_at, headers, message.data)
    except (LookupError, ValueError):
        said = " ".join(headers.get(name, "") for name in ("Status", "Description")).strip()
        raise RefusedError(said or "the message has no headers of the broker's", 0) from None


def _headers(block: bytes) -> dict[str, str]:
    """The headers of a stored message, from its ``NATS/1.0`` block."""
    lines = block.decode(errors="replace").split("\r\n")[1:]
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines) if name}
