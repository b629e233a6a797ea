"""Durable streams: payloads from JetStream, text stored beside the place where audio resumes. Event loop only."""
