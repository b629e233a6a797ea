"""JetStream beyond nats-py's client: reading and storing with a fence, and streams and consumers as they must be."""
