"""Weights of transformers, CTranslate2 and OpenAI to ggml files. No whisper.cpp and no bus in here."""
