"""Where a model runs, with a plug-in of our own that calls itself a card (``tests/support/fake_gpu.c``)."""

import errno
import json
import os
import subprocess
import sys
import textwrap

import pytest

from tests.support.fake_gpu import compiled_plug_in
from tests.support.waiting import PATIENCE_S
from transcriber.config import Settings
from transcriber.engine.job import CPU, Device
from transcriber.engine.whisper import device
from transcriber.engine.whisper.gpu.self_test import differences
from transcriber.engine.whisper.native_log import capture_native_log

SAID = "Gale warning for the north channel tonight. Wind northwest thirty five knots,"
CARD = "a card that is none"


@pytest.fixture(scope="module")
def plug_in(tmp_path_factory):
    return compiled_plug_in(tmp_path_factory.mktemp("plug-in"))


@pytest.fixture
def choose(monkeypatch, caplog):
    """``chosen_device`` of a new process, twice, as two workers ask for it; and what was logged."""
    caplog.set_level("INFO")
    monkeypatch.setattr(device, "_chosen", {})
    monkeypatch.setattr(device, "CHECK_S", PATIENCE_S)

    def choose(plug_in, setting, how="fine", *, ours=True):
        monkeypatch.setattr(device, "find_plug_in", lambda: plug_in)
        if ours:  # it does not say what it was built from
            monkeypatch.setattr(device, "check_plug_in", lambda _: None)
        monkeypatch.setenv("FAKE_GPU", how)
        first, second = (device.chosen_device(Settings(whisper_device=setting)) for _ in range(2))
        assert first is second
        return first, [(record.levelname, record.getMessage()) for record in caplog.records]

    return choose


def assert_fallback(done, level, setting, *words):
    (chosen, logged) = done
    assert chosen == Device("cpu", reason=chosen.reason)
    assert logged == [(level, f"WHISPER_DEVICE={setting}: whisper runs on the CPU: {chosen.reason}")]
    assert all(word in chosen.reason for word in words), chosen.reason


def test_a_card_that_computes_wrongly_is_found_before_the_first_window(plug_in, choose):
    assert_fallback(choose(plug_in, "cuda", "wrong"), "WARNING", "cuda", f"{CARD} computes wrongly")


def test_a_library_that_is_no_plug_in_is_not_loaded(plug_in, choose):
    reason = f"{plug_in}: is a library, but not one that"

    assert_fallback(choose(plug_in, "cuda", ours=False), "WARNING", "cuda", reason)


@pytest.mark.parametrize(
    ("how", "words"), [("crash", "CUDA error: unknown error"), ("late", "an illegal memory access was encountered")]
)
def test_a_driver_that_ends_the_process_costs_a_warning(plug_in, choose, how, words):
    assert_fallback(choose(plug_in, "auto", how), "WARNING", "auto", "its check ended by Aborted", words)


def test_a_driver_that_hangs_costs_a_warning(plug_in, choose, monkeypatch):
    monkeypatch.setattr(device, "CHECK_S", 0.5)

    assert_fallback(choose(plug_in, "cuda", "hang"), "WARNING", "cuda", "its check took longer than 0.5 s")


def test_what_a_driver_prints_is_not_taken_for_what_the_check_says(plug_in, choose):
    assert_fallback(choose(plug_in, "cuda:7", "noisy"), "WARNING", "cuda:7", "there is no cuda:7, but cuda:0")


def test_where_no_process_can_be_started_the_card_is_not_used(plug_in, choose, monkeypatch):
    def refuse(*_args, **_options):
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr("subprocess.Popen", refuse)

    assert_fallback(choose(plug_in, "auto"), "WARNING", "auto", "its check cannot be started: Resource temporarily")


NO_CARD = "failed to initialize CUDA: no CUDA-capable device is detected"


def test_where_there_is_no_card_a_warning_gives_the_reason_of_ggml(plug_in, choose):
    assert_fallback(choose(plug_in, "cuda", "none"), "WARNING", "cuda", NO_CARD)


def test_where_nobody_asked_for_one_and_there_is_no_driver_nothing_is_amiss(plug_in, choose, monkeypatch):
    monkeypatch.setattr(device, "DRIVERS", ())

    assert choose(plug_in, "auto", "none") == (
        CPU,
        [("INFO", f"WHISPER_DEVICE=auto: whisper runs on the CPU: {NO_CARD}")],
    )


def test_a_driver_without_a_card_that_can_be_used_is_a_warning(plug_in, choose, monkeypatch):
    monkeypatch.setattr(device, "DRIVERS", ("/dev/null",))

    assert_fallback(choose(plug_in, "auto", "none"), "WARNING", "auto", "no CUDA-capable device")


def test_a_card_that_is_not_there_is_a_warning_that_names_those_that_are(plug_in, choose):
    assert_fallback(choose(plug_in, "cuda:7"), "WARNING", "cuda:7", "there is no cuda:7, but cuda:0")


def test_a_plug_in_that_lacks_a_library_is_a_warning_that_names_it(plug_in, choose, tmp_path):
    # As without NVIDIA's wheels: the dynamic linker does not find what the plug-in needs.
    library, lacking = tmp_path / "libneeded.so", tmp_path / "libggml-cuda.so"
    compiled = ["cc", "-shared", "-x", "c", "/dev/null", "-x", "none"]
    subprocess.run([*compiled, "-o", library], check=True)
    subprocess.run([*compiled, "-o", lacking, "-Wl,--no-as-needed", library], check=True)
    library.unlink()

    assert_fallback(choose(lacking, "auto"), "WARNING", "auto", "libneeded.so: cannot open shared object file")


def test_with_cpu_no_plug_in_is_tried(plug_in, choose):
    assert choose(plug_in, "cpu", "crash") == (CPU, [])


def test_without_a_plug_in_who_asks_for_a_gpu_is_warned_and_nobody_else(choose, monkeypatch):
    monkeypatch.setattr("subprocess.Popen", None)  # no process is started

    assert choose(None, "auto") == (CPU, [])
    assert_fallback(choose(None, "cuda"), "WARNING", "cuda", "no GPU plug-in is installed")


def test_a_device_that_another_process_has_found_is_not_checked_again(choose, monkeypatch):
    found = Device("cuda:0", CARD)
    device.adopt(Settings(whisper_device="cuda"), found)

    assert choose(None, "cuda") == (found, [])


def test_a_gpu_that_whisper_cpp_silently_leaves_aside_computes_the_same_to_the_bit():
    # No GPU is loaded in this process: whisper.cpp takes the CPU for one that is not there, and says so in its log alone.
    capture_native_log()
    found = differences(gpu=7)

    assert found == [("f16", 0.0, True), ("q8_0", 0.0, True)]
    reason = device._objection({"gpus": {"CUDA0": CARD}, "differences": found}, 0)
    assert reason.startswith(f"{CARD} computes nothing of a f16 model itself")


def load(plug_in, *, how="fine", free_mb=8000, workers=1, checked=True):
    """Load the bundled model in a process of its own, since a plug-in that is loaded stays; what came of it.

    ``checked``: as if another process had checked the card, which takes a while.
    """
    code = f"""
        import json, logging, os, sys
        from pathlib import Path
        from transcriber.config import Settings
        from transcriber.engine.job import Device
        from transcriber.engine.warm_up import self_test_speech
        from transcriber.engine.whisper import device
        from transcriber.engine.whisper.model import load_model
        from transcriber.models.catalog import DEMO_MODEL

        os.environ.update(FAKE_GPU={how!r}, FAKE_GPU_FREE_MB="{free_mb}")
        device.CHECK_S = {PATIENCE_S}
        device.find_plug_in = lambda: Path({str(plug_in)!r})
        device.check_plug_in = lambda path: None
        settings = Settings(whisper_threads=1, whisper_workers={workers})
        if {checked}:
            device.adopt(settings, Device("cuda:0", {CARD!r}))
        model = load_model(DEMO_MODEL, settings)
        load_model(DEMO_MODEL, settings).close()
        text = model.transcribe(self_test_speech(), "en", lambda: False).text
        where = model.device
        model.close()
        print(json.dumps([text, where.name, where.description, where.reason]))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )
    assert done.returncode == 0
    return json.loads(done.stdout), done.stderr


def test_a_card_that_works_is_used_and_known(plug_in):
    assert load(plug_in, checked=False) == ([SAID, "cuda:0", CARD, ""], "")


@pytest.mark.parametrize(
    ("card", "reason"),
    [
        ({"free_mb": 200}, "needs about 268 MB on cuda:0, and 200 MB are free"),
        ({"free_mb": 300, "workers": 3}, ", with 3 workers, needs about 776 MB on cuda:0, and 300 MB are free"),
        ({"how": "full"}, "needs about 268 MB on cuda:0, and 8000 MB are free"),  # whisper.cpp would end the process
        ({"how": "none"}, "cuda:0 was there, and is not any more"),
    ],
)
def test_a_model_that_the_card_does_not_take_is_loaded_on_the_cpu(plug_in, card, reason):
    (text, name, _, why), logged = load(plug_in, **card)

    assert (text, name) == (SAID, "cpu")
    assert why.endswith(reason)
    assert logged == f"WHISPER_DEVICE=auto: whisper runs on the CPU: {why}\n"
