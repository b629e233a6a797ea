"""Fixtures of the tests in this folder."""

from tests.support.model_hub import path

__all__ = ["path"]
