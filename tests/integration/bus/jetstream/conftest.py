"""Fixtures of the tests in this folder."""

from tests.support.jetstream_broker import broker
from tests.support.provisioning import jetstream, settings

__all__ = ["broker", "jetstream", "settings"]
