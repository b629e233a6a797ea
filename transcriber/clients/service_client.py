"""Questions to the daemons' service. In: a subject and a payload. Out: what is answered, or why it is not."""

import asyncio
import time

from nats import errors as nats_errors
from nats.aio.msg import Msg

from transcriber.bus.connection import Connection
from transcriber.errors import RequestError, UnansweredError

FULL, STOPPING = 429, 503
AGAIN_S = 0.5
"""Where no ``Retry-After`` is given."""


async def call_service(
    connection: Connection,
    subject: str,
    payload: bytes,
    timeout_s: float,
    *,
    setting: str,
    headers: dict[str, str] | None = None,
) -> Msg:
    """Ask, and ask again while the queue is full or the daemon asked is stopping, as long as the time allows.

    Raises:
        RequestError: it is refused.
        UnansweredError: nobody is there, for which ``setting`` is named, or nobody answers in time.
        BrokerError: we may not ask.
    """
    deadline_s = time.monotonic() + timeout_s
    while True:
        left_s = max(0.001, deadline_s - time.monotonic())
        try:
            answer = await connection.request(subject, payload, left_s, headers)
        except nats_errors.NoRespondersError:
            raise UnansweredError(f"no daemon answers on {subject} ({setting}=1)") from None
        except (TimeoutError, nats_errors.Error):
            raise UnansweredError(f"no answer on {subject} within {timeout_s:g} s") from None
        refusal = _refusal(answer)
        if refusal is None:
            return answer
        wait_s = refusal.retry_after_s or AGAIN_S
        if refusal.code not in {FULL, STOPPING} or time.monotonic() + wait_s >= deadline_s:
            raise refusal
        await asyncio.sleep(wait_s)


def _refusal(answer: Msg) -> RequestError | None:
    """The error that an answer is (ADR-32); None of a good one."""
    headers = answer.headers or {}
    if "Nats-Service-Error-Code" not in headers:
        return None
    code, after = headers["Nats-Service-Error-Code"], headers.get("Retry-After", "")
    return RequestError(
        int(code) if code.isdecimal() else 500,
        headers.get("Nats-Service-Error") or f"refused with code {code}",
        int(after) if after.isdecimal() else 0,
    )
