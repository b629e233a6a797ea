"""Names, files and folders to a model file on this machine: found, downloaded, converted. Imports neither whisper.cpp nor the bus."""
