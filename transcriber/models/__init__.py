"""Names, files and folders to a model file on this machine: found, fetched, converted. No whisper.cpp and no bus in here."""
