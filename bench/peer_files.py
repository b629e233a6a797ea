"""The rigged models of ``bench.shapes`` in the formats of the peers, made offline.

``ctranslate2_folder`` for faster-whisper, with a tokenizer; ``openai_checkpoint`` for openai-whisper.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from bench.shapes import N_AUDIO_CTX, N_MELS, N_TEXT_CTX, N_VOCAB, SHAPES, Weights, made, vocabulary, weights

LANGUAGES = ("en", *(f"x{number}" for number in range(1, 99)))
"""Of an English-only model only the first is ever named."""

TASKS = ("translate", "transcribe", "startoflm", "startofprev", "nospeech", "notimestamps")


def openai_checkpoint(name: str) -> Path:
    """A file for ``whisper.load_model``."""

    def make(path: Path) -> None:
        import torch  # noqa: PLC0415 - of the bench group

        d, heads, layers = SHAPES[name]
        halves = {
            f"n_{half}_{what}": value
            for half in ("audio", "text")
            for what, value in (("state", d), ("head", heads), ("layer", layers))
        }
        dims = halves | {"n_mels": N_MELS, "n_vocab": N_VOCAB, "n_audio_ctx": N_AUDIO_CTX, "n_text_ctx": N_TEXT_CTX}
        state = {key: torch.from_numpy(value) for key, value in weights(name).items()}
        torch.save({"dims": dims, "model_state_dict": state}, path)

    return made(f"{name}.pt", make)


def ctranslate2_folder(name: str) -> Path:
    """A folder for ``faster_whisper.WhisperModel``."""

    def make(path: Path) -> None:
        path.mkdir()
        spec = _spec(name)
        tokens = _tokens()
        spec.register_vocabulary(tokens + [f"<|{0.02 * time:.2f}|>" for time in range(N_VOCAB - len(tokens))])
        spec.validate()
        spec.save(str(path))
        _tokenizer(tokens).save(str(path / "tokenizer.json"))
        features = {
            "feature_size": N_MELS,
            "sampling_rate": 16_000,
            "hop_length": 160,
            "chunk_length": 30,
            "n_fft": 400,
        }
        (path / "preprocessor_config.json").write_text(json.dumps(features))

    return made(f"ct2-{name}", make)


def _spec(name: str) -> Any:
    from ctranslate2.specs.whisper_spec import WhisperSpec  # noqa: PLC0415 - of the bench group

    shape, tensors = SHAPES[name], weights(name)
    spec = WhisperSpec(shape.layers, shape.heads, shape.layers, shape.heads)
    fill = _Filler(tensors)
    for conv in ("conv1", "conv2"):
        part = getattr(spec.encoder, conv)
        part.weight, part.bias = tensors[f"encoder.{conv}.weight"], tensors[f"encoder.{conv}.bias"]
    spec.encoder.position_encodings.encodings = tensors["encoder.positional_embedding"]
    fill.norm(spec.encoder.layer_norm, "encoder.ln_post")
    spec.decoder.embeddings.weight = spec.decoder.projection.weight = tensors["decoder.token_embedding.weight"]
    spec.decoder.position_encodings.encodings = tensors["decoder.positional_embedding"]
    fill.norm(spec.decoder.layer_norm, "decoder.ln")
    for half in ("encoder", "decoder"):
        for number, layer in enumerate(getattr(spec, half).layer):
            fill.layer(layer, f"{half}.blocks.{number}", cross=half == "decoder")
    spec.config.suppress_ids = []
    spec.config.suppress_ids_begin = [220, 50_256]
    spec.config.lang_ids = list(range(50_258, 50_258 + len(LANGUAGES)))
    spec.config.alignment_heads = [[shape.layers - 1, 0]]
    return spec


class _Filler:
    """Writes the tensors of openai-whisper into a specification of CTranslate2."""

    def __init__(self, tensors: Weights) -> None:
        self._tensors = tensors

    def norm(self, part: Any, name: str) -> None:
        part.gamma, part.beta = self._tensors[f"{name}.weight"], self._tensors[f"{name}.bias"]

    def linear(self, part: Any, *names: str) -> None:
        """One product for several, where CTranslate2 has them together."""
        part.weight = np.concatenate([self._tensors[f"{name}.weight"] for name in names])
        zeros = np.zeros(len(part.weight) // len(names), np.float32)
        part.bias = np.concatenate([self._tensors.get(f"{name}.bias", zeros) for name in names])

    def layer(self, layer: Any, name: str, *, cross: bool) -> None:
        own = layer.self_attention
        self.linear(own.linear[0], *(f"{name}.attn.{part}" for part in ("query", "key", "value")))
        self.linear(own.linear[1], f"{name}.attn.out")
        self.norm(own.layer_norm, f"{name}.attn_ln")
        if cross:
            other = layer.attention
            self.linear(other.linear[0], f"{name}.cross_attn.query")
            self.linear(other.linear[1], f"{name}.cross_attn.key", f"{name}.cross_attn.value")
            self.linear(other.linear[2], f"{name}.cross_attn.out")
            self.norm(other.layer_norm, f"{name}.cross_attn_ln")
        self.linear(layer.ffn.linear_0, f"{name}.mlp.0")
        self.linear(layer.ffn.linear_1, f"{name}.mlp.2")
        self.norm(layer.ffn.layer_norm, f"{name}.mlp_ln")


def _tokens() -> list[str]:
    """All but the time stamps, as GPT-2 writes them: each byte as one visible character."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in visible]
    letters = {byte: chr(byte) for byte in visible} | {byte: chr(256 + n) for n, byte in enumerate(others)}
    texts = ["".join(letters[byte] for byte in token) for token in vocabulary()]
    texts[:256] = [letters[byte] for byte in (*visible, *others)]
    # The bundled vocabulary has no halves of characters; nobody says them, but each place needs a name of its own.
    first_at = {text: at for at, text in reversed(list(enumerate(texts)))}
    texts = [text if first_at[text] == at else f"<unused {at}>" for at, text in enumerate(texts)]
    return texts + [f"<|{name}|>" for name in ("endoftext", "startoftranscript", *LANGUAGES, *TASKS)]


def _tokenizer(tokens: list[str]) -> Any:
    """Without merges: it decodes, and that is all that is asked of it."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers  # noqa: PLC0415 - of the bench group

    words = tokens[: tokens.index("<|endoftext|>")]
    tokenizer = Tokenizer(models.BPE(vocab={token: at for at, token in enumerate(words)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in tokens[len(words) :]])
    return tokenizer
