"""What the command line says of itself, and what it does not load to say it."""

import hashlib
import subprocess
import sys
import tomllib
from typing import Any

import pytest

from transcriber.cli import COMMANDS, CommandParser, command_line, main
from transcriber.cli_arguments import THEMES, settings_by_theme
from transcriber.config import settings_fields

NAMES = [name for group in COMMANDS.values() for name in group]
HEAVY = {"numpy", "nats", "av", "onnxruntime", "pywhispercpp", "_pywhispercpp", "soxr", "opentelemetry", "rich", "grpc"}
"""What nobody waits for who only wants to know which flags there are."""


def said(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0
    return capsys.readouterr().out


@pytest.fixture(autouse=True)
def eighty_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.delenv("FORCE_COLOR", raising=False)


def test_help_is_a_line_a_command_by_group_on_one_screen(capsys):
    lines = said(capsys, "--help").splitlines()

    assert len(lines) <= 40
    assert max(map(len, lines)) <= 80
    for title, group in COMMANDS.items():
        start = lines.index(f"{title}:") + 1
        shown = [line.split(maxsplit=1) for line in lines[start : start + len(group)]]
        assert shown == [[name, summary] for name, (_, summary) in group.items()]


@pytest.mark.parametrize("name", NAMES)
def test_every_command_says_what_it_is_for(capsys, name):
    lines = said(capsys, name, "--help").splitlines()

    (summary,) = (summary for group in COMMANDS.values() for known, (_, summary) in group.items() if known == name)
    assert lines[0].startswith(f"usage: transcriber {name} [-h]")
    assert f"{summary[0].upper()}{summary[1:]}." in lines


def test_every_setting_has_one_theme_and_every_theme_a_setting():
    themes = settings_by_theme()

    assert sorted(name for names in themes.values() for name in names) == sorted(settings_fields())
    assert list(themes) == list(THEMES)


def test_serve_shows_every_setting_below_its_theme_with_its_default_and_its_choices(capsys):
    text = said(capsys, "serve", "--help")

    for theme, names in settings_by_theme().items():
        block = text.split(f"\n{theme}:\n")[1].split("\n\n")[0]
        flags = [line.split()[0] for line in block.splitlines() if line.startswith("  --")]
        assert flags == [f"--{name.replace('_', '-')}" for name in names]
    words = " ".join(text.split())
    for shown in (
        "--log-format {auto,text,json} `auto`: text on a terminal, else JSON (default: auto)",
        "--input-format {S16LE,S24LE,S32LE,F32LE,U8,MULAW,ALAW} sample format of payloads without a `Content-Type` (default: S16LE)",
        "--buffer-duration-secs SECS seconds of the longest window (default: 5)",
        "--stream-replicas {1,3,5}",
        "--speech-gate [0|1] do not run whisper on windows without speech; they are published as `silence` (default: on)",
        "--files [0|1] transcribe whole files: jobs submitted to `transcriber.submit`, queued in JetStream (default: off)",
        "--nats-creds PATH credentials file (JWT and nkey seed) --nats-nkey-seed-file PATH",
    ):
        assert shown in words


def test_every_default_is_shown(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")  # argparse cuts what is longer than its column, such as a URL
    words = " ".join(said(capsys, "serve", "--help").split())

    for name, field in settings_fields().items():
        of_it = words.split(f" --{name.replace('_', '-')} ")[1].split(" --")[0]
        if field.default_factory or field.default in {None, ""}:
            assert "(default: " not in of_it, name
        elif isinstance(field.default, bool):
            assert f"(default: {'on' if field.default else 'off'})" in of_it, name
        else:
            assert f"(default: {field.default}".removesuffix(".0") in of_it, name


@pytest.mark.parametrize("name", ["serve", "gateway", "publish", "listen", "transcribe", "jobs", "provision"])
def test_every_command_that_connects_takes_a_context_of_the_nats_tool(capsys, name):
    assert "--nats-context CONTEXT" in said(capsys, name, "--help")


def modules_after(*arguments):
    code = f"import sys\ntry:\n    from transcriber.cli import main; main({arguments!r})\nexcept SystemExit:\n    pass\nfinally:\n    print('\\0', *sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split("\0")[1].split())


@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_to_say_what_there_is_nothing_is_loaded_but_python(flag):
    loaded = modules_after(flag)

    assert not (HEAVY | {"pydantic", "asyncio", "transcriber.config"}) & loaded


@pytest.mark.parametrize("name", NAMES)
def test_help_of_a_command_loads_no_more_than_its_flags(name):
    loaded = modules_after(name, "--help")

    assert "transcriber.config" in loaded or name == "demo"
    assert not HEAVY & loaded


def test_a_command_is_loaded_once_and_only_if_it_is_meant():
    parsers: Any = next(action.choices for action in command_line()._actions if action.choices)

    assert list(parsers) == NAMES
    assert all(isinstance(parser, CommandParser) for parser in parsers.values())
    listen = parsers["listen"]
    assert not [action for action in listen._actions if action.dest == "once"]
    listen.add_flags()
    listen.add_flags()
    assert len([action for action in listen._actions if action.dest == "once"]) == 1


def test_without_a_broker_of_its_own_there_is_neither_page_nor_websocket(capsys):
    for flags in (["--web"], ["--websocket", "9222"]):
        assert main(["serve", *flags]) == 2
        said = capsys.readouterr().err.splitlines()
        assert len(said) == 1
        assert said[0].startswith("transcriber: --web and --websocket need --embedded")


def test_a_websocket_that_no_page_may_use_is_refused_before_anything_starts(capsys):
    assert main(["serve", "--embedded", "--websocket", "0", "--gateway-port", "0"]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said == "transcriber: no page may use the broker's WebSocket: GATEWAY_PORT=0, and GATEWAY_ORIGINS names none"


@pytest.mark.parametrize("port", ["-1", "65536", "9222.0", "²"])
def test_a_port_is_a_number_that_a_port_can_have(capsys, port):
    with pytest.raises(SystemExit) as ended:
        main(["serve", "--embedded", f"--websocket={port}"])

    assert ended.value.code == 2
    assert "must be a port, 0 to 65535" in capsys.readouterr().err


def test_a_new_key_is_shown_and_only_its_hash_is_put_into_a_file(capsys):
    assert main(["gateway", "--new-key", "captions"]) == 0

    file, shown = capsys.readouterr()
    key = shown.rstrip("\n").rpartition(" ")[2]
    assert key not in file
    assert tomllib.loads(file)["keys"]["captions"]["sha256"] == hashlib.sha256(key.encode()).hexdigest()
