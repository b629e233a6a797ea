"""Fixtures of the tests in this folder."""

from tests.support.file_jobs import quick, slow
from tests.support.jetstream_broker import broker

__all__ = ["broker", "quick", "slow"]
