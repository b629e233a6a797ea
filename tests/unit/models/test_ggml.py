import os
import struct
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from transcriber.errors import ModelError
from transcriber.models.catalog import DEMO_MODEL
from transcriber.models.ggml import ModelShape, check_model_file

DEMO = DEMO_MODEL.read_bytes()
VOCABULARY = 56 + 4 * 80 * 201
FIRST_TENSOR = DEMO.index(b"encoder.positional_embedding")
LAST_BIAS = DEMO.rindex(b".bias")
on_one_file = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    path = tmp_path_factory.mktemp("ggml") / "copy.bin"
    path.write_bytes(DEMO)
    return path


def changed(path: Path, at: int, new: bytes) -> Path:
    path.write_bytes(DEMO[:at] + new + DEMO[at + len(new) :])
    return path


def refused(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        check_model_file(path)
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert "\n" not in line
    return line


def test_bundled_model_has_its_shape():
    shape = check_model_file(DEMO_MODEL)

    assert shape == ModelShape(51_864, 1_500, 96, 6, 448, 3, 80, 1)
    assert (shape.tensors, shape.weights) == (11 + 15 * 6 + 24 * 3, 6_334_944)
    assert not shape.multilingual
    assert shape.n_languages == 1


@pytest.mark.parametrize(("n_vocab", "languages"), [(51_865, 99), (51_866, 100)])
def test_larger_vocabulary_means_many_languages(n_vocab, languages):
    shape = ModelShape(n_vocab, 1_500, 96, 6, 448, 3, 80, 1)

    assert shape.multilingual
    assert shape.n_languages == languages


@on_one_file
@given(size=st.integers(0, len(DEMO) - 1) | st.integers(0, FIRST_TENSOR + 100))
def test_model_truncated_anywhere_is_refused(copy, size):
    os.truncate(copy, size)
    try:
        line = refused(copy)
    finally:
        with copy.open("ab") as file:
            file.write(DEMO[size:])

    assert size < 4 or "truncated: ends in " in line


@on_one_file
@given(
    at=st.integers(0, 60) | st.integers(0, FIRST_TENSOR + 40) | st.integers(LAST_BIAS - 50, LAST_BIAS + 10),
    new=st.binary(min_size=1, max_size=8),
)
def test_model_with_changed_bytes_is_refused_or_has_a_shape(copy, at, new):
    with copy.open("r+b") as file:
        file.seek(at)
        file.write(new)
    try:
        with suppress(ModelError):
            assert check_model_file(copy).tensors > 11
    finally:
        with copy.open("r+b") as file:
            file.seek(at)
            file.write(DEMO[at : at + len(new)])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"x", "not a ggml model"),
        (b"<!doctype html><title>404</title>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer"),
        (b"GGUF\x03\x00\x00\x00", "a GGUF file"),
        (b"PK\x03\x04", "a PyTorch or ZIP file"),
        (DEMO + b"\x00", "1 bytes after the last tensor"),
    ],
)
def test_strange_file_is_called_by_its_name(tmp_path, content, reason):
    path = tmp_path / "model.bin"
    path.write_bytes(content)

    assert reason in refused(path)


@pytest.mark.parametrize(
    ("at", "value", "reason"),
    [
        (4, 100, "n_vocab is 100"),
        (8, -1, "n_audio_ctx is -1"),
        (12, 97, "contradicts itself"),
        (16, 0, "n_audio_head is 0"),
        (20, 2**31 - 1, "n_audio_layer is 2147483647"),
        (20, 5, "means 158"),
        (20, 7, "truncated: ends in tensor 174 of 188"),
        (40, 200, "mel filters are 80 x 201, not 200 x 201"),
        (44, 4, "ftype 4 is unknown"),
        (44, 99, "ftype 99 is unknown"),
        (52, 2**30, "mel filters are 80 x 1073741824"),
        (VOCABULARY, 2**30, "1073741824 tokens"),
        (VOCABULARY + 4, -5, "token 0 has -5 bytes"),
        (FIRST_TENSOR - 20, 9, "9 dimensions"),
        (FIRST_TENSOR - 16, 2**31 - 1, "a name of 2147483647 bytes"),
        (FIRST_TENSOR - 12, 5, "type 5"),
        (FIRST_TENSOR - 8, 0, "impossible shape (0, 1500)"),
        (FIRST_TENSOR - 4, 2**31 - 1, "truncated: ends in tensor 1 of 173"),
        (FIRST_TENSOR, -1, "impossible name"),
    ],
)
def test_absurd_value_is_named(tmp_path, at, value, reason):
    path = changed(tmp_path / "model.bin", at, struct.pack("<i", value))

    assert reason in refused(path)


def test_missing_file_is_refused(tmp_path):
    assert "No such file" in refused(tmp_path / "none.bin")


def test_file_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()

    assert "cannot be read" in refused(tmp_path / "file" / "model.bin")


def test_directory_is_refused(tmp_path):
    assert "is a directory" in refused(tmp_path)


def test_pipe_is_refused_without_waiting_for_its_other_end(tmp_path):
    os.mkfifo(tmp_path / "model.bin")

    assert "not a regular file" in refused(tmp_path / "model.bin")
