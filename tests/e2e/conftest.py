"""The daemon as a process, a nats-server, signals."""

from tests.support.broker import broker, listener, ports, publisher, publisher_to

__all__ = ["broker", "listener", "ports", "publisher", "publisher_to"]
