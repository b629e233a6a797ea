"""Ports that nobody else gets."""

from bench.lib.ports import free_port

__all__ = ["free_port"]
