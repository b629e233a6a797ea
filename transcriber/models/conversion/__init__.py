"""Weights of transformers, CTranslate2 and OpenAI to ggml files. Imports neither whisper.cpp nor the bus."""
