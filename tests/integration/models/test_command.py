import asyncio
import hashlib
import json
import subprocess
import sys

import pytest

from tests.support.terminal import Terminal
from tests.support.waiting import PATIENCE_S
from transcriber.cli import main
from transcriber.models.catalog import DEMO_MODEL, SHA1, SHA256
from transcriber.models.ggml import check_model_file


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The model folder, by its setting."""
    made = tmp_path / "models"
    monkeypatch.setenv("WHISPER_MODEL_DIR", str(made))
    return made


def test_list_has_what_is_here_and_what_can_be_had(folder, capsys):
    folder.mkdir()
    for name in ("ours", "base"):
        (folder / f"ggml-{name}.bin").write_bytes(bytes(1_500_000))

    assert main(["models"]) == 0

    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == ["demo", f"{DEMO_MODEL.stat().st_size / 1e6:.1f} MB", str(DEMO_MODEL), "bundled"]
    assert rows[1] == ["ours", "1.5 MB", f"{folder}/ggml-ours.bin", "own"]
    assert ["base", "1.5 MB", f"{folder}/ggml-base.bin", "hub, index"] in rows
    assert ["tiny.en", "77.7 MB", "-", "hub, index"] in rows
    assert ["small", "487.6 MB", "-", "hub"] in rows
    assert len(rows) == 2 + len(SHA1)


def test_list_as_json_is_an_object_a_line(folder, capsys):
    assert main(["models", "--json"]) == 0

    models = {model["name"]: model for model in map(json.loads, capsys.readouterr().out.splitlines())}
    assert models["large-v3"] == {"name": "large-v3", "bytes": 3_095_033_483, "path": None, "sources": ["hub"]}
    assert not folder.exists()


def test_list_on_a_terminal_is_a_table_with_a_head(folder):
    async def listed():
        with Terminal() as terminal:
            command = sys.executable, "-m", "transcriber", "models"
            process = await asyncio.create_subprocess_exec(*command, stdout=terminal.end, env=terminal.environment)
            terminal.started()
            await terminal.read(b"large-v3-turbo-q8_0")
            assert await process.wait() == 0
            return terminal.shown

    shown = asyncio.run(asyncio.wait_for(listed(), PATIENCE_S))

    assert b"model" in shown.splitlines()[0]
    assert b"\t" not in shown


def test_pull_fetches_once_and_prints_the_path(hub, known, folder, monkeypatch, capsys):
    monkeypatch.setenv("WHISPER_MODEL_HUB", hub.url)
    hub.body = DEMO_MODEL.read_bytes()
    hub.length = len(hub.body)
    monkeypatch.setitem(SHA1, "tiny.en", hashlib.sha1(hub.body, usedforsecurity=False).hexdigest())
    monkeypatch.delitem(SHA256, "tiny.en")

    assert main(["models", "pull", "tiny.en"]) == 0
    assert main(["models", "pull", "tiny.en"]) == 0

    assert (folder / "ggml-tiny.en.bin").read_bytes() == hub.body
    assert len(hub.requests) == 1
    assert capsys.readouterr().out.splitlines() == [f"{folder}/ggml-tiny.en.bin", f"{folder}/ggml-tiny.en.bin is here"]


def test_pull_takes_a_mirrors_address_and_that_of_a_file(hub, known, folder, capsys):
    assert main(["models", "pull", "tiny.en", "--from", f"{hub.url}/mirror/"]) == 0
    (folder / "ggml-tiny.en.bin").unlink()
    assert main(["models", "pull", "tiny.en", "--from", f"{hub.url}/other/ggml-tiny.en.bin"]) == 0

    assert hub.requests == ["/mirror/ggml-tiny.en.bin", "/other/ggml-tiny.en.bin"]


def test_pull_of_an_own_model_checks_that_it_is_one(hub, folder, capsys):
    url = f"{hub.url}/ggml-tiny.en.bin"

    assert main(["models", "pull", "ours", "--from", url]) == 3
    assert "not a ggml model" in capsys.readouterr().err
    hub.body = DEMO_MODEL.read_bytes()
    hub.length = len(hub.body)
    assert main(["models", "pull", "ours", "--from", url]) == 0

    assert check_model_file(folder / "ggml-ours.bin").n_audio_state == 96


def test_settings_before_the_command_count_too(tmp_path, capsys, hub, known):
    elsewhere = tmp_path / "elsewhere"

    status = main(["models", "--whisper-model-dir", str(elsewhere), "--whisper-model-hub", hub.url, "pull", "tiny.en"])

    assert status == 0
    assert (elsewhere / "ggml-tiny.en.bin").is_file()


def test_a_bar_is_drawn_on_a_terminal_only(tmp_path):
    command = [sys.executable, "-m", "transcriber", "models", "convert", str(DEMO_MODEL), str(tmp_path / "mine.bin")]

    done = subprocess.run(command, capture_output=True, timeout=PATIENCE_S, check=True)

    assert (done.stdout, done.stderr) == (b"", b"")


def test_commands_and_daemons_do_not_load_each_others_parts():
    loaded = "import sys; from transcriber.cli import main; main(['models', '--json']); print(*sys.modules)"
    daemon = "import sys; import transcriber.models.find, transcriber.engine.whisper.model; print(*sys.modules)"
    listing, serving = (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
        for code in (loaded, daemon)
    )

    assert not {"_pywhispercpp", "nats", "onnxruntime", "transcriber.models.conversion.convert"} & set(listing)
    assert not {f"transcriber.models.{part}" for part in ("convert", "index", "listing", "hugging_face", "command")} & {
        *serving
    }
