"""Measurements: ``python -m bench.NAME [--quick]`` prints one JSON object as its last line.

``peers`` a window beside other engines. ``capacity`` live streams that the machine holds. ``contexts`` what a short encoder
context costs in words. ``threads`` ways to share the processor. ``gpu`` a card: its text, its speed by every way to share it,
and its streams; ``gpu_card`` the same on a machine that is lent with nothing on it. ``pipeline`` what the
daemon adds to whisper. ``ingest`` paced streams one core takes. ``memory`` of a stream, and over hours. ``resampler`` its
cost and delay. ``voices`` who is given whose words. ``words`` wrong, late and invented, of recordings that go through the
daemon. ``chaos`` whether durable mode loses anything when everything goes wrong. ``soak`` whether anything grows over whole
days. Run them on a quiet machine; progress goes to stderr.
"""
