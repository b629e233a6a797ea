"""What an operator deploys: manifests, NATS permissions, a build for the processor at hand."""

from tests.support.broker import broker, listener, ports, publisher, publisher_to

__all__ = ["broker", "listener", "ports", "publisher", "publisher_to"]
