"""Fixtures of the tests in this folder."""

from tests.support.otlp_receiver import receiver

__all__ = ["receiver"]
