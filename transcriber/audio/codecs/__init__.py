"""Formats that are decoded as their bytes come in: WAV, Opus in Ogg and in WebM. Pure, as ``audio`` is."""
