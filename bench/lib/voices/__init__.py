"""Dialogues of several voices, of which it is known who speaks when."""
