"""HTTP and WebSocket for whoever does not speak NATS. In: requests of browsers and SDKs. Out: NATS messages, and their answers."""
