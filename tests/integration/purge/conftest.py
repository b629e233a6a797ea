"""Fixtures of the tests in this folder."""

from tests.support.jetstream_broker import broker

__all__ = ["broker"]
