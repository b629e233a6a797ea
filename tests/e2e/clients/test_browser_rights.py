"""The broker of docs/browser.md: what each of its users may do, and who gets in, by NATS over WebSocket as a page speaks it."""

import json
import re
import ssl
from contextlib import suppress

import nats
import pytest
from nats.aio.client import Client
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.support.browser_document import PASSWORDS, SITE, GuardedBroker
from tests.support.waiting import PATIENCE_S, settled

SUBJECTS = {
    "audio.desk",
    "audio.hall",
    "audio.desk.more",
    "transcripts.desk.final",
    "transcripts.hall.final",
    "transcriber.transcribe",
    "transcriber.submit",
    "transcriber.metrics.pod-1",
    "transcriber.streams",
    "transcriber.admin",
    "_INBOX.1",
    "_INBOX_clips.1",
    "_INBOX_daemon.1",
    "$SRV.PING",
    "$SYS.REQ.SERVER.PING",
    "$JS.API.INFO",
}
PATTERNS = {
    ">",
    "*.*",
    "audio.*",
    "transcripts.desk.*",
    "transcripts.*.*",
    "transcripts.>",
    "_INBOX.>",
    "_INBOX_clips.>",
}
PUBLISH = {"desk": {"audio.desk"}, "hall": set(), "clips": {"transcriber.transcribe"}, "relay": {"audio.desk"}}
TEXT = {"transcripts.desk.final", "transcripts.desk.*"}
SUBSCRIBE = {"desk": TEXT, "hall": TEXT, "clips": {"_INBOX_clips.1", "_INBOX_clips.>"}, "relay": TEXT}
"""Of ``SUBJECTS`` and ``PATTERNS``; all others are denied."""
BROWSERS = ("desk", "hall", "clips")


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    with GuardedBroker(tmp_path_factory.mktemp("broker")).running() as running:
        yield running


async def answered(broker, commands, user, password, origin=SITE):
    """What the broker sends in answer to ``commands``, over WebSocket, until it has handled them all or closes."""
    context = ssl.create_default_context()
    broker.authority.configure_trust(context)
    opening = json.dumps({"user": user, "pass": password, "verbose": False, "headers": True})
    said = ""
    address = f"wss://127.0.0.1:{broker.websocket_port}"
    async with connect(address, ssl=context, origin=origin, open_timeout=PATIENCE_S) as socket:
        await socket.send(f"CONNECT {opening}\r\n{commands}PING\r\n".encode())
        with suppress(ConnectionClosed):
            while "PONG\r\n" not in said:
                said += (await socket.recv(decode=False)).decode()
    return said


async def denied(broker, user):
    """Subjects to which it must not publish, and which it must not subscribe to."""
    if user in BROWSERS:
        commands = "".join(f"PUB {subject} 0\r\n\r\n" for subject in SUBJECTS)
        commands += "".join(f"SUB {subject} {n}\r\n" for n, subject in enumerate(SUBJECTS | PATTERNS, 1))
        said = await answered(broker, commands, user, PASSWORDS[user])
        assert "PONG" in said
    else:
        errors = []

        async def note(error):
            errors.append(str(error))

        client = await nats.connect(broker.url_of(user), error_cb=note)
        for subject in SUBJECTS:
            await client.publish(subject, b"")
        for subject in SUBJECTS | PATTERNS:
            await client.subscribe(subject)
        await settled(client)
        await client.close()
        said = "\n".join(errors)
    found = re.findall(r'permissions violation for (publish|subscription) to "([^"]+)"', said, re.IGNORECASE)
    known = {subject.lower(): subject for subject in SUBJECTS | PATTERNS}  # nats-py gives them in small letters
    return [
        {known[subject.lower()] for kind, subject in found if kind.lower() == one}
        for one in ("publish", "subscription")
    ]


@pytest.mark.parametrize("user", PUBLISH)
async def test_a_user_may_do_what_its_page_needs_and_nothing_else(broker, user):
    not_published, not_subscribed = await denied(broker, user)

    assert SUBJECTS - not_published == PUBLISH[user]
    assert (SUBJECTS | PATTERNS) - not_subscribed == SUBSCRIBE[user]


@pytest.mark.parametrize(("user", "password"), [("desk", "guessed"), ("desk", ""), ("relay", PASSWORDS["relay"])])
async def test_nobody_else_comes_over_websocket(broker, user, password):
    said = await answered(broker, "", user, password)

    assert "PONG" not in said
    assert re.search(r"-ERR '[^']*authorization", said, re.IGNORECASE)


@pytest.mark.parametrize("user", BROWSERS)
async def test_a_page_comes_over_websocket_only(broker, user):
    client = Client()
    try:
        with pytest.raises(nats.errors.Error, match=r"(?i)authorization"):
            await client.connect(broker.url_of(user), allow_reconnect=False)
    finally:
        await client.close()


async def test_pages_of_other_sites_are_refused(broker):
    with pytest.raises(InvalidStatus) as refusal:
        await answered(broker, "", "desk", PASSWORDS["desk"], origin="https://elsewhere.example.org")

    assert refusal.value.response.status_code == 403
