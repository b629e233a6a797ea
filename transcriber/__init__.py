"""Speech-to-text on a message bus: audio on a NATS subject in, text on a NATS subject out."""

from importlib.metadata import version

__version__ = version("transcriber")
