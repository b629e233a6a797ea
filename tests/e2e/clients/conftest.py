"""One broker, daemon and gateway for the clients of all vendors."""

import asyncio

import pytest

from tests.support.durable_streams import provisioned
from tests.support.gateway import GatewayProcess
from transcriber.testing.broker import EmbeddedBroker
from transcriber.testing.daemon import DaemonProcess


@pytest.fixture(scope="session")
def broker_url(tmp_path_factory):
    """Of a broker with a daemon that takes streams, requests and files."""
    with EmbeddedBroker(store=tmp_path_factory.mktemp("clients") / "store") as broker:
        asyncio.run(provisioned(broker, files=True))
        with DaemonProcess(broker.url, FILES="1") as daemon:
            assert asyncio.run(daemon.ready()), daemon.log()
            yield broker.url


@pytest.fixture(scope="session")
def gateway(broker_url):
    with GatewayProcess(broker_url) as running:
        yield running
