"""OpenAI's Realtime interface, transcription sessions. In: a WebSocket's events. Out: audio on NATS, and its text as events."""
