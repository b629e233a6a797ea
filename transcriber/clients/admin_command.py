"""The command ``admin``. In: a request for one daemon or all. Out: what became of it, one line a daemon, and an exit status."""

import asyncio
import sys
from collections.abc import Sequence
from contextlib import suppress

from nats import errors as nats_errors
from pydantic import ValidationError

from transcriber.bus.client_session import connected
from transcriber.bus.connection import Connection, NatsMessage
from transcriber.config import Settings, mask
from transcriber.errors import ConfigError, UnansweredError
from transcriber.schema.admin import AdminAnswer, AdminRequest, StatusRequest, Swap, SwapRequest
from transcriber.schema.subjects import ADMIN_SUBJECT

STATUS = StatusRequest(action="status")

ANSWER_S, OTHERS_S = 10.0, 0.5
"""For a daemon's answer; from the first one on for those of the others."""

NOBODY = 503
"""Code of an ``UnansweredError``: no daemon is there, as NATS says it."""

LOOK_S = 0.3
"""Between two looks at a swap that is under way."""


async def swap_model(
    settings: Settings, model: str, *, instance: str | None, every: bool, unload_first: bool, by: str
) -> int:
    """Have one daemon, or ``every`` one after the other, take another model; print what became of it.

    Returns:
        Exit status: 1 if no daemon answers, or one does not take it; then those after it keep theirs.

    Raises:
        StartError: no broker; or several daemons, of which none is named.
    """
    try:
        request = SwapRequest.model_validate({"action": "swap", "model": model, "unload_first": unload_first, "as": by})
    except ValidationError:
        raise ConfigError(
            f"{model!r} is no name of a model: a daemon takes those it knows, and the NAME of ggml-NAME.bin in its WHISPER_MODEL_DIR"
        ) from None
    async with connected(settings, "transcriber admin") as connection:
        try:
            for name in await chosen(connection, instance, every=every):
                if not await _swap_one(connection, name, request):
                    return 1
        except UnansweredError as error:
            sys.stderr.write(f"transcriber: {mask(str(error))}\n")
            return 1
    return 0


async def chosen(connection: Connection, instance: str | None, *, every: bool) -> Sequence[str]:
    """Names of the daemons that are meant.

    Raises:
        ConfigError: several are there, and none is named.
        UnansweredError: no daemon answers.
        BrokerError: the broker does not permit the request.
    """
    if instance is not None:
        return [instance]
    found = await daemons(connection)
    if len(found) > 1 and not every:
        raise ConfigError(f"{len(found)} daemons answer: --all, or --instance with one of {', '.join(sorted(found))}")
    return sorted(found)


async def ask(connection: Connection, instance: str | None, request: AdminRequest) -> AdminAnswer:
    """The answer of one daemon; None: of whichever answers first.

    Raises:
        UnansweredError: it does not answer, or refuses; the message is one line.
        BrokerError: the broker does not permit the request.
    """
    subject = f"{ADMIN_SUBJECT}.{instance}" if instance else ADMIN_SUBJECT
    try:
        answer = await connection.request(subject, _payload(request), ANSWER_S)
        read = AdminAnswer.model_validate_json(answer.data)
    except nats_errors.NoRespondersError:
        raise UnansweredError(f"no daemon answers on {subject} (ADMIN_REQUESTS=1)", NOBODY) from None
    except (TimeoutError, nats_errors.Error):
        raise UnansweredError(f"no answer on {subject} within {ANSWER_S:g} s") from None
    except ValidationError:
        raise UnansweredError(f"the answer on {subject} cannot be read: the daemon is of another version") from None
    if read.error:
        raise UnansweredError(f"{read.instance}: {read.error}")
    return read


async def daemons(connection: Connection) -> dict[str, AdminAnswer]:
    """The state of each daemon that answers, by name. Raises as ``ask``."""
    first = await ask(connection, None, STATUS)  # whether anybody does, and we may ask
    found = {first.instance: first}

    async def take(message: NatsMessage) -> None:
        with suppress(ValidationError):  # of another version
            answer = AdminAnswer.model_validate_json(message.data)
            found[answer.instance] = answer

    inbox = connection.client.new_inbox()
    subscription = await connection.subscribe(inbox, take)
    await connection.publish(ADMIN_SUBJECT, _payload(STATUS), reply=inbox)
    await asyncio.sleep(OTHERS_S)
    await connection.unsubscribe(subscription)
    return found


def _payload(request: AdminRequest) -> bytes:
    return request.model_dump_json(by_alias=True).encode()


async def _swap_one(connection: Connection, instance: str, request: SwapRequest) -> bool:
    """Swap, and print how it ended; whether the daemon has the model now. Raises as ``swap_to_its_end``."""
    answer, swap = await swap_to_its_end(connection, instance, request)
    if swap.state in {"swapped", "unchanged"}:
        sys.stdout.write(f"{instance}: {swap.state}: {answer.model}\n")
        sys.stdout.flush()
        return True
    sys.stderr.write(f"transcriber: {instance}: {swap.state}: {swap.error}; it keeps {answer.model}\n")
    return False


async def swap_to_its_end(connection: Connection, instance: str, request: SwapRequest) -> tuple[AdminAnswer, Swap]:
    """Ask for a swap, and wait for its end: the daemon's last answer, and the swap in it.

    Raises:
        UnansweredError, BrokerError: as ``ask``.
    """
    begun = (await ask(connection, instance, request)).swap
    while True:
        answer = await ask(connection, instance, STATUS)
        if begun is None or answer.swap is None or answer.swap.number != begun.number:
            raise UnansweredError(f"{instance}: it was started again, or has another swap since; it has {answer.model}")
        if answer.swap.state != "loading":
            return answer, answer.swap
        await asyncio.sleep(LOOK_S)
