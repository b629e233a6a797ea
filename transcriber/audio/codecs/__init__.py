"""Formats that are decoded as their bytes arrive: WAV, Opus in Ogg and in WebM. Pure, as ``audio`` is."""
