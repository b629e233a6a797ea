"""NATS: the only room that imports ``nats``. Event loop only."""
