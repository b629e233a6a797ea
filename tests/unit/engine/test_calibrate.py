import time

import pytest
from hypothesis import given, strategies as st

from transcriber.config import Settings
from transcriber.engine.calibrate import Measurement, best, calibrate, streams_held
from transcriber.engine.transcript import Transcript
from transcriber.errors import EngineError, ModelError
from transcriber.models.catalog import DEMO_MODEL

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


@pytest.mark.parametrize(("processes", "named"), [(0, "WHISPER_WORKERS"), (1, "WHISPER_PROCESSES")])
def test_a_row_names_the_settings_that_give_it(processes, named):
    """As ``on_device`` makes them: a number of workers beside another one of processes is refused."""
    settings = SETTINGS.model_copy(update={"whisper_processes": processes})

    (measured,) = rows_of(PacedModel, settings, threads=[2], contexts=[512])

    assert measured.as_settings == f"{named}=1 WHISPER_THREADS=2 WHISPER_AUDIO_CTX=auto"


def test_without_wishes_the_arrangements_fill_the_machine_at_two_contexts():
    rows = rows_of(PacedModel)

    assert {r.audio_ctx for r in rows} == {512, 0}
    assert (1, 1) in {(r.workers, r.threads) for r in rows}
    assert sum(r.shipped for r in rows) == 1


def test_where_voices_are_distinguished_each_job_takes_as_much_longer():
    heard = []

    def label(samples, left_s):
        heard.append((len(samples), left_s))
        time.sleep(0.02)

    (measured,) = rows_of(PacedModel, threads=[1], contexts=[512], label=label)

    assert measured.median_ms >= 20
    assert measured.plain_ms >= 20
    assert set(heard) == {(5 * 16_000, 0.0), (round(12.5 * 16_000), 7.5)}


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
