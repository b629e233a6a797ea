"""Admin requests on NATS. In: requests. Out: an ``AdminAnswer`` to each, or to what cannot be read one that says why.

Every daemon hears ``transcriber.admin``, so these are plain subscriptions, and no endpoints of the micro service, of which one of a
queue group answers.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from pydantic import ValidationError

from transcriber.bus.connection import Connection, NatsMessage
from transcriber.errors import DeniedError, RequestError
from transcriber.schema.admin import ANY_ADMIN_REQUEST, AdminAnswer, StatusRequest
from transcriber.schema.base import first_line
from transcriber.schema.subjects import ADMIN_SUBJECT

log = logging.getLogger(__name__)

Action = Callable[[Any], Awaitable[None]]
"""Does what one kind of request asks for; raises ``RequestError`` if it does not."""


class AdminEndpoint:
    """Event loop only."""

    def __init__(
        self,
        connection: Connection,
        instance: str,
        actions: Mapping[type[Any], Action],
        state: Callable[[], dict[str, Any]],
    ) -> None:
        """``actions``: by the class of their request. ``state``: the fields of each answer beside ``instance`` and ``error``."""
        self._connection, self._instance = connection, instance
        self._actions, self._state = actions, state

    async def start(self) -> None:
        """Answer requests; if the broker denies the subjects, warn and continue.

        Raises:
            BrokerError: the broker is gone again.
        """
        try:
            for subject in (ADMIN_SUBJECT, f"{ADMIN_SUBJECT}.{self._instance}"):
                await self._connection.subscribe(subject, self._answer)
        except DeniedError as error:
            log.warning("admin requests are not answered: %s; ADMIN_REQUESTS=0 is to have none", error)

    async def _answer(self, message: NatsMessage) -> None:
        error = ""
        try:
            await self._do(message)
        except ValidationError as invalid:
            error = first_line(invalid)
        except RequestError as refusal:
            error = str(refusal)
        if error:
            log.warning("an admin request is refused: %s", error)
        if message.reply:
            await self._connection.publish(message.reply, self._payload(error))

    def _payload(self, error: str) -> bytes:
        """The answer, without live settings if the broker does not take one with them.

        Part of the state is what others have written, so that it cannot be told comes back as an error, and is no crash.
        """
        try:
            answer = AdminAnswer(instance=self._instance, error=error, **self._state())
            payload = _encoded(answer)
        except ValueError:
            log.exception("an admin request cannot be answered")
            unknown = "its state cannot be told: its log says why"
            return _encoded(AdminAnswer(instance=self._instance, model="", error=error or unknown))
        if len(payload) > self._connection.room({}):
            return _encoded(answer.model_copy(update={"settings": (), "settings_left_out": len(answer.settings)}))
        return payload

    async def _do(self, message: NatsMessage) -> None:
        """What the message asks for. Raises ``ValidationError`` if it cannot be read, and ``RequestError`` if that is not done."""
        request = ANY_ADMIN_REQUEST.validate_json(message.data)
        if message.subject == ADMIN_SUBJECT and not isinstance(request, StatusRequest):
            # Who may ask all daemons for their state need not be one who may change them, and all at once would stop all streams.
            raise RequestError(
                403, f"only status is asked of all; {request.action} is for {ADMIN_SUBJECT}.{self._instance}"
            )
        await self._actions[type(request)](request)


def _encoded(answer: AdminAnswer) -> bytes:
    return answer.model_dump_json(by_alias=True).encode()
