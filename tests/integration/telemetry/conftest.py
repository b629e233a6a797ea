"""Fixtures of the tests in this folder."""

from tests.support.otlp_receiver import make, receiver

__all__ = ["make", "receiver"]
