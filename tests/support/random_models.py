"""Small Whisper models with random weights, in the formats that users have, and what they compute, in plain NumPy."""

import json
import math
import struct

import numpy as np

from transcriber.models.conversion.layout import Dimensions
from transcriber.models.conversion.vocabulary import LETTERS, TIMES

D, HEADS = 64, 2
ENGLISH = Dimensions(51_864, 1_500, D, HEADS, 2, 448, HEADS, 2, 80)
MULTILINGUAL = Dimensions(51_865, 1_500, D, HEADS, 2, 448, HEADS, 1, 80)
THIRD = Dimensions(51_866, 1_500, D, HEADS, 1, 448, HEADS, 2, 128)

HF_PARTS = {
    "attn.query": "self_attn.q_proj", "attn.key": "self_attn.k_proj", "attn.value": "self_attn.v_proj",
    "attn.out": "self_attn.out_proj", "attn_ln": "self_attn_layer_norm",
    "cross_attn.query": "encoder_attn.q_proj", "cross_attn.key": "encoder_attn.k_proj",
    "cross_attn.value": "encoder_attn.v_proj", "cross_attn.out": "encoder_attn.out_proj",
    "cross_attn_ln": "encoder_attn_layer_norm", "mlp.0": "fc1", "mlp.2": "fc2", "mlp_ln": "final_layer_norm",
}  # fmt: skip
HF_ENDS = {
    "encoder.positional_embedding": "encoder.embed_positions.weight",
    "decoder.positional_embedding": "decoder.embed_positions.weight",
    "decoder.token_embedding.weight": "decoder.embed_tokens.weight",
    "encoder.ln_post.weight": "encoder.layer_norm.weight", "encoder.ln_post.bias": "encoder.layer_norm.bias",
    "decoder.ln.weight": "decoder.layer_norm.weight", "decoder.ln.bias": "decoder.layer_norm.bias",
}  # fmt: skip


def bf16(array):
    """Its upper halves, as numbers of 16 bits."""
    return (array.astype(np.float32).view(np.uint32) >> 16).astype("<u2")


STORED = {
    "F32": lambda a: a.astype("<f4"),
    "F16": lambda a: a.astype("<f2"),
    "BF16": bf16,
    "I8": lambda a: a.astype("i1"),
}


def weights(dimensions, seed=1):
    """Name to array, of numbers that bfloat16 and float16 hold alike."""
    rng = np.random.default_rng(seed)
    made = {}
    for name, stored in dimensions.tensors():
        shape = stored[:1] if stored[1:] == (1,) else stored
        scale = 0.1 if len(shape) == 1 or "embedding" in name else 1 / np.sqrt(np.prod(shape[1:]))
        array = scale * rng.standard_normal(shape)
        array = 1 + array if "ln" in name and name.endswith(".weight") else array
        # The upper byte of the mantissa only, and nothing so small that float16 would round it.
        array = (bf16(array).astype(np.uint32) << 16).view(np.float32)
        made[name] = np.where(np.abs(array) < 2**-10, 0, array).astype(np.float32)
    return made


def tokens(dimensions):
    """All of them as GPT-2 writes bytes, different from each other."""
    letters = {byte: letter for letter, byte in LETTERS.items()}
    pairs = (letters[number >> 8] + letters[number & 255] for number in range(50_000))
    text = [*letters.values(), *pairs]
    multilingual = dimensions.n_vocab > 51_864
    text = text[:50_256] + ([""] if multilingual else [])
    names = ["endoftext", "startoftranscript"]
    names += [f"x{number}" for number in range(dimensions.n_vocab - TIMES - len(text) - len(names) - 1)]
    text += [f"<|{name}|>" for name in [*names, "notimestamps"]]
    return text + [f"<|{0.02 * number:.2f}|>" for number in range(TIMES)]


def hf_name(name):
    if ".blocks." in name:
        half, _, layer, rest = name.split(".", 3)
        part, end = rest.rsplit(".", 1)
        return f"model.{half}.layers.{layer}.{HF_PARTS[part]}.{end}"
    return "model." + HF_ENDS.get(name, name)


def safetensors(path, tensors, dtype="F32"):
    """A file; ``tensors`` by their names in it."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    blobs, at = [], 0
    for name, array in tensors.items():
        blob = STORED[dtype](array).tobytes()
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [at, at + len(blob)]}
        blobs.append(blob)
        at += len(blob)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def hugging_face(folder, dimensions, made, *, dtype="F32", files=1, more=None, **config):
    """A folder of transformers; ``more`` are further tensors, ``config`` further settings."""
    folder.mkdir()
    settings = {
        "model_type": "whisper", "vocab_size": dimensions.n_vocab, "d_model": dimensions.n_state,
        "encoder_layers": dimensions.n_audio_layer, "encoder_attention_heads": dimensions.n_audio_head,
        "decoder_layers": dimensions.n_text_layer, "decoder_attention_heads": dimensions.n_text_head,
        "encoder_ffn_dim": 4 * dimensions.n_state, "decoder_ffn_dim": 4 * dimensions.n_state,
        "num_mel_bins": dimensions.n_mels, "max_source_positions": dimensions.n_audio_ctx,
        "max_target_positions": dimensions.n_text_ctx, "activation_function": "gelu",
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(settings | config))
    words = tokens(dimensions)
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words[:50_257])}))
    rest = {word: 50_257 + number for number, word in enumerate(words[50_257:])}
    (folder / "added_tokens.json").write_text(json.dumps(rest))
    named = {hf_name(name): array for name, array in made.items()} | (more or {})
    if files == 1:
        safetensors(folder / "model.safetensors", named, dtype)
        return folder
    where = {name: f"model-{number % files + 1:05}-of-{files:05}.safetensors" for number, name in enumerate(named)}
    for file in sorted(set(where.values())):
        safetensors(folder / file, {name: array for name, array in named.items() if where[name] == file}, dtype)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return folder


def ctranslate2(folder, dimensions, made, *, type_=4, more=None):
    """A folder of CTranslate2; ``type_`` is its number of the weights' type."""
    folder.mkdir()
    words = tokens(dimensions)
    (folder / "vocabulary.json").write_text(json.dumps(words))
    (folder / "config.json").write_text("{}")
    zeros = np.zeros(dimensions.n_state, np.float32)
    out = {}

    def linear(theirs, *ours):
        out[f"{theirs}/weight"] = np.concatenate([made[f"{name}.weight"] for name in ours])
        out[f"{theirs}/bias"] = np.concatenate([made.get(f"{name}.bias", zeros) for name in ours])

    def norm(theirs, ours):
        out[f"{theirs}/gamma"], out[f"{theirs}/beta"] = made[f"{ours}.weight"], made[f"{ours}.bias"]

    out["decoder/embeddings/weight"] = made["decoder.token_embedding.weight"]
    for half, layers in (("encoder", dimensions.n_audio_layer), ("decoder", dimensions.n_text_layer)):
        out[f"{half}/position_encodings/encodings"] = made[f"{half}.positional_embedding"]
        norm(f"{half}/layer_norm", "encoder.ln_post" if half == "encoder" else "decoder.ln")
        for layer in range(layers):
            theirs, ours = f"{half}/layer_{layer}", f"{half}.blocks.{layer}"
            linear(f"{theirs}/self_attention/linear_0", *(f"{ours}.attn.{part}" for part in ("query", "key", "value")))
            linear(f"{theirs}/self_attention/linear_1", f"{ours}.attn.out")
            norm(f"{theirs}/self_attention/layer_norm", f"{ours}.attn_ln")
            if half == "decoder":
                linear(f"{theirs}/attention/linear_0", f"{ours}.cross_attn.query")
                linear(f"{theirs}/attention/linear_1", f"{ours}.cross_attn.key", f"{ours}.cross_attn.value")
                linear(f"{theirs}/attention/linear_2", f"{ours}.cross_attn.out")
                norm(f"{theirs}/attention/layer_norm", f"{ours}.cross_attn_ln")
            linear(f"{theirs}/ffn/linear_0", f"{ours}.mlp.0")
            linear(f"{theirs}/ffn/linear_1", f"{ours}.mlp.2")
            norm(f"{theirs}/ffn/layer_norm", f"{ours}.mlp_ln")
    for conv in ("conv1", "conv2"):
        linear(f"encoder/{conv}", f"encoder.{conv}")
    numbers = {
        "encoder/num_heads": (dimensions.n_audio_head, "<i2", 2), "decoder/num_heads": (dimensions.n_text_head, "<i2", 2),
        "decoder/pre_norm": (1, "i1", 1), "decoder/activation": (3, "i1", 1), "decoder/alignment_layer": (-1, "<i2", 2),
    } | (more or {})  # fmt: skip
    dtype, encode = {0: ("<f4", STORED["F32"]), 1: ("i1", STORED["I8"]), 4: ("<f2", STORED["F16"]), 5: ("<u2", bf16)}[
        type_
    ]
    variables = [(name, encode(array).astype(dtype), type_) for name, array in out.items()]
    variables += [(name, np.array(value, kind), number) for name, (value, kind, number) in numbers.items()]
    data = struct.pack("<I", 6) + text("WhisperSpec") + struct.pack("<II", 3, len(variables))
    for name, array, number in variables:
        data += text(name) + struct.pack(f"<B{array.ndim}I", array.ndim, *array.shape)
        data += struct.pack("<BI", number, array.nbytes) + array.tobytes()
    data += struct.pack("<I", 1) + text("decoder/projection/weight") + text("decoder/embeddings/weight")
    (folder / "model.bin").write_bytes(data)
    return folder


def text(name):
    return struct.pack("<H", len(name) + 1) + name.encode() + b"\0"


def logits(made, dimensions, spectrogram, prompt):
    """(n_vocab,) float32 of what follows ``prompt``: Whisper's forward pass, from the paper."""
    hidden = convolved(spectrogram, made["encoder.conv1.weight"], made["encoder.conv1.bias"], 1)
    hidden = convolved(hidden, made["encoder.conv2.weight"], made["encoder.conv2.bias"], 2).T
    hidden += made["encoder.positional_embedding"]
    for layer in range(dimensions.n_audio_layer):
        hidden = block(hidden, made, f"encoder.blocks.{layer}", dimensions.n_audio_head)
    heard = normed(hidden, made, "encoder.ln_post")
    hidden = made["decoder.token_embedding.weight"][prompt] + made["decoder.positional_embedding"][: len(prompt)]
    for layer in range(dimensions.n_text_layer):
        hidden = block(hidden, made, f"decoder.blocks.{layer}", dimensions.n_text_head, heard)
    return normed(hidden, made, "decoder.ln")[-1] @ made["decoder.token_embedding.weight"].T


def gelu(x):
    """By the error function; the tanh that others use is off by 5e-4."""
    erf = np.vectorize(math.erf, otypes=[np.float32])
    return x * 0.5 * (1 + erf(x / np.sqrt(2)))


def convolved(signal, kernel, bias, stride):
    padded = np.pad(signal, ((0, 0), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, 3, axis=1)[:, ::stride]
    return gelu(np.einsum("itk,oik->ot", windows, kernel) + bias[:, np.newaxis])


def block(hidden, made, name, heads, heard=None):
    causal = heard is not None
    inner = normed(hidden, made, f"{name}.attn_ln")
    hidden = hidden + attention(inner, inner, made, f"{name}.attn", heads, causal=causal)
    if heard is not None:
        inner = normed(hidden, made, f"{name}.cross_attn_ln")
        hidden = hidden + attention(inner, heard, made, f"{name}.cross_attn", heads)
    inner = gelu(linear(normed(hidden, made, f"{name}.mlp_ln"), made, f"{name}.mlp.0"))
    return hidden + linear(inner, made, f"{name}.mlp.2")


def attention(asked, known, made, name, heads, *, causal=False):
    def split(x):
        return x.reshape(len(x), heads, -1).transpose(1, 0, 2)

    query = split(linear(asked, made, f"{name}.query"))
    key, value = (split(linear(known, made, f"{name}.{part}")) for part in ("key", "value"))
    scores = query @ key.transpose(0, 2, 1) / np.sqrt(query.shape[-1])
    if causal:
        scores = np.where(np.tri(len(asked), dtype=bool), scores, -np.inf)
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    mixed = (shares / shares.sum(-1, keepdims=True)) @ value
    return linear(mixed.transpose(1, 0, 2).reshape(len(asked), -1), made, f"{name}.out")


def linear(x, made, name):
    return x @ made[f"{name}.weight"].T + made.get(f"{name}.bias", np.float32(0))


def normed(x, made, name):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return x * made[f"{name}.weight"] + made[f"{name}.bias"]
