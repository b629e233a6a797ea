import json
import re
import subprocess
import sys
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from tests.support.daemon import run
from tests.support.waiting import PATIENCE_S
from transcriber.config import Settings
from transcriber.config.sizing import queue_capacity
from transcriber.engine.calibrate import calibrate, streams_held
from transcriber.engine.job import Job
from transcriber.engine.job_queue import JobQueue
from transcriber.engine.whisper.model import load_model
from transcriber.models.catalog import DEMO_MODEL

SAMPLES = np.zeros(1, np.float32)
SETTINGS = Settings(whisper_workers=1, whisper_threads=1, buffer_duration_secs=5.0)


def share_lost(streams, times_s, capacity, duration_s, rng):
    """Of 60 windows of each stream, with the real queue before one worker, in virtual time."""
    queue, free_s, lost = JobQueue(capacity), 0.0, 0
    phases_s = [rng.uniform(0, duration_s) for _ in range(streams)]
    arrivals = sorted((phase + n * duration_s, name) for name, phase in enumerate(phases_s) for n in range(60))
    for now_s, name in arrivals:
        while queue.depth and free_s <= now_s:
            queue.get()
            free_s += rng.choice(times_s)
        refused = queue.try_put(Job(str(name), SAMPLES, "en", lambda *_: None))
        lost += refused is not None
        if free_s <= now_s and refused is None:
            queue.get()
            free_s = now_s + rng.choice(times_s)
    return lost / len(arrivals)


@settings(max_examples=100, deadline=None)
@given(
    mean_s=st.floats(0.2, 5.0),
    jitter=st.floats(0.0, 0.3),
    patience=st.floats(2.0, 4.0),
    loss=st.sampled_from([0.0, 0.01, 0.1]),
    seed=st.integers(0, 999),
)
def test_the_real_queue_loses_no_more_than_stated_where_it_may_hold_two_windows_of_each(
    mean_s, jitter, patience, loss, seed
):
    duration_s = 5.0
    times_s = [mean_s * (1 - jitter), mean_s * (1 + jitter)]
    capacity = queue_capacity(patience * duration_s, duration_s, mean_s / duration_s)

    streams = streams_held(times_s, 1, duration_s, loss)

    assert share_lost(streams, times_s, capacity, duration_s, Random(seed)) <= loss + 0.02


def test_bundled_model_is_measured():
    (measured,) = calibrate(SETTINGS, [DEMO_MODEL], load_model, threads=[1], contexts=[256], seconds=0.1)

    assert (measured.model, measured.audio_ctx) == ("demo", 256)
    assert measured.streams >= 1


def printed(*command):
    """What a command writes to stdout, as JSON."""
    done = subprocess.run(
        [sys.executable, "-m", "transcriber", *command, "--json"],
        capture_output=True, text=True, check=True, timeout=PATIENCE_S,
    )  # fmt: skip
    return json.loads(done.stdout)


def test_command_prints_json_and_nothing_else_and_a_plan_is_made_of_it(tmp_path):
    rows = printed("calibrate", "--contexts=512", "--threads=1", "--seconds=0.1", "--files=1")
    (file := tmp_path / "calibration.json").write_text(json.dumps(rows))

    plan = printed("plan", "--streams=500", "--latency=30", "--files=1", f"--calibration={file}")

    status, why = run("plan", "--streams=9", "--latency=0.0001", f"--calibration={file}")

    (measured,) = rows
    assert (measured["model"], measured["threads"], measured["audio_ctx"]) == ("demo", 1, 512)
    assert measured["streams"] > 0
    assert measured["memory_bytes"] > 50_000_000
    assert 0 < measured["ingest_ms"] < 1000
    assert (plan["model"], plan["mode"], plan["streams"]) == ("demo", "live", 500)
    assert plan["replicas"] * plan["replica_streams"] >= 500
    assert plan["loss"] <= 0.001
    assert plan["file_hours_a_day"] > 0
    assert status == 2
    assert re.fullmatch(r"transcriber: a window of demo takes \S+ s here, more than --latency 0.0001\s*", why)


def test_a_plan_calibrates_here_where_it_is_given_no_figures():
    plan = printed("plan", "--streams=1", "--model=demo", "--whisper-threads=1", "--latency=60")

    assert (plan["replicas"], plan["workers"], plan["threads"]) == (1, 1, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--contexts", "300"], "WHISPER_AUDIO_CTX='300': must be auto, 0, 1500 or a multiple of 256"),
        (["--threads", "0"], "WHISPER_THREADS='0': input should be greater than or equal to 1"),
        (["--threads", "two"], "must be numbers, separated by commas"),
        (["--loss", "1"], "must be at least 0 and less than 1"),
        (["--loss", "little"], "must be at least 0 and less than 1"),
        (["--model", "nope"], "WHISPER_MODEL='nope': must be demo (bundled) or one of"),
    ],
)
def test_wrong_wishes_are_one_line_and_status_2(arguments, message):
    status, output = run("calibrate", *arguments)

    assert status == 2
    assert message in output


def test_quantize_writes_half_the_bytes_and_refuses_what_it_cannot(tmp_path):
    target = tmp_path / "ggml-demo-q8_0.bin"

    status, _ = run("quantize", DEMO_MODEL, target)
    again, message = run("quantize", target, tmp_path / "again.bin")
    nowhere, why = run("quantize", DEMO_MODEL, tmp_path / "no" / "folder.bin")

    assert status == 0
    assert target.stat().st_size < 0.6 * DEMO_MODEL.stat().st_size
    assert (again, message) == (3, f"transcriber: {target}: its weights are quantised already")
    assert nowhere == 3
    assert "cannot be stored: No such file" in why
