"""NATS, for the daemon and for ``transcriber.clients``. Event loop only."""

DECODING_THREAD = "decoding-"
"""What the names of the decoders' threads begin with; here, so that who only asks for it does not load a decoder."""
