"""Voice activity: where somebody speaks. Pure, as ``audio`` is."""

THRESHOLD = 0.4
"""The default of what makes a frame speech. From 0.3 to 0.6 it hardly matters to synthetic speech and to noise, which
``bench/gate.py`` measures; real speech is less clear, and a lost word is worse than a needless window.
"""
