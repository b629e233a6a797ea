"""A GPU as ggml sees it: its devices, whether one works, and the process that tries it."""
