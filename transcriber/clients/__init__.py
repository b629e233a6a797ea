"""The commands that talk to the daemons over the bus: to send audio, to hear its text, to ask, and to see what became of it."""
