import dataclasses
import json
import os
import signal
import struct
import subprocess
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from bench.chaos.one_broker import may_fill_a_disk
from tests.support.random_models import (
    ENGLISH,
    MULTILINGUAL,
    THIRD,
    D,
    ctranslate2,
    hf_name,
    hugging_face,
    logits,
    safetensors,
    text,
    tokens,
    weights,
)
from transcriber.cli import main
from transcriber.engine.whisper.raw_model import RawModel
from transcriber.errors import ConfigError, ModelError, StorageError
from transcriber.models.catalog import DEMO_MODEL
from transcriber.models.conversion.convert import convert, convert_folder, folder_digest
from transcriber.models.conversion.mel_filters import mel_filters
from transcriber.models.conversion.quantize import KIND_F16, KIND_Q5_1, KIND_Q8_0
from transcriber.models.ggml import check_model_file, read_mel_filters, read_vocabulary

EMBEDDING = "decoder.token_embedding.weight"
LINEAR = "encoder.blocks.0.mlp.0.weight"


@pytest.fixture(scope="module")
def made():
    return weights(ENGLISH)


@pytest.fixture(scope="module")
def original(tmp_path_factory, made):
    """A folder of transformers, not to be changed."""
    return hugging_face(tmp_path_factory.mktemp("original") / "whisper-small-en", ENGLISH, made)


@pytest.fixture(scope="module")
def converted(tmp_path_factory, original):
    path = tmp_path_factory.mktemp("converted") / "ggml-mine.bin"
    convert_folder(original, path)
    return path


def refused(folder: Path, tmp_path: Path) -> str:
    """The one line about a folder of which nothing comes."""
    out = tmp_path / "out"
    out.mkdir(exist_ok=True)
    with pytest.raises(ModelError) as caught:
        convert_folder(folder, out / "ggml-out.bin")
    assert not list(out.iterdir())
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("dimensions", [ENGLISH, MULTILINGUAL, THIRD], ids=["english", "multilingual", "third"])
def test_whisper_computes_of_a_converted_folder_what_its_weights_mean(tmp_path, dimensions):
    made, prompt = weights(dimensions, seed=2), [50_258, 50_300, 11]
    spectrogram = np.random.default_rng(3).standard_normal((dimensions.n_mels, 3000)).astype(np.float32)
    path = tmp_path / "ggml-mine.bin"
    convert_folder(hugging_face(tmp_path / "folder", dimensions, made), path)

    decoder = RawModel(path, flash_attention=False)
    decoder.encode(spectrogram)
    computed = decoder.logits(prompt)
    decoder.close()

    assert np.abs(computed - logits(made, dimensions, spectrogram, prompt)).max() < 1e-2
    assert computed.std() > 0.5


def test_header_filters_and_vocabulary_are_whispers(converted):
    shape = check_model_file(converted)
    words, _ = read_vocabulary(converted.read_bytes())

    assert (shape.n_vocab, shape.n_audio_ctx, shape.n_audio_state, shape.n_text_ctx, shape.ftype) == (
        51_864, 1_500, D, 448, 1,
    )  # fmt: skip
    assert len(words) == len(set(words)) == 50_257
    assert words[0] == b"!"
    assert words[-1] == b"<|endoftext|>"
    assert read_mel_filters(converted, shape).tobytes() == mel_filters(80).tobytes()


def test_multilingual_vocabulary_has_the_empty_token(tmp_path):
    convert_folder(hugging_face(tmp_path / "folder", MULTILINGUAL, weights(MULTILINGUAL)), tmp_path / "ggml-mine.bin")

    words, _ = read_vocabulary((tmp_path / "ggml-mine.bin").read_bytes())

    assert (len(words), words[-1]) == (50_257, b"")


@pytest.mark.parametrize(
    "make",
    [
        lambda folder, made: hugging_face(folder, ENGLISH, made, dtype="F16"),
        lambda folder, made: hugging_face(folder, ENGLISH, made, dtype="BF16"),
        lambda folder, made: hugging_face(folder, ENGLISH, made, files=3),
        lambda folder, made: hugging_face(folder, ENGLISH, made, more={"proj_out.weight": made[EMBEDDING]}),
        lambda folder, made: hugging_face(
            folder, ENGLISH, made, more={"model.encoder.layers.0.self_attn.k_proj.bias": np.zeros(D)}
        ),
        lambda folder, made: ctranslate2(folder, ENGLISH, made),
        lambda folder, made: ctranslate2(folder, ENGLISH, made, type_=0),
        lambda folder, made: ctranslate2(folder, ENGLISH, made, type_=5),
    ],
    ids=["f16", "bf16", "three files", "projection", "zero bias", "ct2 f16", "ct2 f32", "ct2 bf16"],
)
def test_the_same_weights_are_the_same_file_wherever_they_come_from(tmp_path, made, converted, make):
    folder = make(tmp_path / "folder", made)

    convert_folder(folder, tmp_path / "ggml-mine.bin")

    assert (tmp_path / "ggml-mine.bin").read_bytes() == converted.read_bytes()


def test_names_without_the_prefix_and_a_projection_alone_are_read(tmp_path, made, converted):
    folder = hugging_face(tmp_path / "folder", ENGLISH, made)
    named = {hf_name(name).removeprefix("model."): array for name, array in made.items()}
    named["proj_out.weight"] = named.pop("decoder.embed_tokens.weight")
    safetensors(folder / "model.safetensors", named)

    convert_folder(folder, tmp_path / "ggml-mine.bin")

    assert (tmp_path / "ggml-mine.bin").read_bytes() == converted.read_bytes()


@pytest.mark.parametrize("file", ["tokenizer.json", "vocabulary.json", "vocabulary.txt"])
def test_vocabulary_is_read_from_every_file_that_has_it(tmp_path, made, converted, file):
    folder = hugging_face(tmp_path / "folder", ENGLISH, made)
    words = tokens(ENGLISH)
    added = [{"id": number, "content": word} for number, word in enumerate(words) if number >= 50_256]
    contents = {
        "tokenizer.json": json.dumps(
            {"model": {"vocab": {word: number for number, word in enumerate(words[:50_256])}}, "added_tokens": added}
        ),
        "vocabulary.json": json.dumps(words),
        "vocabulary.txt": "".join(f"{word}\n" for word in words),
    }
    for name in ("vocab.json", "added_tokens.json"):
        (folder / name).unlink()
    (folder / file).write_text(contents[file])

    convert_folder(folder, tmp_path / "ggml-mine.bin")

    assert (tmp_path / "ggml-mine.bin").read_bytes() == converted.read_bytes()


@pytest.mark.parametrize("kind", [KIND_Q8_0, KIND_Q5_1], ids=lambda kind: kind.name)
def test_quantised_at_once_or_afterwards_is_the_same_file(tmp_path, original, converted, kind):
    at_once, afterwards = tmp_path / "ggml-once.bin", tmp_path / "ggml-after.bin"

    convert(original, at_once, kind)
    convert(converted, afterwards, kind)

    assert at_once.read_bytes() == afterwards.read_bytes()
    assert check_model_file(at_once).ftype == kind.ftype % 1000


@pytest.mark.parametrize(
    ("source", "name", "kind"),
    [
        ("folder", "ggml-mine.bin", KIND_F16),
        ("folder", "ggml-mine-q8_0.bin", KIND_Q8_0),
        ("file", "ggml-mine.bin", KIND_Q8_0),
        ("file", "ggml-mine-q5_1.bin", KIND_Q5_1),
    ],
)
def test_type_is_what_the_target_is_called_after(tmp_path, original, source, name, kind):
    assert convert(original if source == "folder" else DEMO_MODEL, tmp_path / name) is kind


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"model_type": "wav2vec2"}, "model_type is 'wav2vec2'"),
        ({"activation_function": "relu"}, "activation_function is 'relu'"),
        ({"scale_embedding": True}, "scale_embedding is True"),
        ({"d_model": "wide"}, "d_model is 'wide', no number"),
        ({"vocab_size": 51_872}, "not Whisper's vocabulary"),
        ({"encoder_ffn_dim": 100}, "encoder_ffn_dim is 100"),
        ({"encoder_attention_heads": 7}, "is 64 wide, no multiple of its 7 heads"),
        ({"encoder_layers": 3}, "lacks encoder.blocks.2.attn.key.weight"),
        ({"encoder_layers": 1}, "has tensors that Whisper does not have: encoder.blocks.1"),
        ({"num_mel_bins": 128}, "encoder.conv1.weight is 64 x 80 x 3, not 64 x 128 x 3"),
        ({"quantization_config": {"load_in_8bit": True}}, "weights are quantised"),
    ],
)
def test_config_that_a_model_file_cannot_keep_is_named(tmp_path, made, config, reason):
    assert reason in refused(hugging_face(tmp_path / "folder", ENGLISH, made, **config), tmp_path)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (
            {"model.encoder.adapter.weight": np.ones(4)},
            "has tensors that Whisper does not have: encoder.adapter.weight",
        ),
        ({"model.decoder.layers.0.fc1.lora_A.weight": np.ones(4)}, "LoRA"),
        ({"proj_out.weight": np.ones((51_864, D))}, "proj_out.weight differs"),
        ({"model.encoder.layers.0.self_attn.k_proj.bias": np.ones(D)}, "key.bias is not zero"),
        ({"model.encoder.layer_norm.weight": np.full(D, np.nan)}, "holds values that are not finite"),
        ({hf_name(LINEAR): np.full((4 * D, D), 1e5)}, "holds 100000, which is too large for f16"),
        ({hf_name(LINEAR): np.ones((D, D))}, "is 64 x 64, not 256 x 64"),
    ],
)
def test_tensors_that_a_model_file_cannot_keep_are_named(tmp_path, made, more, reason):
    assert reason in refused(hugging_face(tmp_path / "folder", ENGLISH, made, more=more), tmp_path)


def test_int8_folders_are_refused_by_name(tmp_path, made):
    assert "its weights are int8" in refused(ctranslate2(tmp_path / "ct2", ENGLISH, made, type_=1), tmp_path)
    assert "of type I8" in refused(hugging_face(tmp_path / "hf", ENGLISH, made, dtype="I8"), tmp_path)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"decoder/activation": (1, "i1", 1)}, "decoder/activation is 1"),
        ({"decoder/scale_embeddings": (1, "i1", 1)}, "decoder/scale_embeddings is 1"),
        ({"encoder/layer_9/what/weight": (np.ones(3), "<f2", 4)}, "lacks encoder/layer_2/"),
        (
            {"encoder/what/weight": (np.ones(3), "<f2", 4)},
            "has tensors that Whisper does not have: encoder/what/weight",
        ),
    ],
)
def test_ctranslate2_that_a_model_file_cannot_keep_is_named(tmp_path, made, more, reason):
    if "layer_9" in str(more):
        more = more | {"encoder/layer_8/what/weight": (np.ones(3), "<f2", 4)}

    assert reason in refused(ctranslate2(tmp_path / "folder", ENGLISH, made, more=more), tmp_path)


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({}, "neither model.safetensors nor CTranslate2's model.bin"),
        ({"adapter_config.json": b"{}", "adapter_model.safetensors": b""}, "is a LoRA adapter"),
        ({"config.json": b"{}", "pytorch_model.bin": b"PK"}, "model.safetensors is needed, not pytorch_model.bin"),
        ({"config.json": b"{", "model.safetensors": b""}, "config.json: is not JSON"),
        ({"config.json": b"[1]", "model.safetensors": b""}, "config.json: is not a JSON object"),
        ({"model.safetensors": b""}, "config.json: cannot be read: No such file"),
        ({"model.bin": b""}, "model.bin: is empty"),
        ({"model.bin": b"PK\x03\x04 and more"}, "model.bin: is a PyTorch or ZIP file"),
        ({"model.bin": b"version https://git-lfs.github.com/spec/v1\n"}, "a Git LFS pointer"),
        ({"model.bin": b"\x06\0\0\0\x10\0TransformerSpec\0"}, "is 'TransformerSpec' of format 6"),
        ({"model.bin": b"\xff" * 64}, "not a model of CTranslate2; 64 bytes"),
    ],
)
def test_foreign_folder_is_called_by_its_name(tmp_path, files, reason):
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)

    assert reason in refused(folder, tmp_path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (b"\x05\0\0\0\0\0\0\0hello", "not a safetensors file"),
        (b"\xff" * 20, "not a safetensors file"),
        (b"\x05\0\0\0\0\0\0\0{'a'}", "its header cannot be read"),
        (b'\x0b\0\0\0\0\0\0\0{"a":{"b":1}}', "its header cannot be read"),
    ],
)
def test_weights_that_are_no_safetensors_are_called_by_their_name(tmp_path, made, content, reason):
    folder = hugging_face(tmp_path / "folder", ENGLISH, made)
    (folder / "model.safetensors").write_bytes(content)

    assert reason in refused(folder, tmp_path)


def test_missing_file_of_several_is_named(tmp_path, made):
    folder = hugging_face(tmp_path / "folder", ENGLISH, made, files=3)
    (folder / "model-00002-of-00003.safetensors").unlink()

    assert "model-00002-of-00003.safetensors: cannot be read: No such file" in refused(folder, tmp_path)


@pytest.mark.parametrize(("make", "file"), [(hugging_face, "model.safetensors"), (ctranslate2, "model.bin")])
def test_weights_truncated_anywhere_are_refused(tmp_path_factory, made, make, file):
    folder = make(tmp_path_factory.mktemp("cut") / "folder", ENGLISH, made)
    whole = (folder / file).read_bytes()

    @settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
    @given(size=st.integers(0, len(whole) - 1) | st.integers(0, 3000))
    def cut(size):
        (folder / file).write_bytes(whole[:size])
        line = refused(folder, folder.parent)
        assert size < 16 or "truncated: ends in " in line

    cut()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda words: words[:50_000], "not Whisper's vocabulary"),
        (lambda words: ["\u2603", *words[1:]], "token 0 is '\u2603'"),
        (lambda words: [None, *words[1:]], "is no vocabulary"),
        (lambda words: {"a": words}, "is no vocabulary"),
        (lambda words: [*words[:-1502], "<|other|>", *words[-1501:]], "not '<|notimestamps|>'"),
    ],
    ids=["short", "snowman", "null", "object", "moved"],
)
def test_other_vocabularies_are_refused(tmp_path, made, change, reason):
    folder = ctranslate2(tmp_path / "folder", ENGLISH, made)
    (folder / "vocabulary.json").write_text(json.dumps(change(tokens(ENGLISH))))

    assert reason in refused(folder, tmp_path)


def test_folder_without_vocabulary_is_refused(tmp_path, made):
    folder = ctranslate2(tmp_path / "folder", ENGLISH, made)
    (folder / "vocabulary.json").unlink()

    assert "no vocabulary: none of tokenizer.json" in refused(folder, tmp_path)


def test_width_without_whole_blocks_is_f16_only(tmp_path):
    narrow = type(ENGLISH)(51_864, 1_500, 40, 2, 1, 448, 2, 1, 80)
    folder = hugging_face(tmp_path / "folder", narrow, weights(narrow))

    convert(folder, tmp_path / "ggml-narrow.bin")
    with pytest.raises(ModelError, match="no multiple of 32: cannot be q8_0"):
        convert(folder, tmp_path / "ggml-narrow-q8_0.bin")
    with pytest.raises(ModelError, match="no multiple of 32: cannot be q5_1"):
        convert(tmp_path / "ggml-narrow.bin", tmp_path / "ggml-narrow-q5_1.bin")

    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["ggml-narrow.bin"]


def test_target_that_is_the_source_or_a_folder_is_refused(tmp_path, converted):
    with pytest.raises(ModelError, match="is the source of the conversion"):
        convert(converted, converted.parent / "." / converted.name, KIND_Q8_0)
    with pytest.raises(ModelError, match="is a directory"):
        convert(converted, tmp_path)
    with pytest.raises(ModelError, match="its weights are f16 already"):
        convert(converted, tmp_path / "ggml-again.bin", KIND_F16)


@pytest.mark.skipif(not may_fill_a_disk(), reason="only root may mount a small disk")
@pytest.mark.parametrize("source", ["folder", "file"])
def test_full_disk_leaves_nothing_and_keeps_what_was_there(tmp_path, original, converted, source):
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "none", disk], check=True)
    try:
        (disk / "ggml-mine-q8_0.bin").write_bytes(b"the old one")

        with pytest.raises(StorageError) as caught:
            convert(original if source == "folder" else converted, disk / "ggml-mine-q8_0.bin")

        assert str(caught.value) == f"{disk}/ggml-mine-q8_0.bin: cannot be stored: No space left on device"
        assert [path.read_bytes() for path in disk.iterdir()] == [b"the old one"]
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_digest_of_a_folder_changes_with_any_byte_and_with_nothing_else(tmp_path, original, made):
    folder = hugging_face(tmp_path / "copy", ENGLISH, made)
    before = folder_digest(folder)
    weights_file = folder / "model.safetensors"
    data = bytearray(weights_file.read_bytes())
    data[-1] ^= 1

    weights_file.write_bytes(data)

    assert before == folder_digest(original)
    assert folder_digest(folder) != before


def test_progress_never_goes_back(tmp_path, original):
    progress = []

    convert_folder(original, tmp_path / "ggml-mine.bin", draw=lambda _, done, total: progress.append((done, total)))

    assert all(first[0] < second[0] for first, second in pairwise(progress))
    assert len({total for _, total in progress}) == 1
    assert progress[-1][0] < progress[-1][1]


@pytest.mark.parametrize(
    ("shape", "size"),
    [([float("inf")], 4), ([1] * 100, 4), ([0, 2**70], 0), ([-1, -1], 4), ([0], 0)],
    ids=["infinite", "dimensions", "nothing of much", "negative", "nothing"],
)
@pytest.mark.parametrize("name", ["proj_out.weight", "model.decoder.layers.0.self_attn.k_proj.bias"])
def test_impossible_shapes_are_refused(tmp_path, made, name, shape, size):
    folder = hugging_face(tmp_path / "folder", ENGLISH, made)
    path = folder / "model.safetensors"
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length]) | {name: {"dtype": "F32", "shape": shape, "data_offsets": [0, size]}}
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])

    assert "model.safetensors: " in refused(folder, tmp_path)


@pytest.mark.parametrize("shape", [(1,) * 200, (0, 2**32 - 1, 3)], ids=["dimensions", "nothing of much"])
def test_impossible_shapes_of_ctranslate2_are_refused(tmp_path, made, shape):
    folder = ctranslate2(tmp_path / "folder", ENGLISH, made)
    data = (folder / "model.bin").read_bytes()
    head = struct.pack("<I", 6) + text("WhisperSpec")
    revision, count = struct.unpack_from("<II", data, len(head))
    numbers = bytes(4 * int(np.prod(shape, dtype=object)))
    more = text("strange") + struct.pack(f"<B{len(shape)}I", len(shape), *shape)
    more += struct.pack("<BI", 0, len(numbers)) + numbers
    (folder / "model.bin").write_bytes(head + struct.pack("<II", revision, count + 1) + more + data[len(head) + 8 :])

    assert "strange contradicts itself" in refused(folder, tmp_path)


def test_ctranslate2_with_more_behind_it_is_refused(tmp_path, made):
    folder = ctranslate2(tmp_path / "folder", ENGLISH, made)
    with (folder / "model.bin").open("ab") as file:
        file.write(b"more")

    assert "4 bytes after its last variable" in refused(folder, tmp_path)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("encoder_layers", "n_audio_layer is 2147483647, not from 1 to 128"),
        ("num_mel_bins", "n_mels is 2147483647, not from 1 to 256"),
        ("max_target_positions", "n_text_ctx is 2147483647"),
        ("decoder_attention_heads", "n_text_head is 2147483647"),
    ],
)
@pytest.mark.timeout(20)
def test_sizes_beyond_reason_are_refused_before_anything_is_made_of_that_size(tmp_path, made, name, reason):
    assert reason in refused(hugging_face(tmp_path / "folder", ENGLISH, made, **{name: 2**31 - 1}), tmp_path)


@pytest.mark.timeout(20)
def test_what_is_no_file_is_not_waited_for(tmp_path, made):
    folder = hugging_face(tmp_path / "folder", ENGLISH, made)
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")
    assert "config.json: is not a regular file" in refused(folder, tmp_path)

    several = hugging_face(tmp_path / "several", ENGLISH, made, files=2)
    first = several / "model-00001-of-00002.safetensors"
    first.unlink()
    first.symlink_to("/dev/zero")
    assert f"{first.name}: is not a regular file" in refused(several, tmp_path)


@pytest.mark.parametrize("file", ["../../etc/passwd", "/etc/passwd", "..", "", "a\0.safetensors", "weights.bin"])
def test_index_names_files_of_its_folder_only(tmp_path, made, file):
    folder = hugging_face(tmp_path / "folder", ENGLISH, made)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": file}}))

    assert "has no weight_map to safetensors files beside it" in refused(folder, tmp_path)


@pytest.mark.parametrize(
    "added", ['{"id": 5, "content": 7}', '{"id": 5, "content": ["a"]}', '{"id": [], "content": ""}']
)
def test_tokens_that_are_no_text_are_refused(tmp_path, made, added):
    folder = hugging_face(tmp_path / "folder", ENGLISH, made)
    vocabulary = (folder / "vocab.json").read_text()
    (folder / "tokenizer.json").write_text(f'{{"model": {{"vocab": {vocabulary}}}, "added_tokens": [{added}]}}')

    assert "tokenizer.json: is no vocabulary" in refused(folder, tmp_path)


def test_tokens_with_infinite_numbers_are_refused(tmp_path, made):
    folder = hugging_face(tmp_path / "folder", ENGLISH, made)
    (folder / "vocab.json").write_text('{"a": Infinity}')

    assert "vocab.json: is no vocabulary" in refused(folder, tmp_path)


def test_files_of_a_folder_are_not_written_over_unless_they_are_model_files(tmp_path, made):
    folder = ctranslate2(tmp_path / "folder", ENGLISH, made)
    digest = folder_digest(folder)
    (tmp_path / "link.bin").symlink_to(folder / "model.bin")
    for target in (folder / "model.bin", folder / "config.json", tmp_path / "link.bin"):
        with pytest.raises(ModelError, match="is the source of the conversion"):
            convert(folder, target)

    convert(folder, folder / "ggml-out.bin")
    convert(folder, folder / "ggml-out.bin")

    assert folder_digest(folder) == digest


@pytest.mark.parametrize("source", ["original", "converted"])
def test_devices_and_pipes_are_not_replaced_by_a_file(tmp_path, source, request):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "null").symlink_to("/dev/null")
    for name in ("pipe", "null"):
        with pytest.raises(StorageError, match="is no regular file"):
            convert(request.getfixturevalue(source), tmp_path / name, KIND_Q8_0)

    assert (tmp_path / "pipe").is_fifo()
    assert (tmp_path / "null").is_char_device()


def test_target_called_after_a_kind_that_is_not_written_is_refused(tmp_path, converted):
    with pytest.raises(ConfigError, match="its name ends with q5_0, which cannot be written"):
        convert(converted, tmp_path / "ggml-out-q5_0.bin")

    assert convert(converted, tmp_path / "ggml-out-q5_0.bin", KIND_Q8_0) is KIND_Q8_0


@pytest.mark.parametrize(
    ("number", "name", "reason"),
    [
        (np.nan, b"decoder.blocks.0.mlp.0.weight", "holds values that are not finite"),
        (np.inf, b"decoder.ln.bias", "holds values that are not finite"),
    ],
)
def test_model_file_with_what_is_no_number_is_not_quantised(tmp_path, converted, number, name, reason):
    data = bytearray(converted.read_bytes())
    at = data.index(name) + len(name)
    kind = "<f4" if name.endswith(b"bias") else "<f2"
    data[at : at + np.dtype(kind).itemsize] = np.array(number, kind).tobytes()
    broken = tmp_path / "ggml-broken.bin"
    broken.write_bytes(data)

    with pytest.raises(ModelError, match=f"{name.decode()} {reason}"):
        convert(broken, tmp_path / "ggml-out-q8_0.bin")

    assert [path.name for path in tmp_path.iterdir()] == ["ggml-broken.bin"]


def test_interrupted_conversion_is_an_interruption_and_leaves_nothing(tmp_path, converted):
    def interrupted(_numbers):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(converted, tmp_path / "ggml-out.bin", dataclasses.replace(KIND_Q8_0, encode=interrupted))

    assert not list(tmp_path.iterdir())


def test_sigterm_during_a_conversion_leaves_nothing(tmp_path, converted, monkeypatch):
    monkeypatch.setattr(
        "transcriber.models.conversion.quantize._copy_tensor", lambda *_: os.kill(os.getpid(), signal.SIGTERM)
    )
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert main(["quantize", str(converted), str(tmp_path / "ggml-out.bin")]) == 130
    finally:
        signal.signal(signal.SIGTERM, before)

    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("long", ["source", "target"])
def test_names_that_are_too_long_are_one_line(tmp_path, converted, capsys, long):
    paths = {"source": converted, "target": tmp_path / "ggml-out.bin"} | {long: tmp_path / ("x" * 300)}

    assert main(["quantize", str(paths["source"]), str(paths["target"])]) == 3

    assert "File name too long" in capsys.readouterr().err


def test_names_in_a_folder_do_not_reach_the_terminal_as_they_are(tmp_path, made, capsys):
    folder = hugging_face(tmp_path / "folder", ENGLISH, made, more={"\x1b[2J\nmore": np.zeros(1, np.float32)})

    assert main(["models", "convert", str(folder), str(tmp_path / "ggml-out.bin")]) == 3

    line = capsys.readouterr().err
    assert "has tensors that Whisper does not have: \\x1b[2J\\nmore" in line
    assert line.count("\n") == 1


def test_digest_of_a_folder_takes_names_of_any_bytes(tmp_path, made):
    folder = ctranslate2(tmp_path / "folder", ENGLISH, made)
    before = folder_digest(folder)
    (folder / os.fsdecode(b"\xff.json")).touch()

    assert folder_digest(folder) != before
