"""Live streams: payloads from a plain NATS subject. Event loop only."""
