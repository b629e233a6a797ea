"""Whoever asked for TLS gets it, or no connection."""

import asyncio
import json

import pytest

from tests.support.credentials import certificates
from transcriber.bus.client_session import connected
from transcriber.config import load_settings
from transcriber.errors import BrokerError
from transcriber.testing.broker import EmbeddedBroker


async def test_credentials_are_not_sent_in_the_clear_to_a_broker_that_says_it_has_no_tls():
    received = []

    async def no_tls(reader, writer):
        writer.write(b"INFO " + json.dumps({"max_payload": 2**20, "auth_required": True}).encode() + b"\r\n")
        received.append(await reader.read(65_536))
        writer.close()

    async with await asyncio.start_server(no_tls, "127.0.0.1") as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(BrokerError) as error:
            async with connected(load_settings(nats_url=f"tls://me:secret@127.0.0.1:{port}"), "test"):
                pass

    assert str(error.value) == f"NATS_URL=tls://***@127.0.0.1:{port}: TLS is asked for, and the broker has none"
    assert received == [b""]


@pytest.mark.parametrize("asked", [True, False])
async def test_where_the_broker_leaves_it_to_the_client_ours_has_tls_if_it_is_asked_for(tmp_path, asked):
    server, settings = certificates(tmp_path)
    (tmp_path / "nats.conf").write_text(f"tls {{ {server} }}, allow_non_tls: true")
    with EmbeddedBroker("--config", str(tmp_path / "nats.conf")) as broker:
        ours = {"nats_tls_ca": settings["NATS_TLS_CA"]} if asked else {}
        async with connected(load_settings(nats_url=broker.url, **ours), "test") as connection:
            transport = connection.client._transport
            assert transport
            encrypted = transport._io_writer.get_extra_info("ssl_object") is not None  # type: ignore[attr-defined]

    assert encrypted == asked
