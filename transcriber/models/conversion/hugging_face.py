"""A Whisper model as Hugging Face's transformers saves it. In: a folder. Out: a checkpoint by OpenAI's names.

``config.json`` says what the network is, ``model.safetensors`` (one file or several) holds its weights. Fine-tunes are like
the originals; what whisper.cpp does not support is refused.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np

from transcriber.errors import ModelError
from transcriber.models.conversion.checkpoint import Checkpoint, Read
from transcriber.models.conversion.layout import Dimensions
from transcriber.models.conversion.safetensors import open_tensors, read_json
from transcriber.models.conversion.vocabulary import text_tokens

FIXED = {
    "model_type": "whisper",
    "activation_function": "gelu",
    "scale_embedding": False,
}
"""Fields that whisper.cpp supports with this value only, which is also their default."""

PARTS = {
    "self_attn": "attn", "encoder_attn": "cross_attn", "self_attn_layer_norm": "attn_ln",
    "encoder_attn_layer_norm": "cross_attn_ln", "fc1": "mlp.0", "fc2": "mlp.2", "final_layer_norm": "mlp_ln",
    "q_proj": "query", "k_proj": "key", "v_proj": "value", "out_proj": "out",
}  # fmt: skip
"""Names inside a block to OpenAI's."""

ENDS = {
    "encoder.embed_positions.weight": "encoder.positional_embedding",
    "decoder.embed_positions.weight": "decoder.positional_embedding",
    "decoder.embed_tokens.weight": "decoder.token_embedding.weight",
    "encoder.layer_norm.weight": "encoder.ln_post.weight",
    "encoder.layer_norm.bias": "encoder.ln_post.bias",
    "decoder.layer_norm.weight": "decoder.ln.weight",
    "decoder.layer_norm.bias": "decoder.ln.bias",
}
"""Names outside of blocks."""

PROJECTION = "proj_out.weight"
EMBEDDING = "decoder.token_embedding.weight"


def open_hugging_face(folder: Path) -> Checkpoint:
    """The checkpoint in ``folder``; its weights are read when they are written.

    Raises:
        ModelError: not a Whisper model, or not representable in a ggml file.
    """
    config = read_json(folder / "config.json")
    dimensions = _dimensions(folder / "config.json", config)
    tensors = {_openai_name(name): read for name, read in open_tensors(folder).items()}
    if any("lora_" in name for name in tensors):
        raise ModelError(f"{folder}: holds LoRA weights: merge them into their model first (merge_and_unload)")
    _tie(folder, tensors)
    for name in [name for name in tensors if name.endswith(".key.bias")]:
        if np.any(tensors.pop(name)()):
            raise ModelError(f"{folder}: {name} is not zero: Whisper has no such bias")
    return Checkpoint(folder, dimensions, text_tokens(folder, dimensions.n_vocab), tensors)


def _dimensions(path: Path, config: dict[str, Any]) -> Dimensions:
    for name, value in FIXED.items():
        if config.get(name, value) != value:
            raise ModelError(f"{path}: {name} is {config[name]!r}, not {value!r}: not a model that whisper.cpp can run")
    if "quantization_config" in config:
        raise ModelError(f"{path}: its weights are quantised: convert the original")

    def number(name: str) -> int:
        value = config.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**31:
            raise ModelError(f"{path}: {name} is {value!r}, no number")
        return value

    width = number("d_model")
    for half in ("encoder", "decoder"):
        if config.get(f"{half}_ffn_dim", 4 * width) != 4 * width:
            raise ModelError(f"{path}: {half}_ffn_dim is {config[f'{half}_ffn_dim']}, not 4 times d_model")
    return Dimensions(
        n_vocab=number("vocab_size"),
        n_audio_ctx=number("max_source_positions"),
        n_state=width,
        n_audio_head=number("encoder_attention_heads"),
        n_audio_layer=number("encoder_layers"),
        n_text_ctx=number("max_target_positions"),
        n_text_head=number("decoder_attention_heads"),
        n_text_layer=number("decoder_layers"),
        n_mels=number("num_mel_bins"),
    )


def _openai_name(name: str) -> str:
    """OpenAI's name of a tensor; its own if there is none.

    >>> _openai_name("model.decoder.layers.3.encoder_attn.k_proj.weight")
    'decoder.blocks.3.cross_attn.key.weight'
    """
    short = name.removeprefix("model.")
    if block := re.fullmatch(r"(encoder|decoder)\.layers\.(\d+)\.(.+)\.(weight|bias)", short):
        half, layer, part, end = block.groups()
        renamed = ".".join(PARTS.get(word, word) for word in part.split("."))
        return f"{half}.blocks.{layer}.{renamed}.{end}"
    return ENDS.get(short, short)


def _tie(folder: Path, tensors: dict[str, Read]) -> None:
    """whisper.cpp has one matrix for embedding and projection; a folder may have it under either name, or both."""
    projection = tensors.pop(PROJECTION, None)
    if projection is None:
        return
    embedding = tensors.setdefault(EMBEDDING, projection)
    if embedding is not projection and not np.array_equal(embedding(), projection()):
        raise ModelError(
            f"{folder}: {PROJECTION} differs from the embedding of its tokens: whisper.cpp has one for both"
        )
