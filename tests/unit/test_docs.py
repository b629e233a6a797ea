"""README says what the code says, and its examples run."""

import ast
import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import transcriber
from transcriber.audio.headers import AudioHeaders
from transcriber.audio.media import ffmpeg as media_ffmpeg, sniff as media_kinds
from transcriber.config import settings_fields
from transcriber.config.table import settings_table
from transcriber.schema.messages import ANY_MESSAGE, Final
from transcriber.telemetry import INSTRUMENTS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
MODULES = [module.name for module in pkgutil.walk_packages(transcriber.__path__, "transcriber.")]


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith("__main__")])
def test_examples_in_docstrings_are_true(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_the_settings_table_is_that_of_the_declarations():
    assert settings_table() in README


@pytest.mark.parametrize("instrument", INSTRUMENTS, ids=lambda instrument: instrument.name)
def test_every_metric_is_in_its_table(instrument):
    unit = f"`{instrument.unit}`" if instrument.unit else ""

    assert f"| `{instrument.name}` | {instrument.kind} | {unit} | {instrument.description} |" in README


def test_every_guarantee_names_a_test_that_exists():
    table = README.split("## Guarantees")[1].split("\n## ")[0]
    named = re.findall(r"`(test_\w+)`", table)

    written = {
        node.name
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert len(named) > 10
    assert set(named) <= written


def test_every_message_type_and_every_field_of_a_final_is_described():
    kinds = re.findall(r'"const": "(\w+)"', str(ANY_MESSAGE.json_schema()).replace("'", '"'))

    for word in {*kinds, *Final.model_fields} - {"schema_"}:
        assert f"`{word}`" in README, word


def test_every_header_we_read_is_described():
    names = {"captured_at": "Audio-Time"} | {
        name: f"Audio-{name.title()}" for name in ("offset", "session", "end")
    } | {"content_type": "Content-Type", "language": "Language", "prompt": "Prompt", "traceparent": "traceparent"}  # fmt: skip

    assert names.keys() == set(AudioHeaders._fields) - {"ignored"}
    for header in names.values():
        assert f"| `{header}` |" in README


def test_settings_in_running_text_exist():
    known = {name.upper() for name in settings_fields()}
    mentioned = set(re.findall(r"`([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)(?:=[^`]*)?`", README))

    assert {name for name in mentioned if not name.startswith("OTEL_")} <= known


def test_every_demuxer_decoder_and_refused_kind_is_in_what_is_read():
    section = README.split("## What is read")[1].split("\n## ")[0]
    files, decoders = section.split("\nDecoders: ")
    demuxers = {"mp3", "aac", "mpegts"} | {demuxer for *_, demuxer in media_kinds._MAGIC}

    assert set(re.findall(r"^\|[^|]*\| `(\w+)`", files, re.MULTILINE)) == demuxers
    assert set(re.findall(r"`(\w+)`", decoders.split(". ")[0])) == media_ffmpeg._CODECS
    assert {name for *_, name in media_kinds._UNREAD if name not in section} == set()


def test_layout_named_in_readme_exists():
    for path in re.findall(r"`(transcriber/[\w/.]+)`|\]\(([\w/.-]+)\)", README):
        assert (ROOT / "".join(path)).exists(), path
