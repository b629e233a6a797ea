import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import httpx
import pytest

from tests.support.real_weights import real_model
from tests.support.terminal import Terminal
from tests.support.waiting import PATIENCE_S

DEMO = [sys.executable, "-m", "transcriber", "demo"]
OFFLINE = [*DEMO, "--model", "demo"]


def test_the_demo_with_the_bundled_model_transcribes_and_accounts_for_every_frame_and_its_page_shows_it() -> None:
    """Whatever the user has set for daemons and gateways of his own."""
    theirs = {"DURABLE": "1", "FILES": "1", "AUDIO_SUBJECT": "radio.*", "BUFFER_DURATION_SECS": "2"}
    theirs |= {"GATEWAY_KEYS_FILE": "/nowhere", "GATEWAY_HOST": "nowhere", "GATEWAY_PORT": "0"}
    with subprocess.Popen([*OFFLINE, "--web"], env=os.environ | theirs, stdout=subprocess.PIPE, text=True) as demo:
        try:
            assert demo.stdout
            output = read_to("page: ", demo.stdout)
            ((url, key),) = re.findall(r"page: (http\S+)/#/key/(\S+)\n", output)
            output += read_to(r"again and again, until Ctrl-C", demo.stdout)
            with httpx.stream(
                "GET",
                f"{url}/v1/streams/radio-1/transcript",
                headers={"Authorization": f"Bearer {key}"},
                timeout=PATIENCE_S,
            ) as events:
                again = next(line for line in events.iter_lines() if '"final"' in line)
            demo.send_signal(signal.SIGINT)
            output += demo.stdout.read()
        finally:
            demo.kill()

    assert demo.returncode == 0, output
    assert json.loads(again.removeprefix("data: "))["session"] == "01_gale_warning-2"
    assert wer_percent(output, "demo", 128) <= 10
    assert len(re.findall(r"%\s+│ exact", output)) == 6
    assert output.count(": end: ") == 6
    assert "\x1b" not in output


def read_to(pattern: str, lines: Iterable[str]) -> str:
    """The lines up to one with ``pattern``."""
    read = ""
    for line in lines:
        read += line
        if re.search(pattern, line):
            return read
    raise AssertionError(read)


def wer_percent(output: str, model: str, words: int) -> float:
    wer = re.search(rf"^{re.escape(model)}: WER ([0-9.]+) %: \d+ of {words} words wrong$", output, re.MULTILINE)
    assert wer, output
    return float(wer[1])


def test_a_daemon_or_a_gateway_that_dies_fails_the_demo() -> None:
    env = os.environ | {"GATEWAY_PORT": "0"}
    with subprocess.Popen(
        [*OFFLINE, "--web"], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as demo:
        assert demo.stdout
        read_to("started", demo.stdout)

        os.kill(child_running(demo.pid, "gateway"), signal.SIGKILL)
        os.kill(child_running(demo.pid, "serve"), signal.SIGKILL)

        output, said = demo.communicate()

    assert demo.returncode == 1
    assert "FAILED: the gateway ended with status -9" in output
    assert "FAILED: the daemon with demo ended with status -9" in output
    assert "FAILED: 01_gale_warning: 0 end messages" in output
    assert '"the gateway has ended", "status": -9' in said


async def test_ctrl_c_leaves_what_was_shown_and_a_usable_terminal() -> None:
    with Terminal() as screen:
        before = screen.modes()
        on_it = {"stdin": screen.end, "stdout": screen.end, "stderr": screen.end, "env": screen.environment}
        # The terminal is the processes' own, so that it makes a signal of the key, for the demo and all its children.
        with subprocess.Popen(["setsid", "--ctty", *OFFLINE], **on_it) as demo:  # noqa: ASYNC220 - returns at once
            screen.started()
            await screen.read(b"windows dropped")
            screen.type(b"\x03")
            await screen.rest()
            status = demo.wait(PATIENCE_S)
        after = screen.modes()

    ending = screen.shown[screen.shown.rindex(b"windows dropped") :]
    assert status == 130
    assert after == before
    assert b"\x1b[?25h" in ending  # the cursor is back
    assert b"\x1b[2K" not in ending  # the figures are not erased
    assert b"Traceback" not in screen.shown


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
