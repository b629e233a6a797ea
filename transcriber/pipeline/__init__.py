"""From windows to messages: what live streams, durable streams, clips and files share. It knows a ``MessageSink``, not NATS."""

DECODING_THREAD = "decoding-"
"""Prefix of the names of decoding threads; here, so that the command line knows it without loading a decoder."""
