"""A model in a process of its own: the same text, and whatever that process dies of."""

import errno
import json
import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.waiting import PATIENCE_S
from transcriber.config import Settings
from transcriber.engine.job import CPU, Device, MultilingualModel, RestartingModel
from transcriber.engine.remote import channel, model as remote, process
from transcriber.engine.remote.model import RemoteModel
from transcriber.engine.transcript import Phrase
from transcriber.engine.warm_up import self_test_speech
from transcriber.engine.whisper.model import load_checked_model, load_model
from transcriber.errors import ConfigError, EngineError, ModelError
from transcriber.models.catalog import DEMO_MODEL

SETTINGS = Settings(whisper_model="demo", whisper_threads=1)
REAL = "transcriber.engine.whisper.model:load_checked_model"
FAKE = "transcriber.testing.fake_model:load_fake_model"
SPEECH = self_test_speech()
ROOT = Path(__file__).parents[4]


@pytest.fixture(autouse=True)
def same_code(monkeypatch):
    """In the process, too: where ours is also installed, it would be that one's."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture(autouse=True)
def reaped(monkeypatch):
    """Of what a process died is known, however busy the machine is."""
    monkeypatch.setattr(process, "REAPED_S", PATIENCE_S)


def never():
    return False


def level(thousandths):
    return np.full(8_000, thousandths / 1000, np.float32)


def text(model, thousandths, should_abort=never):
    return model.transcribe(level(thousandths), "en", should_abort).text


@pytest.fixture
def make_fake(monkeypatch):
    """Makes a remote model of the variables it is given; closed at the end."""
    made = []

    def make(**env):
        for name, value in env.items():
            monkeypatch.setenv(name, str(value))
        made.append(RemoteModel(FAKE, Path("fake"), SETTINGS))
        return made[-1]

    yield make
    for model in made:
        model.close()


def run_python(code):
    command = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)


def pid_of(model):
    return model._process._process.pid


def open_files():
    return sorted(file.name for file in Path("/proc/self/fd").iterdir())


def gone(pid):
    return not Path(f"/proc/{pid}").exists()


def wait_until(condition, what):
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, f"waited in vain for {what}"
        time.sleep(0.01)


def test_all_that_a_transcript_has_is_that_of_a_model_in_this_process(caplog):
    caplog.set_level(logging.INFO)
    here, there = load_model(DEMO_MODEL, SETTINGS), RemoteModel(REAL, DEMO_MODEL, SETTINGS)
    pid = pid_of(there)
    windows: list[tuple[Any, dict[str, Any]]] = [
        (SPEECH, {}),
        (SPEECH[40_000:], {"prompt": "harbour"}),
        (SPEECH, {"wide": True, "greedy": True}),
        (SPEECH[:4_000], {}),
        (np.tile(SPEECH[:8_000], 10), {}),  # says one thing again and again
    ]
    try:
        pairs = [
            [model.transcribe(samples, "en", never, **options) for model in (here, there)]
            for samples, options in windows
        ]
        assert isinstance(there, MultilingualModel)
        assert isinstance(there, RestartingModel)
        assert there.detect(SPEECH, never).probabilities == here.detect(SPEECH, never).probabilities
        assert [there.name, there.tight, there.translates] == [here.name, here.tight, here.translates]
        assert (there.supports("en"), there.supports("de")) == (True, False)
        with pytest.raises(EngineError, match="31 s do not fit"):
            there.transcribe(np.zeros(31 * 16_000, np.float32), "en", never)
    finally:
        here.close()
        there.close()

    for ours, theirs in pairs:
        assert theirs.processing_s > 0
        assert replace(theirs, processing_s=0.0) == replace(ours, processing_s=0.0)
    assert {theirs.doubt for _, theirs in pairs} > {None}
    assert any(isinstance(phrase, Phrase) for _, theirs in pairs for phrase in theirs.phrases)
    assert "whisper.cpp runs on cpu" in [record.getMessage() for record in caplog.records]
    assert gone(pid)


def test_what_a_process_dies_of_is_said_and_the_next_window_is_right(make_fake, caplog, monkeypatch):
    monkeypatch.setattr(remote, "MIN_PATIENCE_S", 0.05)
    monkeypatch.setattr(remote, "PATIENCE_FACTOR", 0)  # however long a call took on a busy machine
    model = make_fake(FAKE_ABORT_AT=300, FAKE_CRASH_AT=400, FAKE_FAIL_AT=500, FAKE_JOB_S=0)
    with pytest.raises(EngineError) as aborted:
        text(model, 300)
    assert text(model, 5) == "5"
    with pytest.raises(EngineError) as crashed:
        text(model, 400)
    with pytest.raises(EngineError, match="the fake model failed, as requested") as failed:
        text(model, 500)
    restarts = model.restarts
    begun_s = time.monotonic()
    with pytest.raises(EngineError) as hung:
        text(model, 666, lambda: time.monotonic() > begun_s + 0.05)
    said = text(model, 7)

    assert "died of SIGABRT: CUDA error: an illegal memory access was encountered | /ggml/" in str(aborted.value)
    assert str(crashed.value).startswith("the model's process ended with status 1: ")
    assert str(crashed.value).endswith("RuntimeError: the fake model crashed, as requested")
    assert failed.value.return_code == -7
    assert restarts == 2
    assert "was killed, as it did not abort a call within 0." in str(hung.value)
    assert said == "7"
    deaths = [record for record in caplog.records if record.getMessage().endswith("; it is started again")]
    assert [record.restarts for record in deaths] == [1, 2, 3]
    assert deaths[0].getMessage().startswith(str(aborted.value))


def test_the_last_words_of_ggml_are_the_reason(caplog):
    model = RemoteModel("tests.support.aborting_model:AbortingModel", DEMO_MODEL, SETTINGS)
    try:
        with pytest.raises(EngineError) as aborted:
            model.transcribe(SPEECH, "en", never)
    finally:
        model.close()

    said = "whisper.cpp aborts the process: CUDA error: out of memory"
    assert str(aborted.value) == f"the model's process died of SIGABRT: {said} | /src/ggml-cuda.cu:98: CUDA error"
    assert said in [record.getMessage() for record in caplog.records]


def test_an_error_of_the_card_without_processes_is_a_kill_of_which_the_last_record_says_why():
    code = """
        from transcriber.logs import configure
        from tests.support.aborting_model import AbortingModel
        from tests.integration.engine.remote.test_model import *
        configure("INFO", "json")
        AbortingModel(DEMO_MODEL, SETTINGS).transcribe(SPEECH, "en", never)
        """
    ended = run_python(code)

    records = [json.loads(line) for line in ended.stderr.splitlines() if line.startswith("{")]
    assert ended.returncode == -signal.SIGABRT
    assert records[-1]["msg"] == "whisper.cpp aborts the process: CUDA error: out of memory"


def test_a_call_is_aborted_and_its_process_stays(make_fake):
    model = make_fake(FAKE_JOB_S=3600)
    polls = iter([False, False, False])
    with pytest.raises(EngineError, match=r"^aborted$"):
        text(model, 5, lambda: next(polls, True))
    with pytest.raises(EngineError, match="before it began"):
        text(model, 5, lambda: True)

    assert model.restarts == 0


def test_signals_that_a_terminal_sends_to_all_do_not_reach_it_and_a_kill_while_it_idles_costs_no_window(make_fake):
    model = make_fake(FAKE_JOB_S=0)
    pid = pid_of(model)
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(pid, number)
    assert text(model, 5) == "5"
    assert pid_of(model) == pid
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: model.restarts, "the restart")

    assert text(model, 6) == "6"
    assert gone(pid)


@pytest.mark.parametrize("reason", ["needs 5 GB of memory", "ABORT"])
def test_what_cannot_be_started_again_is_given_up(make_fake, tmp_path, monkeypatch, caplog, reason):
    monkeypatch.setattr(remote, "RETRY_S", 0.01)
    monkeypatch.setattr(remote, "MAX_RETRIES", 1)
    load = tmp_path / "load"
    model = make_fake(FAKE_LOAD_FILE=load)
    failed = threading.Event()
    model.on_failure = lambda _: failed.set()
    load.write_text(reason)
    assert not model.late
    os.kill(pid_of(model), signal.SIGKILL)
    assert failed.wait(PATIENCE_S)
    monkeypatch.setattr(remote, "LATE_S", 0.0)

    assert model.late
    for ask in (partial(text, model, 5), partial(model.wait, never)):
        with pytest.raises(RuntimeError, match=r"the model cannot be started again: .*memory"):
            ask()
    assert sum("tried again in 0.01 s" in record.getMessage() for record in caplog.records) == 1


def test_where_it_runs_is_what_its_last_process_says(make_fake, monkeypatch):
    places = [Device("cuda:0", "a card"), Device(reason="cuda:0 was there, and is not any more")]
    start, left = process.ModelProcess.wait_until_ready, list(places)
    monkeypatch.setattr(
        process.ModelProcess, "wait_until_ready", lambda *order: start(*order)._replace(device=left.pop(0))
    )
    model = make_fake()
    assert model.device == places[0]
    os.kill(pid_of(model), signal.SIGKILL)
    wait_until(lambda: model.restarts, "its death")
    model.wait(never)

    assert model.device == places[1]


@pytest.mark.parametrize(("device", "at_once"), [(Device("cuda:0", "a card"), 1), (CPU, 3)])
def test_processes_load_onto_a_card_one_after_the_other_at_the_start_and_later(monkeypatch, device, at_once):
    all_load, loading, most = threading.Barrier(3), [], []
    start = process.ModelProcess.wait_until_ready

    def counted(one, order, limit_s):
        loading.append(one)
        if at_once == 3:
            all_load.wait(PATIENCE_S)
        ready = start(one, order._replace(device=None), limit_s)  # the fake one does not take it
        most.append(len(loading))
        loading.remove(one)
        return ready

    monkeypatch.setattr(process.ModelProcess, "wait_until_ready", counted)
    with ThreadPoolExecutor(3) as threads:
        models = list(threads.map(lambda _: RemoteModel(FAKE, Path("fake"), SETTINGS, device), range(3)))
    for model in models:
        os.kill(pid_of(model), signal.SIGKILL)
    for model in models:
        wait_until(lambda model=model: model.restarts, "its death")
        model.wait(never)
        model.close()

    assert len(most) == 6
    assert max(most) == at_once


def test_a_model_that_waits_for_its_turn_on_the_card_is_not_late_and_is_closed_at_once(monkeypatch):
    start = process.ModelProcess.wait_until_ready
    monkeypatch.setattr(
        process.ModelProcess,
        "wait_until_ready",
        lambda one, order, limit_s: start(one, order._replace(device=None), limit_s),
    )
    model = RemoteModel(FAKE, Path("fake"), SETTINGS, Device("cuda:0", "a card"))
    pid = pid_of(model)
    with remote._card:  # another one loads
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: model.restarts and pid_of(model) != pid, "the next process")
        away_since_s = model._away_since_s
        wait_until(lambda: model._away_since_s > away_since_s, "the wait not to make it late")
        model.close()
        assert gone(pid_of(model))


def test_a_restart_that_takes_too_long_is_one_that_failed(make_fake, monkeypatch):
    model = make_fake()
    monkeypatch.setattr(remote, "MIN_START_LIMIT_S", 0.0)
    monkeypatch.setattr(remote, "START_FACTOR", 0.0)
    monkeypatch.setattr(remote, "MAX_RETRIES", 0)
    os.kill(pid_of(model), signal.SIGKILL)
    wait_until(lambda: model.restarts, "its death")

    with pytest.raises(RuntimeError, match="was killed, as it did not load its model in time"):
        model.wait(never)


def test_a_model_that_is_away_is_waited_for_until_the_call_is_aborted(make_fake, tmp_path, monkeypatch):
    model = make_fake()
    monkeypatch.setattr(remote, "RETRY_S", PATIENCE_S)
    monkeypatch.setenv("FAKE_LOAD_FILE", str(tmp_path / "load"))
    (tmp_path / "load").write_text("no card")
    os.kill(pid_of(model), signal.SIGKILL)
    wait_until(lambda: model.restarts, "its death")

    for ask in (partial(text, model, 5), partial(model.detect, level(5))):
        polls = iter([False, False])
        with pytest.raises(EngineError, match="while its process was started again"):
            ask(lambda polls=polls: next(polls, True))
    model.wait(lambda: True)


def test_a_module_in_the_current_folder_is_not_imported(make_fake, tmp_path, monkeypatch):
    (tmp_path / "queue.py").write_text("raise SystemExit('a module of somebody else')")
    monkeypatch.chdir(tmp_path)

    assert text(make_fake(), 5) == "5"


def test_a_process_that_the_machine_refuses_leaves_no_file_open(monkeypatch):
    def refuse(*_, **__):
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    audio = channel.SharedAudio()
    monkeypatch.setattr("subprocess.Popen", refuse)
    before = open_files()
    with pytest.raises(BlockingIOError):
        process.ModelProcess(audio)

    assert open_files() == before
    audio.close()
    with pytest.raises(ModelError, match=r"^fake: no process can be started for it: Resource temporarily"):
        RemoteModel(FAKE, Path("fake"), SETTINGS)


def test_why_a_model_cannot_be_loaded_is_what_it_is_in_this_process(tmp_path):
    broken = tmp_path / "broken.bin"
    broken.write_bytes(DEMO_MODEL.read_bytes()[:1_000_000])
    long = Settings(whisper_model="demo", whisper_prompt="7 " * 400)
    for path, settings, kind in ((broken, SETTINGS, ModelError), (DEMO_MODEL, long, ConfigError)):
        with pytest.raises(kind) as here:
            load_checked_model(path, settings)
        with pytest.raises(kind) as there:
            RemoteModel(REAL, path, settings)

        assert str(there.value) == str(here.value)


def test_a_process_that_aborts_while_it_loads_the_model_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "load").write_text("ABORT")
    monkeypatch.setenv("FAKE_LOAD_FILE", str(tmp_path / "load"))

    with pytest.raises(
        ModelError, match=r"^fake: the model's process died of SIGABRT: CUDA error: out of memory \| /ggml"
    ):
        RemoteModel(FAKE, Path("fake"), SETTINGS)


def test_too_little_memory_in_the_process_is_one_line():
    code = """
        import resource
        from transcriber.engine.remote import child
        from tests.integration.engine.remote.test_model import *
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 2**27, used + 2**27))
        try:
            RemoteModel(REAL, DEMO_MODEL, SETTINGS)
        except ModelError as error:
            print(error)
        """
    ended = run_python(code)

    assert "needs about 268 MB of memory: Cannot allocate memory" in ended.stdout
    assert (ended.returncode, ended.stderr) == (0, "")


def test_what_it_writes_is_logged_line_by_line_and_kept_within_bounds(make_fake, monkeypatch, caplog):
    monkeypatch.setattr(process, "MAX_STDERR_BYTES", 8)
    model = make_fake()
    writer = os.open(f"/proc/{pid_of(model)}/fd/2", os.O_WRONLY | os.O_APPEND)
    for line in ("a first line\n\nand \x1b[1m another\n", "a later one\n"):
        os.write(writer, line.encode())
        text(model, 5)
    os.close(writer)

    said = [record.getMessage().removeprefix("the model's process: ") for record in caplog.records]
    assert said == ["a first line", "and \x1b[1m another", "a later one"]
    assert os.fstat(model._process._stderr).st_size == 0
