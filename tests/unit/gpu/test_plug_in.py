"""Which file is a plug-in for this machine and this whisper.cpp, and which is refused, in one line that says why."""

import platform
import struct
from importlib.metadata import version

import pytest

from tests.support.plug_in import cut_off, stand_in
from transcriber.errors import PlugInError
from transcriber.gpu import plug_in
from transcriber.gpu.plug_in import check_plug_in, find_plug_in

OTHER = next(name for name in plug_in.ELF_MACHINES if name != platform.machine())


def with_machine(content, number):
    return content[:18] + struct.pack("<H", number) + content[20:]


def test_a_plug_in_says_what_it_was_built_from(tmp_path):
    path = tmp_path / "any.so"
    path.write_bytes(stand_in(cuda="13.0", architectures="80-real;90"))

    assert check_plug_in(path)._asdict() == {
        "pywhispercpp": version("pywhispercpp"),
        "cuda": "13.0",
        "architectures": "80-real;90",
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: b"", "is empty"),
        (lambda: b"<html>not found</html>" * 100, "is no library for 64-bit Linux"),
        (lambda: stand_in()[:40], "is no library for 64-bit Linux"),
        (lambda: cut_off(stand_in()), "is cut off"),
        (lambda: with_machine(stand_in(), plug_in.ELF_MACHINES[OTHER]), f"is for {OTHER}, and this machine is "),
        (lambda: with_machine(stand_in(), 8), "is for another processor, and this machine is "),
        (lambda: plug_in.base_library().read_bytes(), "is a library, but not one that `transcriber gpu build` made"),
        (lambda: stand_in().replace(b'"cuda"', b'"what"'), "not one that `transcriber gpu build` made"),
        (lambda: stand_in().replace(b'"cuda": ', b'"cuda"- '), "not one that `transcriber gpu build` made"),
        (lambda: stand_in(pywhispercpp="1.4.0"), "is for pywhispercpp 1.4.0, and 1."),
    ],
    ids=["empty", "a page", "a few bytes", "cut off", "machine", "other machine", "library", "mark", "no JSON", "version"],
)  # fmt: skip
def test_anything_else_is_refused(tmp_path, content, message):
    path = tmp_path / "any.so"
    path.write_bytes(content())

    with pytest.raises(PlugInError) as caught:
        check_plug_in(path)

    assert str(caught.value).startswith(f"{path}: {message}") or message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_said(tmp_path):
    with pytest.raises(PlugInError, match=r"no\.so: cannot be read: No such file"):
        check_plug_in(tmp_path / "no.so")


def test_where_there_is_no_whisper_there_is_no_plug_in(monkeypatch):
    monkeypatch.setattr(plug_in, "find_spec", lambda _name: None)

    assert find_plug_in() is None
