"""Requests to the daemons' service. In: a subject and a payload. Out: the answer, or why there is none."""

import asyncio
import time

from nats import errors as nats_errors
from nats.aio.msg import Msg

from transcriber.bus.connection import Connection
from transcriber.errors import RequestError, UnansweredError

FULL, STOPPING = 429, 503
AGAIN_S = 0.5
"""Without a ``Retry-After``."""


async def call_service(
    connection: Connection,
    subject: str,
    payload: bytes,
    timeout_s: float,
    *,
    setting: str,
    headers: dict[str, str] | None = None,
    patient: bool = True,
) -> Msg:
    """Send a request, and, if ``patient``, retry while the queue is full or the daemon is stopping, within ``timeout_s``.

    Raises:
        RequestError: it is refused.
        UnansweredError: no daemon has ``setting``, or none answers in time.
        BrokerError: the broker does not permit the request.
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
        if not patient or refusal.code not in {FULL, STOPPING} or time.monotonic() + wait_s >= deadline_s:
            raise refusal
        await asyncio.sleep(wait_s)


def _refusal(answer: Msg) -> RequestError | None:
    """The error in an answer's headers (ADR-32); None if there is none."""
    headers = answer.headers or {}
    if "Nats-Service-Error-Code" not in headers:
        return None
    code, after = headers["Nats-Service-Error-Code"], headers.get("Retry-After", "")
    return RequestError(
        int(code) if code.isdecimal() else 500,
        headers.get("Nats-Service-Error") or f"refused with code {code}",
        int(after) if after.isdecimal() else 0,
    )
