"""From windows to messages: what live streams, durable streams, clips and files share. It knows a ``MessageSink``, not NATS."""
