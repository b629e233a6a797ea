"""Durable streams: payloads from JetStream, text stored beside the point where audio resumes. Event loop only."""
