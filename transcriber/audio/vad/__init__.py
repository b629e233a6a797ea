"""Voice activity detection. Pure, as ``audio`` is."""
