"""Against the real thing: a nats-server, our commands as processes, whisper.cpp with the bundled model, an OTLP receiver."""

from tests.support.broker import broker, listener, ports, publisher, publisher_to

__all__ = ["broker", "listener", "ports", "publisher", "publisher_to"]
