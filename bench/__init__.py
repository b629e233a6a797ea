"""Measurements: ``python -m bench.NAME [--quick]`` prints one JSON object as its last line.

``capacity`` live streams that the machine holds. ``peers`` a window beside other engines. ``threads`` ways to share the
processor. ``pipeline`` what the daemon adds to whisper. ``ingest`` paced streams one core takes. ``memory`` of a stream, and
over hours. ``resampler`` its cost and delay. Run them on a quiet machine; progress goes to stderr.
"""
