"""A test kit: a nats-server, a daemon process, sample speech, and a check that every frame is accounted for."""
