"""Requests to JetStream, beyond nats-py: stored messages, the fence, the reset of a consumer.

In: requests. Out: answers, or one of two errors: ``UnansweredError``, where a retry may help, and ``RefusedError``, where it may not.
"""

import base64
import json
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from nats import errors as nats_errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from transcriber.bus.connection import Connection
from transcriber.errors import RefusedError, UnansweredError

log = logging.getLogger(__name__)

ANSWER_S = 5.0
"""How long an answer may take: a broker that syncs every message to disk needs some hundred milliseconds."""

RESET_SINCE = (2, 14)
"""The first server that resets a consumer in place; before it, the consumer is deleted and created again."""

PIN_GROUP, PIN_S = "transcriber", 10.0
"""The priority group of our consumers; its one reader stays pinned until it has requested nothing for so long."""

FENCE = "Nats-Expected-Last-Subject-Sequence"
"""Header with the sequence of the message that ours follows; 0: it is the first of its subject."""

WRONG_LAST_SEQUENCE, NO_MESSAGE, STREAM_FULL = 10071, 10037, 10077
OUT_OF_STORAGE, NO_RESOURCES, NO_LEADER = 10047, 10023, 10008
_TOO_MANY_REQUESTS, _UNAVAILABLE = 429, 503
_API, _DIRECT = "$JS.API.", "$JS.API.DIRECT."
_NOT_FOUND, _END_OF_PAGE = "404", "204"

PAGE, PAGE_BYTES = 256, 2**20
"""Messages and bytes of one page."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A message of a stream."""

    seq: int
    stored_at: datetime
    headers: dict[str, str]
    payload: bytes
    subject: str = ""


@dataclass(frozen=True, slots=True)
class Confirmed:
    """A published message is stored as ``seq``; ``duplicate``: by an earlier message of the same id."""

    seq: int
    duplicate: bool


class JetStream:
    """Requests over one connection. Event loop only."""

    def __init__(self, connection: Connection, *, seeks_leader: bool = True) -> None:
        """``seeks_leader``: a broker through which no leader answers for long is left for another one."""
        self._connection, self._seeks_leader = connection, seeks_leader
        self._undirect: dict[str, int] = {}  # streams that refuse direct requests, and the reconnects so far

    @property
    def client(self) -> Client:
        return self._connection.client

    def room(self, headers: dict[str, str]) -> int:
        """Bytes that the broker accepts in one message beside these headers."""
        return self._connection.room(headers)

    @property
    def connected(self) -> bool:
        return self._connection.connected

    @property
    def reconnects(self) -> int:
        """How often the connection was lost and made again."""
        return self._connection.reconnects

    @property
    def version(self) -> tuple[int, int]:
        """Of the server we are connected to: major and minor."""
        version = self.client.connected_server_version
        return int(version.major), int(version.minor)

    async def call(self, name: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Send a request to ``$JS.API.<name>``.

        Raises:
            UnansweredError, RefusedError.
        """
        message = await self._request(f"{_API}{name}", b"" if body is None else json.dumps(body).encode())
        return self._answer(message)

    async def store(
        self, subject: str, payload: bytes, headers: dict[str, str], timeout_s: float = ANSWER_S
    ) -> Confirmed:
        """Publish, and wait until it is stored.

        Raises:
            UnansweredError: it may be stored or not. RefusedError: it is not.
        """
        answer = self._answer(await self._request(subject, payload, headers, timeout_s))
        if not isinstance(answer.get("seq"), int):
            raise UnansweredError(f"the answer on {subject} is not JetStream's")
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
            found["subject"],
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
        """As ``message``, cheaper: the payload as it is. With ``batch=1`` the header ``Nats-Num-Pending`` counts what follows.

        Any copy of the stream may answer, also one that has not got the newest messages yet.

        Raises:
            UnansweredError: there is no such stream, or it does not allow this, or there is no answer. RefusedError.
        """
        return _stored(await self._request(f"{_DIRECT}GET.{stream}", json.dumps(which).encode()))

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
                await self.client.publish(f"{_DIRECT}GET.{stream}", json.dumps(which).encode(), reply=inbox)
                while True:
                    message = await subscription.next_msg(timeout=ANSWER_S)
                    if (message.headers or {}).get("Status") == _END_OF_PAGE or (stored := _stored(message)) is None:
                        return found
                    found.append(stored)
            finally:
                await subscription.unsubscribe()
        except (TimeoutError, nats_errors.Error, OSError) as error:
            raise UnansweredError(f"no messages of {stream}: {str(error) or type(error).__name__}") from None

    async def paged(self, stream: str, subject: str) -> AsyncIterator[Stored]:
        """As ``messages``, from the first on, a page at a time where the stream allows direct requests.

        Any copy of the stream may answer these, and may not have the newest messages yet: the last ones are the leader's.

        Raises:
            UnansweredError, RefusedError.
        """
        seq = 1
        while page := await self._page_if_allowed(stream, seq=seq, next_by_subj=subject):
            for stored in page:
                yield stored
            seq = page[-1].seq + 1
        async for stored in self.messages(stream, subject, seq):
            yield stored

    async def _page_if_allowed(self, stream: str, **which: str | int) -> list[Stored]:
        if self._undirect.get(stream) == self.reconnects:
            return []
        try:
            return await self.page(stream, batch=PAGE, max_bytes=PAGE_BYTES, **which)
        except (UnansweredError, RefusedError) as error:
            # A stream of an earlier version does not allow it, nor may our permissions: then each request takes ANSWER_S.
            log.debug("%s is read message by message: %s", stream, error)
            self._undirect[stream] = self.reconnects
            return []

    async def reset_consumer(self, stream: str, consumer: str, seq: int) -> None:
        """Have ``consumer`` deliver from stream sequence ``seq`` on, as if nothing after it had been delivered.

        Without it the server delivers new messages first, and what is not acknowledged only after ``ack_wait``:
        acknowledging the one would then lose the other (nats-server issues 4627, 6114).

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
            message = await self.client.request(subject, payload, timeout=timeout_s, headers=headers)
        except nats_errors.NoRespondersError:
            if subject.startswith(_API):  # on any other it is the stream that is missing
                self._unanswered(subject)
            raise UnansweredError(f"no responders on {subject}: no JetStream, or no stream stores it") from None
        except nats_errors.MaxPayloadError:
            raise RefusedError(f"{len(payload)} bytes are more than the broker's max_payload allows", 0) from None
        except (TimeoutError, nats_errors.Error, OSError) as error:
            self._unanswered(subject)
            raise UnansweredError(f"no answer on {subject}: {str(error) or type(error).__name__}") from None
        return message

    def _unanswered(self, subject: str) -> None:
        # Any copy answers a direct request, also one that is cut off: neither its answer nor none says anything of leaders.
        if not subject.startswith(_DIRECT):
            self._answered(False)

    def _answered(self, by_leader: bool) -> None:
        if self._seeks_leader:
            self._connection.jetstream_answered(by_leader)

    def _answer(self, message: Msg) -> dict[str, Any]:
        """What is in an answer. A broker that is cut off soon gives one of its own: that there is no leader, or with none in it."""
        try:
            answer = _answer(message)
        except (UnansweredError, RefusedError) as error:
            self._answered(error.code != NO_LEADER)
            raise
        cluster = answer.get("cluster")  # of one broker alone there is none
        self._answered(not cluster or bool(cluster.get("leader")))
        return answer


def parse_answer(message: Msg) -> dict[str, Any] | None:
    """An answer of JetStream; None if it is no JSON object, and so another client's."""
    try:
        answer = json.loads(message.data)
    except ValueError:
        return None
    return answer if isinstance(answer, dict) and isinstance(answer.get("error") or {}, dict) else None


def _answer(message: Msg) -> dict[str, Any]:
    if (answer := parse_answer(message)) is None:
        raise UnansweredError("the answer is not JetStream's")
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
        return Stored(int(headers["Nats-Sequence"]), stored_at, headers, message.data, headers.get("Nats-Subject", ""))
    except (LookupError, ValueError):
        status = " ".join(headers.get(name, "") for name in ("Status", "Description")).strip()
        raise RefusedError(status or "the message has no headers of the broker's", 0) from None


def _headers(block: bytes) -> dict[str, str]:
    """The headers of a stored message, from its ``NATS/1.0`` block."""
    lines = block.decode(errors="replace").split("\r\n")[1:]
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines) if name}
