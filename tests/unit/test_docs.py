"""The documents say what the code says, and examples in docstrings run."""

import ast
import doctest
import importlib.util
import pkgutil
import re
import unicodedata
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

import transcriber
from docs.tables import RULES, TABLES, with_tables
from tests.unit.test_rooms import FLOOR_OF
from transcriber.audio.headers import AudioHeaders
from transcriber.audio.media import ffmpeg as media_ffmpeg, sniff as media_kinds
from transcriber.cli import main
from transcriber.config import settings_fields
from transcriber.schema.messages import ANY_MESSAGE, Final
from transcriber.telemetry import INSTRUMENTS
from transcriber.telemetry.gateway_figures import GatewayFigures
from transcriber.telemetry.instruments import GATEWAY_INSTRUMENTS

ROOT = next(folder for folder in Path(__file__).parents if (folder / "pyproject.toml").exists())
DOCS = {path.name: path.read_text() for path in sorted((ROOT / "docs").glob("*.md"))}
AT_THE_TOP = {
    name: (ROOT / name).read_text() for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")
}
PAGES = DOCS | AT_THE_TOP
MODULES = [module.name for module in pkgutil.walk_packages(transcriber.__path__, "transcriber.")]
ON_EVERY_PAGE = pytest.mark.parametrize("name", PAGES)

_CODE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
_SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def prose(page):
    """A page without its blocks of code."""
    return _CODE.sub("", page)


def anchors(page):
    """Of its headings, as MkDocs makes them."""
    for heading in re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE):
        plain = unicodedata.normalize("NFKD", heading.replace("`", "")).encode("ascii", "ignore").decode()
        yield re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain).strip().lower())


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith("__main__")])
def test_examples_in_docstrings_are_true(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


# Generated tables, and what else is a list of what the code has.


@pytest.mark.parametrize("name", DOCS)
def test_generated_tables_are_those_of_the_code(name):
    assert with_tables(DOCS[name]) == DOCS[name], "run: python docs/tables.py"


def test_every_generated_table_is_on_a_page():
    assert {mark for page in DOCS.values() for mark in re.findall(r"<!-- table: (\w+) -->", page)} == set(TABLES)


def test_every_setting_is_in_its_table():
    for field in settings_fields():
        assert f"\n| `{field.upper()}` |" in DOCS["settings.md"]


@pytest.mark.parametrize("instrument", [*INSTRUMENTS, *GATEWAY_INSTRUMENTS], ids=lambda instrument: instrument.name)
def test_every_metric_is_in_its_table(instrument):
    unit = f"`{instrument.unit}`" if instrument.unit else ""

    row = f"| `{instrument.name}` | {instrument.kind} | {unit} | {instrument.description} |"
    assert row in DOCS["metrics.md"], "run: python docs/tables.py"


def test_every_reason_to_refuse_a_request_is_described():
    section = DOCS["metrics.md"].split("\n## Gateway\n")[1].split("\n## ")[0]

    assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == GatewayFigures().refusals.keys()


def test_every_alert_is_in_its_table():
    alerts = [rule["alert"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]

    assert len(alerts) > 10
    assert re.findall(r"^\| `(Transcription\w+)` \|", DOCS["metrics.md"], re.MULTILINE) == alerts


@pytest.mark.parametrize(
    ("command", "pages"), [((), ("index.md", "README.md")), (("models",), ("models.md",)), (("gpu",), ("index.md",))]
)
def test_every_command_is_described(command, pages, capsys):
    with pytest.raises(SystemExit):
        main([*command, "no-such-command"])
    names = re.findall(r"[a-z]+", capsys.readouterr().err.split("choose from ")[1])

    assert len(names) > 1
    for page in pages:
        for name in names:
            assert re.search(rf"[` ]{name}[`, ]", PAGES[page]), f"{page} does not describe the command {name}"


def test_every_guarantee_names_a_test_that_exists():
    named = re.findall(r"`(test_\w+)`", DOCS["guarantees.md"])

    written = {
        node.name
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert len(named) > 10
    assert sorted(set(named) - written) == []


def test_every_message_type_and_every_field_of_a_final_is_described():
    kinds = re.findall(r'"const": "(\w+)"', str(ANY_MESSAGE.json_schema()).replace("'", '"'))

    for word in {*kinds, *Final.model_fields} - {"schema_"}:
        assert f"`{word}`" in DOCS["text-out.md"], word


def test_every_header_we_read_is_described():
    names = {"captured_at": "Audio-Time"} | {
        name: f"Audio-{name.title()}" for name in ("offset", "session", "end", "flush")
    } | {"content_type": "Content-Type", "language": "Language", "prompt": "Prompt", "traceparent": "traceparent"}  # fmt: skip

    assert names.keys() == set(AudioHeaders._fields) - {"ignored"}
    for header in names.values():
        assert f"| `{header}` |" in DOCS["audio-in.md"]


def test_every_demuxer_decoder_and_refused_kind_is_in_files_that_are_read():
    section = DOCS["clips-and-files.md"].split("\n## Files that are read")[1]
    files, decoders = section.split("\nDecoders: ")
    demuxers = {"mp3", "aac", "mpegts"} | {demuxer for *_, demuxer in media_kinds._MAGIC}

    assert set(re.findall(r"^\|[^|]*\| `(\w+)`", files, re.MULTILINE)) == demuxers
    assert set(re.findall(r"`(\w+)`", decoders.split(". ")[0])) == media_ffmpeg._CODECS
    assert {name for *_, name in media_kinds._UNREAD if name not in section} == set()


# What pages name must exist.


@ON_EVERY_PAGE
def test_links_lead_somewhere(name):
    for target in _LINK.findall(prose(PAGES[name])):
        if re.match(r"https?://", target):
            continue
        assert name in DOCS, f"{name} is read where {target} leads nowhere"
        page, _, anchor = target.partition("#")
        assert not page or (ROOT / "docs" / page).exists(), f"{name}: {target}: no such file"
        if anchor:
            assert anchor in set(anchors(DOCS[page or name])), f"{name}: {target}: no such heading"


@ON_EVERY_PAGE
def test_files_that_are_named_exist(name):
    for path in re.findall(r"(?<![\w./-])(?:docs|transcriber|tests|bench|k8s|\.ci)/[\w/.-]*[\w/]", PAGES[name]):
        assert (ROOT / path).exists(), f"{name} names {path}, which does not exist"


@ON_EVERY_PAGE
def test_settings_that_are_named_exist(name):
    known = {field.upper() for field in settings_fields()} | names_in_code()
    mentioned = set(re.findall(r"`([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)(?:=[^`]*)?`", PAGES[name]))

    others = {"NATS_STORE_DIR", "FORCE_COLOR", "XDG_CONFIG_HOME"}  # of nats-server's configuration, of every program
    assert {word for word in mentioned - known - others if not word.startswith(("OTEL_", "CUDA_"))} == set()


@ON_EVERY_PAGE
def test_benches_that_are_named_exist(name):
    for bench in re.findall(r"\bbench\.([a-z]\w+)", PAGES[name]):
        assert importlib.util.find_spec(f"bench.{bench}"), f"{name} names bench.{bench}"


@cache
def names_in_code():
    """What modules of the package define: classes, functions, constants, fields."""
    names = set()
    for path in (ROOT / "transcriber").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.ClassDef(name) | ast.FunctionDef(name) | ast.AsyncFunctionDef(name):
                    names.add(name)
                case ast.Name(name, ast.Store()) | ast.Attribute(_, name, ast.Store()):
                    names.add(name)
    return names


def test_every_path_and_name_on_the_page_of_the_architecture_exists():
    known = names_in_code() | {field.upper() for field in settings_fields()}
    known |= {instrument.name for instrument in INSTRUMENTS} | {"Content-Type", "Nats-Msg-Id", "nats", "consume"}
    lost = []

    for number, line in enumerate(DOCS["architecture.md"].splitlines(), 1):
        for span in _SPAN.findall(line):
            where = f"docs/architecture.md, line {number}"
            if "/" in span or re.search(r"\.(py|md|toml)$|^Dockerfile$", span):
                if not any((folder / span).exists() for folder in (ROOT, ROOT / "transcriber")):
                    lost.append(f"{where}: there is no {span}, neither in the repository nor in transcriber/")
            elif span.startswith("bench."):
                continue  # as on every page
            elif not known.issuperset((span,)) and not known.issuperset(span.split(".")):
                lost.append(f"{where}: nothing in transcriber/ is called {span}")

    assert not lost, "\n".join(lost)


def test_the_table_of_packages_is_in_the_order_of_the_rooms():
    """From the top to the bottom; ``test_rooms`` holds the imports to that order."""
    table = DOCS["architecture.md"].split("\n## Packages\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`[^|]+) \| [^|]+ \|$", table, re.MULTILINE)
    rooms = [[part.strip("/").removesuffix(".py") for part in _SPAN.findall(row)] for row in rows]
    floors = [[FLOOR_OF[room] for room in row] for row in rooms]

    assert {room for row in rooms for room in row} == {room for room in FLOOR_OF if "." not in room} - {"__main__"}
    assert all(min(upper) > max(lower) for upper, lower in pairwise(floors))


def test_the_architecture_answers_at_least_twenty_questions():
    section = DOCS["architecture.md"].split("\n## Where is it decided?\n")[1].split("\n## ")[0]
    answers = re.findall(r"^\| [^|]+\? \| ([^|]+) \|$", section, re.MULTILINE)

    assert len(answers) >= 20
    for answer in answers:
        assert re.search(r"`(?:[\w/]+/|[\w/]+\.py)`", answer), f"names no file: {answer}"


# How they are written.


def test_readme_begins_with_the_two_commands_and_is_short():
    first, second = re.findall(r"^```sh\n(.*?)^```$", AT_THE_TOP["README.md"], re.DOTALL | re.MULTILINE)[:2]

    assert first.endswith("\n.venv/bin/transcriber demo\n")
    assert second.endswith("\n.venv/bin/pytest -q\n")
    assert len(AT_THE_TOP["README.md"].splitlines()) <= 170


def test_the_glossary_has_one_meaning_for_each_of_its_terms():
    terms = [
        term
        for row in re.findall(r"^\| ([^|]+) \| [^|]+ \|$", DOCS["glossary.md"], re.MULTILINE)[1:]
        for term in row.split(", ")
    ]

    assert len(terms) >= 30
    assert len(set(terms)) == len(terms)


@ON_EVERY_PAGE
def test_words_are_plain(name):
    written = _SPAN.sub("", re.sub(r"<!-- table: .*?<!-- end of table -->", "", prose(PAGES[name]), flags=re.DOTALL))

    assert (
        re.findall(r"\b(?:whoever|anew|told|tells|heard of|laid to the charge|death of us)\b", written, re.IGNORECASE)
        == []
    )
