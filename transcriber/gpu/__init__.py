"""The plug-in that lets whisper.cpp use NVIDIA's GPUs: built, installed, found, looked at."""
