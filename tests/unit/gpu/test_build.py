"""What the build takes, without building: one architecture takes an hour."""

import re
import shutil
import tomllib
from pathlib import Path

import pytest

from transcriber.cli import main
from transcriber.gpu import build as building
from transcriber.gpu.build import ARCHITECTURES, ARCHITECTURES_PATTERN, BuildError, build, locked

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("good", [ARCHITECTURES, "90", "90-real", "90a-real;120-virtual"])
def test_architectures_are_those_of_cmake(good):
    assert re.fullmatch(ARCHITECTURES_PATTERN, good)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["out.so", "--architectures", "sm_90"], "--architectures='sm_90': must be as 80-real;90, in CMake's terms"),
        (["out.so", "--architectures", "90-real;"], "must be as 80-real;90"),
        (["out.so", "--jobs", "0"], "--jobs=0: must be at least 1"),
        (["nowhere/out.so"], "nowhere: there is no such folder"),
    ],
)
def test_what_cannot_be_built_is_one_line_before_anything_is_fetched(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    assert main(["gpu", "build", *arguments]) == 3

    said = capsys.readouterr().err
    assert said.startswith("transcriber: ")
    assert message in said
    assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_without_a_compiler_nothing_is_fetched(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")

    with pytest.raises(BuildError, match=r"no g\+\+: install a C\+\+ compiler"):
        build(tmp_path / "out.so", "90-real", tmp_path / "work", 1)

    assert list(tmp_path.iterdir()) == []


def test_the_source_is_that_of_the_wheel_that_will_load_it():
    (wanted,) = (
        line
        for line in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
        if line.startswith(building.SOURCE)
    )

    assert wanted == f"{building.SOURCE}=={locked(building.SOURCE)}"


def test_what_it_links_is_what_the_image_has():
    image = (ROOT / "locks/image-cuda.lock").read_text()

    for name in ("nvidia-cuda-runtime", "nvidia-cublas"):
        assert f"\n{name}=={locked(name)} " in image
    assert set(building.LINKED.values()) == {int(locked("nvidia-cublas").partition(".")[0])}


def test_what_another_version_left_in_the_work_folder_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setattr(building, "locked", lambda _name: "1.5.9")
    steps = []

    def step(words):
        steps.append([str(word) for word in words])
        if "download" in words:
            archive_of("1.5.9")

    def archive_of(version):
        source = tmp_path / "packed" / f"{building.SOURCE}-{version}"
        source.mkdir(parents=True)
        (source / "whisper.cpp").write_text(version)
        shutil.make_archive(str(tmp_path / source.name), "gztar", source.parent, source.name)
        shutil.rmtree(source.parent)

    archive_of("1.5.8")
    monkeypatch.setattr(building, "_run", step)

    source = building._source(tmp_path, tmp_path)
    first, second = (building._compile(tmp_path, tmp_path, source, tmp_path, tmp_path, "90", 1) for _ in range(2))
    monkeypatch.setattr(building, "locked", lambda _name: "1.5.8")
    other = building._compile(tmp_path, tmp_path, source, tmp_path, tmp_path, "90", 1)

    assert source.read_text() == "1.5.9"
    assert first == second != other
    assert "-B" in steps[1]
    assert steps[1][steps[1].index("-B") + 1] in str(first)


def test_what_is_not_in_the_lock_is_said():
    with pytest.raises(BuildError, match="no nonsense"):
        locked("nonsense")
