"""NATS: the only room that imports ``nats``. Event loop only."""

DECODING_THREAD = "decoding-"
"""What the names of the decoders' threads begin with; here, so that who only asks for it does not load a decoder."""
