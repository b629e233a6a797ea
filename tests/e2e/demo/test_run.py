import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.real_weights import real_model
from tests.support.waiting import PATIENCE_S

DEMO = [sys.executable, "-m", "transcriber", "demo"]
OFFLINE = [*DEMO, "--model", "demo"]


def test_the_demo_with_the_bundled_model_transcribes_and_accounts_for_every_frame() -> None:
    """Whatever the user has set for daemons of his own."""
    theirs = {"DURABLE": "1", "FILES": "1", "AUDIO_SUBJECT": "radio.*", "BUFFER_DURATION_SECS": "2"}
    done = subprocess.run(
        OFFLINE, env=os.environ | theirs, capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert wer_percent(done.stdout, "demo", 128) <= 10
    assert len(re.findall(r"%\s+│ exact", done.stdout)) == 6
    assert done.stdout.count(": end: ") == 6
    assert "\x1b" not in done.stdout


def wer_percent(output: str, model: str, words: int) -> float:
    wer = re.search(rf"^{re.escape(model)}: WER ([0-9.]+) %: \d+ of {words} words wrong$", output, re.MULTILINE)
    assert wer, output
    return float(wer[1])


def test_a_daemon_that_dies_fails_the_demo() -> None:
    with subprocess.Popen(OFFLINE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as demo:
        assert demo.stdout
        for line in demo.stdout:
            if "started" in line:
                break
        daemon = child_running(demo.pid, "serve")

        os.kill(daemon, signal.SIGKILL)

        output = demo.stdout.read()

    assert demo.returncode == 1
    assert "FAILED: the daemon with demo ended with status -9" in output
    assert "FAILED: 01_gale_warning: 0 end messages" in output


def test_an_unknown_model_is_the_daemons_own_clear_line() -> None:
    done = subprocess.run(
        [*DEMO, "--model", "nonsense"], capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )

    assert done.returncode == 2
    assert "WHISPER_MODEL='nonsense'" in done.stderr
    assert "Traceback" not in done.stderr


def child_running(parent: int, argument: str) -> int:
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    (found,) = [pid for pid in children if argument.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")]
    return int(found)


def test_the_demo_transcribes_real_people_with_real_weights() -> None:
    env = os.environ | {"WHISPER_MODEL_DIR": str(real_model("tiny.en").parent)}
    done = subprocess.run(DEMO, env=env, capture_output=True, text=True, check=False, timeout=PATIENCE_S)

    assert done.returncode == 0, done.stdout + done.stderr
    assert wer_percent(done.stdout, "tiny.en", 92) <= 10
    assert wer_percent(done.stdout, "demo", 38) <= 15
    assert len(re.findall(r"%\s+│ exact", done.stdout)) == 5


@pytest.mark.long
def test_without_the_weights_a_line_says_so_and_the_bundled_model_is_shown(tmp_path) -> None:
    nowhere = {"WHISPER_MODEL_HUB": "http://127.0.0.1:9", "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull}
    env = os.environ | nowhere | {"WHISPER_MODEL_DIR": str(tmp_path)}
    done = subprocess.run(DEMO, env=env, capture_output=True, text=True, check=False, timeout=PATIENCE_S)

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(
        "without tiny.en the bundled model transcribes harbour radio alone: no model tiny.en:"
    )
    assert wer_percent(done.stdout, "demo", 128) <= 10
    assert not list(tmp_path.iterdir())


def test_a_model_that_is_named_and_cannot_be_had_is_one_line_and_no_demo(tmp_path) -> None:
    env = os.environ | {"WHISPER_MODEL_HUB": "http://127.0.0.1:9", "WHISPER_MODEL_DIR": str(tmp_path)}
    done = subprocess.run(
        [*DEMO, "--model", "small.en"], env=env, capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )

    assert done.returncode == 3
    assert done.stdout == ""
    assert "transcriber: no model small.en: http://127.0.0.1:9/ggml-small.en.bin: cannot be downloaded" in done.stderr
    assert "Traceback" not in done.stderr


def test_ctrl_c_while_the_model_is_fetched_ends_the_demo(tmp_path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hub = {"WHISPER_MODEL_HUB": f"http://127.0.0.1:{silent.getsockname()[1]}", "WHISPER_MODEL_DIR": str(tmp_path)}
        with subprocess.Popen([*DEMO, "--model", "small.en"], env=os.environ | hub) as demo:
            silent.settimeout(PATIENCE_S)
            asking, _ = silent.accept()
            with asking:
                demo.send_signal(signal.SIGINT)
                assert demo.wait(10) == 130

    assert not list(tmp_path.iterdir())


def test_the_daemon_of_a_file_gets_its_path(tmp_path) -> None:
    file = tmp_path / "mine.bin"
    file.touch()
    done = subprocess.run(
        [*DEMO, "--model", str(file)], capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )

    assert done.returncode == 3
    assert f"{file}: is empty" in done.stderr
