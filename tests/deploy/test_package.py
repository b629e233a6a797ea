"""What is installed: the wheel's content, size and metadata, and which version it says it is."""

import os
import subprocess
import sys
import zipfile
from email import message_from_string
from importlib.metadata import version
from pathlib import Path

import pytest

from transcriber.build_info import version_line

ROOT = Path(__file__).parents[2]
MAX_WHEEL_BYTES = 16_750_000
"""4 % above what it is: most of it is the bundled model, speech and networks."""

NUMBER = version("nats-transcriber")


def output(*command, cwd=ROOT, **env):
    done = subprocess.run(command, cwd=cwd, env=os.environ | env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def built(target, folder, root=ROOT, **env):
    """The one file that hatchling makes, without an environment of its own."""
    output(sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder), cwd=root, **env)
    (made,) = folder.iterdir()
    return made


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return built("wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def commit():
    return output("git", "describe", "--always", "--dirty", "--exclude=*", "--abbrev=12").strip()


def content(wheel):
    """Name to bytes; of RECORD the lines in their own order, since the commit is the first in one archive and not in another."""
    with zipfile.ZipFile(wheel) as archive:
        found = {name: archive.read(name) for name in archive.namelist()}
    record = f"nats_transcriber-{NUMBER}.dist-info/RECORD"
    return found | {record: b"".join(sorted(found[record].splitlines(keepends=True)))}


def test_the_wheel_holds_the_package_as_it_is_here_and_nothing_else(wheel):
    listed = output("git", "ls-files", "--cached", "--others", "--exclude-standard", "transcriber").splitlines()
    files = {path for path in listed if (ROOT / path).is_file()}
    licences = {path for path in files if path.endswith(".LICENSE")}
    info = f"nats_transcriber-{NUMBER}.dist-info"
    beside = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"} | {
        f"licenses/{path}" for path in licences
    }

    found = content(wheel).keys()

    assert found == (files - licences) | {"transcriber/COMMIT"} | {f"{info}/{name}" for name in beside}
    assert "transcriber/py.typed" in found
    assert licences


def test_the_wheel_is_no_larger_than_it_was_measured(wheel):
    assert wheel.stat().st_size < MAX_WHEEL_BYTES


def test_the_metadata_says_whose_licences_hold_and_that_it_is_typed(wheel):
    metadata = message_from_string(content(wheel)[f"nats_transcriber-{NUMBER}.dist-info/METADATA"].decode())

    assert metadata["License-Expression"] == "MIT AND Apache-2.0"
    files = {Path(path).name for path in metadata.get_all("License-File", [])}
    assert files == {"LICENSE", "silero_vad.LICENSE", "segmentation.LICENSE", "voice.LICENSE"}
    assert "Typing :: Typed" in metadata.get_all("Classifier", [])
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert {"Author", "Author-email", "Maintainer", "Project-URL", "Home-page"}.isdisjoint(metadata)  # none is known


def test_the_source_archive_makes_the_same_wheel(wheel, tmp_path):
    archive = built("sdist", tmp_path / "sdist")
    output("tar", "xzf", str(archive), cwd=tmp_path)

    again = built("wheel", tmp_path / "wheel", tmp_path / f"nats_transcriber-{NUMBER}")

    assert content(again) == content(wheel)


def test_an_installed_wheel_says_its_commit(wheel, tmp_path, commit):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)

    assert said(tmp_path) == f"transcriber {NUMBER} ({commit})\n"


def said(installed):
    return output(sys.executable, "-m", "transcriber", "--version", cwd=installed, PYTHONPATH=str(installed), PATH="")


def test_a_build_without_a_repository_takes_its_commit_from_the_environment(tmp_path):
    made = built("wheel", tmp_path / "wheel", SOURCE_COMMIT="0123456789ab")

    assert content(made)["transcriber/COMMIT"] == b"0123456789ab\n"


def test_a_checkout_says_its_commit_and_whether_files_of_it_have_changed(tmp_path):
    package = tmp_path / "transcriber"
    package.mkdir()
    (package / "file").touch()
    assert version_line(package) == NUMBER  # no repository

    git = ("git", "-c", "user.name=n", "-c", "user.email=e", "-c", "commit.gpgsign=false")
    for arguments in (("init", "-q"), ("add", "."), ("commit", "-q", "-m", "first")):
        output(*git, *arguments, cwd=tmp_path)
    short = output("git", "rev-parse", "--short=12", "HEAD", cwd=tmp_path).strip()
    assert version_line(package) == f"{NUMBER} ({short})"

    (package / "file").write_text("changed")
    assert version_line(package) == f"{NUMBER} ({short}-dirty)"


def test_without_git_a_checkout_says_its_version_only(tmp_path, monkeypatch):
    (tmp_path / ".git").mkdir()
    assert version_line(tmp_path / "transcriber") == NUMBER  # git finds no repository there

    monkeypatch.setenv("PATH", "")
    assert version_line(tmp_path / "transcriber") == NUMBER
