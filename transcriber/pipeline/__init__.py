"""From windows to messages: what live streams, durable streams, clips and files share. It knows a ``MessageSink``, not NATS."""

DECODING_THREAD = "decoding-"
"""What the names of the decoders' threads begin with; here, so that who only asks for it does not load a decoder."""
