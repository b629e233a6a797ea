"""Clips: a recording in one request, its text in one reply. Event loop only."""
