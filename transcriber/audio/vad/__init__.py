"""Voice activity: where somebody speaks. Pure, as ``audio`` is."""
