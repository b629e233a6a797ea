"""Formats that are decoded as their bytes arrive: WAV, Ogg, WebM, MP4, ADTS, MP3. Pure, as ``audio`` is."""
