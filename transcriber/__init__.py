"""Speech-to-text on a message bus: audio on a NATS subject in, text on a NATS subject out."""

import os
from importlib.metadata import version

# onnxruntime 1.29 and later send usage telemetry to their maker, and store an id for it, from the moment they are imported
# (onnxruntime pull request 27379). Nobody who transcribes has agreed to that.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

__version__ = version("nats-transcriber")  # PyPI's "transcriber" is somebody else's
