import os
import re
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.random_models import ENGLISH, hugging_face, weights
from transcriber.config import Settings, load_settings
from transcriber.errors import ConfigError, ModelError, StorageError
from transcriber.models.catalog import DEMO_MODEL, PACKAGES, SHA1, SHA256, model_name
from transcriber.models.find import fetch_model, find_model, find_named_model, find_requested_model, sources
from transcriber.models.store import folder_beside, remove_unfinished, whole_file


def test_path_wins_over_name(tmp_path):
    settings = Settings(whisper_model_path=tmp_path / "mine.bin", whisper_model="base.en")

    assert find_model(settings) == tmp_path / "mine.bin"


def test_demo_is_the_bundled_model():
    assert find_model(Settings(whisper_model="demo")) == DEMO_MODEL
    assert DEMO_MODEL.is_file()


def test_no_model_names_both_settings_and_the_bundled_one():
    with pytest.raises(ConfigError, match=r"WHISPER_MODEL_PATH.*WHISPER_MODEL .*WHISPER_MODEL=demo"):
        find_model(Settings())


@pytest.mark.parametrize("name", ["base.de", "../base.en", "", "BASE", "demo/model"])
def test_unknown_name_lists_the_known_ones(tmp_path, name):
    settings = Settings(whisper_model=name or "?", whisper_model_dir=tmp_path)

    with pytest.raises(ConfigError, match=r"WHISPER_MODEL='.*': must be demo \(bundled\) or one of tiny, .*base\.en"):
        find_model(settings)


def test_checksums_are_sums_without_doubles():
    for sums, size in ((SHA1, 40), (SHA256, 64)):
        assert all(len(checksum) == size and int(checksum, 16) for checksum in sums.values())
        assert len(set(sums.values())) == len(sums)
    assert SHA256.keys() | PACKAGES.keys() <= SHA1.keys()


@pytest.mark.parametrize(
    ("path", "name"),
    [(DEMO_MODEL, "demo"), (Path("/m/ggml-base.en.bin"), "base.en"), (Path("mine-v2.bin"), "mine-v2")],
)
def test_model_is_called_after_its_file(path, name):
    assert model_name(path) == name


def test_any_name_that_has_a_file_in_the_folder_is_found(tmp_path):
    (tmp_path / "ggml-our-own_2.bin").touch()

    assert (
        find_model(Settings(whisper_model="our-own_2", whisper_model_dir=tmp_path)) == tmp_path / "ggml-our-own_2.bin"
    )


def test_the_index_comes_after_the_hubs_and_only_for_what_it_has():
    assert [source.label for source in sources("base", ["http://a", "http://b"])] == [
        "http://a", "http://b", "the package index",
    ]  # fmt: skip
    assert [source.label for source in sources("small", ["http://a"])] == ["http://a"]


@pytest.mark.parametrize(
    "hubs",
    ["ftp://host/models", "https://", "https://me:secret@host/models", "https://host:0/", "https://a,,https://b"],
)
def test_hub_that_is_no_address_is_refused(hubs):
    with pytest.raises(ConfigError, match=r"WHISPER_MODEL_HUB=.*: must be http://host/path or https://") as caught:
        load_settings(whisper_model_hub=hubs)

    assert "secret" not in str(caught.value)


def test_folder_is_converted_once_and_again_when_it_has_changed(tmp_path, caplog):
    folder = hugging_face(tmp_path / "My fine-tune!", ENGLISH, weights(ENGLISH))
    settings = Settings(whisper_model=str(folder), whisper_model_dir=tmp_path / "models")
    caplog.set_level("INFO")

    first, second = find_model(settings), find_model(settings)
    (folder / "added.json").write_text("{}")
    third = find_model(settings)

    assert first == second != third
    assert re.fullmatch(r"ggml-My-fine-tune-[0-9a-f]{12}\.bin", first.name)
    assert sorted(path.name for path in first.parent.iterdir()) == sorted([first.name, third.name])
    said = [record.message for record in caplog.records]
    assert said[0].startswith(f"converted {folder} to {first} in ")
    assert said[1] == f"{folder} was converted before: {first}"
    assert len(said) == 3


def test_folder_that_cannot_be_converted_is_one_line(tmp_path):
    (tmp_path / "empty").mkdir()

    with pytest.raises(ModelError, match=r"empty: no model in it"):
        find_model(Settings(whisper_model=str(tmp_path / "empty"), whisper_model_dir=tmp_path / "models"))

    assert list((tmp_path / "models").iterdir()) == []


def test_the_error_for_a_file_given_as_a_name_asks_for_a_path(tmp_path):
    (tmp_path / "mine.bin").touch()

    with pytest.raises(ConfigError, match=r"is a file: set WHISPER_MODEL_PATH"):
        find_model(Settings(whisper_model=str(tmp_path / "mine.bin")))


@pytest.mark.parametrize(
    ("base", "url"),
    [
        ("http://mirror/models", "http://mirror/models/ggml-mine.bin"),
        ("http://mirror/models?key=1", "http://mirror/models/ggml-mine.bin?key=1"),
        ("http://mirror/any.bin?download=true", "http://mirror/any.bin?download=true"),
    ],
)
def test_what_follows_a_question_mark_stays_behind_the_file(path, monkeypatch, base, url):
    asked = []
    monkeypatch.setattr("transcriber.models.find.download", lambda url, *_: asked.append(url))

    fetch_model("mine", path, sources("mine", [base]))

    assert asked == [url]


def test_folder_with_a_long_name_is_converted(tmp_path):
    folder = hugging_face(tmp_path / ("x" * 250), ENGLISH, weights(ENGLISH))

    path = find_model(load_settings(whisper_model=str(folder), whisper_model_dir=str(tmp_path / "models")))

    assert re.fullmatch(r"ggml-x{64}-[0-9a-f]{12}\.bin", path.name)
    assert path.is_file()


def test_what_is_requested_is_a_name_and_no_folder_or_file_of_the_working_folder(tmp_path, monkeypatch):
    hugging_face(tmp_path / "mine", ENGLISH, weights(ENGLISH))
    (tmp_path / "ours.bin").touch()
    (tmp_path / "models").mkdir()
    (tmp_path / "models/ggml-kept.bin").touch()
    monkeypatch.chdir(tmp_path)
    settings = Settings(
        whisper_model="mine", whisper_model_path=tmp_path / "ours.bin", whisper_model_dir=Path("models")
    )

    for name in ("mine", "ours.bin", "models"):
        with pytest.raises(
            ConfigError, match=rf"^'{name}': must be demo \(bundled\) or one of .*, or the NAME of a file"
        ):
            find_requested_model(settings, name)

    assert find_requested_model(settings, "demo") == DEMO_MODEL
    assert find_requested_model(settings, "kept") == Path("models/ggml-kept.bin")
    assert [path.name for path in Path("models").iterdir()] == ["ggml-kept.bin"]


def test_folder_that_is_the_model_folder_too_is_converted_once(tmp_path):
    folder = hugging_face(tmp_path / "mine", ENGLISH, weights(ENGLISH))
    settings = load_settings(whisper_model=str(folder), whisper_model_dir=str(folder))

    assert find_model(settings) == find_model(settings)

    assert len(list(folder.glob("ggml-*"))) == 1


def test_file_in_the_working_folder_does_not_hide_a_known_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").touch()
    (tmp_path / "mine.bin").touch()
    settings = load_settings()

    assert find_named_model(settings, "demo") == DEMO_MODEL
    assert find_named_model(settings, "mine.bin") == Path("mine.bin")
    with pytest.raises(ConfigError, match="must be demo"):
        find_named_model(settings, "x" * 300)


def test_what_others_left_beside_a_file_is_not_removed(tmp_path):
    others = [tmp_path / name for name in ("[ab]*.bin.mine.part", f"[ab]*.bin.{7:032x}.parts", f"ax.bin.{7:032x}.part")]
    ours = tmp_path / f"[ab]*.bin.{7:032x}.part"
    for left in (*others, ours):
        left.touch()
        os.utime(left, (0, 0))

    with whole_file(tmp_path / "[ab]*.bin") as file:
        file.write(b"all")

    assert set(tmp_path.iterdir()) == {*others, tmp_path / "[ab]*.bin"}


def test_process_that_ends_while_a_thread_writes_leaves_nothing(tmp_path):
    with ExitStack() as stack:
        folder = stack.enter_context(folder_beside(tmp_path / "a"))
        (folder / "wheel").touch()
        stack.enter_context(pytest.raises(StorageError))
        stack.enter_context(whole_file(tmp_path / "b"))

        remove_unfinished()

        assert not list(tmp_path.iterdir())
