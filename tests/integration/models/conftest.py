"""Fixtures of the tests in this folder."""

from tests.support.model_hub import hub, known, path

__all__ = ["hub", "known", "path"]
