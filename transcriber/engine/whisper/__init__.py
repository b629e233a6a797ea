"""whisper.cpp: the binding, what goes into it, and what comes out of it. Worker thread only."""
