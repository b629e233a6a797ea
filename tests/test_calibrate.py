import json
import subprocess
import sys
import time
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from tests.harness import PATIENCE_S
from tests.test_start import run
from transcriber.config import Settings
from transcriber.config.sizing import queue_capacity
from transcriber.engine.calibrate import Measurement, best, calibrate, streams_held
from transcriber.engine.job import Job
from transcriber.engine.job_queue import JobQueue
from transcriber.engine.transcript import Transcript
from transcriber.engine.whisper.model import load_model
from transcriber.errors import EngineError, ModelError
from transcriber.models.catalog import DEMO_MODEL

SAMPLES = np.zeros(1, np.float32)
SETTINGS = Settings(whisper_workers=1, whisper_threads=1, buffer_duration_secs=5.0)


class PacedModel:
    """Takes 4 ms a window with one thread, 2 ms with two; at the full context ten times that."""

    name = "paced"
    tight = False
    translates = False

    def __init__(self, settings):
        self.job_s = 0.001 / settings.threads * (1 if settings.audio_ctx else 10)
        self.calls = 0

    def supports(self, _language):
        return True

    def close(self):
        pass

    def transcribe(self, samples, language, should_abort, *, wide=False, prompt="", translate=False, greedy=False):
        self.calls += 1
        time.sleep(self.job_s)
        return Transcript("over", (), language, -0.1, None, self.job_s)


class FailingModel(PacedModel):
    def transcribe(self, samples, language, should_abort, *, wide=False, prompt="", translate=False, greedy=False):
        if self.calls > 5:
            raise EngineError("failed to encode")
        return super().transcribe(samples, language, should_abort)


def rows_of(model, settings=SETTINGS, **options):
    return list(calibrate(settings, [DEMO_MODEL], lambda _, varied: model(varied), seconds=0.05, **options))


def row(workers=1, threads=1, audio_ctx=512, streams=10, median_ms=50.0, shipped=False):
    return Measurement(
        "demo", workers, threads, audio_ctx, False, median_ms, median_ms, median_ms, 0.01, 100, streams, shipped
    )


def test_a_row_for_each_context_and_number_of_threads():
    rows = rows_of(PacedModel, threads=[1, 2], contexts=[512, 0])

    assert [(r.workers, r.threads, r.audio_ctx) for r in rows] == [(1, 1, 512), (1, 2, 512), (1, 1, 0), (1, 2, 0)]
    assert [r.shipped for r in rows] == [True, False, False, False]
    assert {r.model for r in rows} == {"demo"}
    for r in rows:
        assert 0 < r.median_ms <= r.p95_ms
        assert r.rtf == pytest.approx(r.median_ms / 5000, abs=6e-5)
        assert r.queue_capacity == 256


def test_without_wishes_the_arrangements_fill_the_machine_at_two_contexts():
    rows = rows_of(PacedModel)

    assert {r.audio_ctx for r in rows} == {512, 0}
    assert (1, 1) in {(r.workers, r.threads) for r in rows}
    assert sum(r.shipped for r in rows) == 1


def test_a_model_that_fails_is_one_line():
    with pytest.raises(ModelError, match="model paced failed: failed to encode"):
        rows_of(FailingModel, threads=[1], contexts=[512])


def test_the_best_is_what_holds_most_streams_at_the_context_of_the_settings():
    shipped, wider = row(shipped=True), row(workers=2, streams=19)
    sooner = row(threads=2, streams=19, median_ms=30.0)
    tighter = row(audio_ctx=256, streams=30)

    assert best([shipped, wider, tighter], "demo") == wider
    assert best([shipped, wider, sooner, tighter], "demo") == sooner
    assert best([wider, tighter], "demo") == tighter


@given(
    times_s=st.lists(st.floats(0.001, 20), min_size=1, max_size=20),
    workers=st.integers(1, 16),
    duration_s=st.floats(0.5, 30),
    loss=st.floats(0, 0.9),
)
def test_streams_keep_the_workers_as_busy_as_the_loss_allows(times_s, workers, duration_s, loss):
    streams = streams_held(times_s, workers, duration_s, loss)

    mean_s = sum(times_s) / len(times_s)
    assert streams % workers == 0
    assert streams // workers * mean_s * (1 - loss) <= duration_s * (1 + 1e-6)
    assert (streams // workers + 1) * mean_s * (1 - loss) > duration_s * (1 - 1e-6)
    assert streams_held(times_s, workers, duration_s, 0.0) <= streams


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


def test_command_prints_json_and_nothing_else():
    command = [sys.executable, "-m", "transcriber", "calibrate", "--contexts=256", "--threads=1", "--json"]

    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE_S)

    (measured,) = json.loads(done.stdout)
    assert (measured["model"], measured["threads"], measured["audio_ctx"]) == ("demo", 1, 256)
    assert measured["streams"] > 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--contexts", "300"], "WHISPER_AUDIO_CTX='300': must be auto, 0, 1500 or a multiple of 256"),
        (["--threads", "0"], "WHISPER_THREADS='0': input should be greater than or equal to 1"),
        (["--threads", "two"], "must be numbers, separated by commas"),
        (["--loss", "1"], "must be at least 0 and less than 1"),
        (["--loss", "little"], "must be at least 0 and less than 1"),
        (["--model", "nope"], "WHISPER_MODEL='nope': must be demo (bundled) or one of"),
    ],
)
def test_wrong_wishes_are_one_line_and_status_2(arguments, told):
    status, told_us = run("calibrate", *arguments)

    assert status == 2
    assert told in told_us


def test_quantize_writes_half_the_bytes_and_refuses_what_it_cannot(tmp_path):
    target = tmp_path / "ggml-demo-q8_0.bin"

    status, _ = run("quantize", DEMO_MODEL, target)
    again, told = run("quantize", target, tmp_path / "again.bin")
    nowhere, why = run("quantize", DEMO_MODEL, tmp_path / "no" / "folder.bin")

    assert status == 0
    assert target.stat().st_size < 0.6 * DEMO_MODEL.stat().st_size
    assert (again, told) == (3, f"transcriber: {target}: its weights are quantised already")
    assert nowhere == 3
    assert "cannot be stored: No such file" in why
