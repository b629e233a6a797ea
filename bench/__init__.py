"""Measurements: ``python -m bench.NAME [--quick]`` prints one JSON object as its last line.

``pipeline`` what the daemon adds to whisper. ``ingest`` paced streams one core takes. ``memory`` of a stream.
``resampler`` its cost and delay. Run them on a quiet machine; progress goes to stderr.
"""
