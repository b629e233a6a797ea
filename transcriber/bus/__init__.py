"""NATS, for the daemon and for ``transcriber.clients``. Event loop only."""
