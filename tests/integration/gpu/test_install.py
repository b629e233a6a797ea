"""``transcriber gpu install`` and ``status``, in a copy of whisper.cpp's wheel. No GPU is needed, and none may be here."""

import hashlib
import http.server
import json
import os
import re
import subprocess
import sys
import threading
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.support.plug_in import cached_libraries, cached_plug_in, copied_wheel, cut_off, stand_in, use
from tests.support.waiting import PATIENCE_S
from transcriber.cli import main
from transcriber.errors import PlugInError
from transcriber.gpu import install as installing, probe as probing
from transcriber.gpu.plug_in import BASE_NAME, NAME, WHEEL_FOLDER, base_library, find_plug_in


@pytest.fixture
def site(tmp_path, monkeypatch):
    made = copied_wheel(tmp_path)
    use(made, monkeypatch)
    return made


@pytest.fixture
def file(tmp_path):
    """A stand-in for a plug-in, as it may have been built: it loads as far as to NVIDIA's libraries."""
    path = tmp_path / "built.so"
    path.write_bytes(stand_in())
    return path


@pytest.fixture
def url(tmp_path):
    """Of a server that has the files of ``tmp_path``."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=tmp_path)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def as_in_the_image(site):
    """The wheel that is made from the source: its libraries lie beside the binding, and have their own names."""
    base = base_library()
    for path in (site / WHEEL_FOLDER).iterdir():
        path.rename(site / (BASE_NAME if path == base else path.name))


def sum_of(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def status_of(site):
    """What a process that has the wheel of ``site`` says."""
    command = sys.executable, "-m", "transcriber", "gpu", "status", "--json"
    env = os.environ | {"PYTHONPATH": f"{site}:{Path(__file__).parents[3]}"}
    done = subprocess.run(command, env=env, capture_output=True, timeout=PATIENCE_S, check=True)
    return json.loads(done.stdout)


def test_a_plug_in_comes_to_lie_beside_the_library_that_it_needs(site, file, capsys):
    assert main(["gpu", "install", str(file), "--sha256", sum_of(file).upper()]) == 0

    put = site / WHEEL_FOLDER / NAME
    said = capsys.readouterr()
    assert said.out == f"{put}\n"
    assert said.err.startswith("transcriber: it is installed, and of no use yet: ")
    assert find_plug_in() == put
    assert put.read_bytes() == file.read_bytes()
    assert (put.with_name(BASE_NAME)).resolve() == base_library()


def test_the_link_follows_the_wheel_that_is_there_now(site, file):
    link = site / WHEEL_FOLDER / BASE_NAME
    link.symlink_to("libggml-base-of-before.so.0.1")

    installing.install(str(file))

    assert link.resolve() == base_library()


def test_where_the_library_has_its_own_name_there_is_no_link(site, file):
    """As in the image, and in a build from the source."""
    as_in_the_image(site)

    path, _ = installing.install(str(file))

    assert path == site / NAME
    assert not (site / BASE_NAME).is_symlink()
    assert list((site / WHEEL_FOLDER).iterdir()) == []


def test_it_is_fetched_from_a_server(site, file, url):
    assert main(["gpu", "install", f"{url}/{file.name}", "--sha256", sum_of(file)]) == 0

    assert (site / WHEEL_FOLDER / NAME).read_bytes() == file.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["{file}", "--sha256", "0" * 64], 3, "{file}: SHA-256 is {sum}, not 0000"),
        (["{url}/{name}", "--sha256", "0" * 64], 3, "{url}/{name}: SHA-256 is {sum}, not 0000"),
        (["{url}/{name}"], 2, "{url}/{name}: is not encrypted, so it needs --sha256"),
        (["{url}/none.so", "--sha256", "0" * 64], 3, "{url}/none.so: cannot be downloaded: HTTP 404"),
        (["ftp://somewhere/{name}"], 2, "must be a file, or an http or https URL"),
        (["https://[::1/{name}"], 2, "must be a file, or an http or https URL"),
        (["{file}.none"], 3, "{file}.none: cannot be read: No such file"),
        (["{broken}"], 3, "{broken}: is cut off"),
        (["{url}/broken.so", "--sha256", "{broken_sum}"], 3, "{url}/broken.so: is cut off"),
    ],
)
def test_what_cannot_be_installed_is_one_line_and_what_was_there_stays(
    site, file, url, arguments, status, message, capsys
):
    broken = file.with_name("broken.so")
    broken.write_bytes(cut_off(stand_in()))
    before, _ = installing.install(str(file))
    words = {"file": file, "name": file.name, "url": url, "sum": sum_of(file), "broken": broken}
    words["broken_sum"] = sum_of(broken)
    capsys.readouterr()

    assert main(["gpu", "install", *(each.format(**words) for each in arguments)]) == status

    said = [line for line in capsys.readouterr().err.splitlines() if '"level": "INFO"' not in line]
    assert len(said) == 1
    assert said[0].startswith("transcriber: ")
    assert message.format(**words) in said[0]
    assert before.read_bytes() == file.read_bytes()
    assert not list(before.parent.glob("*.part"))


def test_a_checksum_that_is_none_is_usage(capsys):
    with pytest.raises(SystemExit):
        main(["gpu", "install", "file", "--sha256", "abc"])

    assert "must be 64 hexadecimal digits" in capsys.readouterr().err


def test_a_library_that_does_not_load_is_not_installed(site, tmp_path, capsys):
    """Whole, marked, for this machine, and its first symbol table leads nowhere: the dynamic linker refuses it, or dies of it."""
    content = bytearray(stand_in())
    content[0x40:0x200] = bytes(0x1C0)  # the program headers
    path = tmp_path / "bad.so"
    path.write_bytes(content)

    assert main(["gpu", "install", str(path)]) == 3

    assert f"{path}: does not load: " in capsys.readouterr().err
    assert find_plug_in() is None


def test_a_place_that_cannot_be_written_to_is_one_line(site, file, capsys):
    with read_only(site / WHEEL_FOLDER) as folder:
        assert main(["gpu", "install", str(file)]) == 3

    said = capsys.readouterr().err
    assert said.startswith(f"transcriber: {folder / BASE_NAME}: cannot be stored: ")
    assert said.count("\n") == 1
    assert find_plug_in() is None


@pytest.mark.parametrize("before", [None, "libggml-base-of-before.so.0.1"])
def test_what_is_not_installed_leaves_the_link_as_it_was(site, tmp_path, before):
    link = site / WHEEL_FOLDER / BASE_NAME
    if before:
        link.symlink_to(before)
    broken = tmp_path / "broken.so"
    broken.write_bytes(cut_off(stand_in()))

    with pytest.raises(PlugInError, match="is cut off"):
        installing.install(str(broken))

    assert (str(link.readlink()) if link.is_symlink() else None) == before


@contextmanager
def read_only(folder):
    """For root, who may write in spite of permissions, by a mount; skipped where that is not permitted."""
    if os.geteuid():
        folder.chmod(0o555)
        yield folder
        folder.chmod(0o755)
        return
    if subprocess.run(["mount", "--bind", "-o", "ro", folder, folder], check=False, capture_output=True).returncode:
        pytest.skip("this root may not mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_a_driver_that_hangs_is_left_alone_after_the_time_limit(site, file, monkeypatch, capsys):
    """The daemon's check and this command run their children the same way: see ``test_child_process``."""
    monkeypatch.setattr(probing, "TIMEOUT_S", 0.001)

    assert main(["gpu", "install", str(file)]) == 3

    assert f"{file}: does not load: a process that loaded it took longer than 0.001 s" in capsys.readouterr().err
    assert find_plug_in() is None


def test_without_a_plug_in_the_status_says_how_one_is_had(site):
    assert status_of(site) == {
        "plug_in": None,
        "built_from": None,
        "loaded": False,
        "error": f"no {NAME}: transcriber gpu install FILE|URL",
        "libraries": [],
        "driver": None,
        "devices": [],
        "runs_on": "cpu",
        "reason": f"no {NAME}: transcriber gpu install FILE|URL",
    }


def test_the_real_plug_in_without_its_libraries_says_which_one_it_lacks(site, capsys):
    assert main(["gpu", "install", str(cached_plug_in())]) == 0

    said = capsys.readouterr().err
    error = status_of(site)["error"]
    if "insufficient" in error:
        pytest.skip("NVIDIA's libraries are installed for all programs")
    assert re.fullmatch(r"libcu\w+\.so\.13: cannot open shared object file: No such file or directory", error)
    assert f"of no use yet: {error}\n" in said
    assert "pip install 'nats-transcriber[cuda]'" in said


@pytest.mark.parametrize("arrange", [lambda _site: None, as_in_the_image], ids=["wheel", "image"])
def test_the_real_plug_in_loads_beside_whispers_libraries_without_a_driver(site, arrange):
    plug_in = cached_plug_in()
    (site / "nvidia").symlink_to(cached_libraries())
    arrange(site)

    _, found = installing.install(str(plug_in))

    assert found.loaded
    if not Path("/proc/driver/nvidia").exists():
        assert found.driver is None
        assert found.error == "CUDA driver version is insufficient for CUDA runtime version"
    assert {Path(path).name for path in found.libraries} >= {"libcudart.so.13", "libcublas.so.13", "libcublasLt.so.13"}


LOAD = """
import ctypes, json, os, sys
import _pywhispercpp
maps = lambda: {line.split()[-1] for line in open("/proc/self/maps") if "libggml" in line}
(ggml,) = (name for name in maps() if os.path.basename(name).startswith(("libggml.", "libggml-")) and "-base" not in name and "-cpu" not in name)
loaded = ctypes.CDLL(ggml)
loaded.ggml_backend_load.restype = ctypes.c_void_p
assert loaded.ggml_backend_load(os.fsencode(sys.argv[1]))
print(json.dumps(sorted(maps())))
"""


def test_whispers_base_library_is_loaded_once_although_the_plug_in_calls_it_by_another_name(site):
    path, _ = installing.install(str(cached_plug_in()))
    (site / "nvidia").symlink_to(cached_libraries())

    env = os.environ | {"PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, "-c", LOAD, path], env=env, capture_output=True, timeout=PATIENCE_S, check=True
    )

    loaded = json.loads(done.stdout)
    assert str(path) in loaded
    assert [name for name in loaded if "libggml-base" in name] == [str(base_library())]
