"""When a worker finds who speaks in its jobs, and what that counts for."""

import asyncio
from time import perf_counter

import numpy as np
import pytest

from tests.support.waiting import until
from transcriber.config.sizing import queue_capacity
from transcriber.engine.job import Job, Lane
from transcriber.engine.transcript import Transcript
from transcriber.engine.warm_up import warm_up
from transcriber.engine.worker import Worker
from transcriber.errors import EngineError

TEXT = Transcript("gale", (), "en", -0.1, None, 0.5)


class Model:
    """Says one word, or fails."""

    name = "model"
    tight = False
    translates = False
    error: EngineError | None = None

    def supports(self, _language):
        return True

    def close(self):
        pass

    def transcribe(self, *_, **__):
        if self.error:
            raise self.error
        return TEXT


class Speakers:
    """Notes what was asked of it."""

    def __init__(self):
        self.asked = []

    def find(self, *, busy, should_abort):
        self.asked.append(busy)


async def asked_of(model=None, *, waiting=0, **of_the_job):
    """What is asked of the speakers of a job while ``waiting`` others wait in a queue of four, and its outcome."""
    model = model or Model()
    worker = Worker("whisper-test", Model, duration_s=5.0, max_latency_s=20.0, capacity_for=lambda _: 4)
    await worker.ready
    worker.model = model
    settled, speakers = asyncio.get_running_loop().create_future(), Speakers()
    jobs = [new_job(lambda _, outcome: settled.set_result(outcome), speakers=speakers, **of_the_job)]
    jobs += [new_job(lambda *_: None) for _ in range(waiting)]
    with worker.queue._changed:  # the worker's thread cannot take one before all are there
        for job in jobs:
            worker.queue._lanes[job.lane].put(job)
        worker.queue._changed.notify()
    outcome = await settled
    worker.queue.close()
    await worker.finished
    return speakers.asked, outcome


def new_job(settle, **more):
    return Job("a", np.zeros(80_000, np.float32), "en", settle, **more)


@pytest.mark.parametrize(("waiting", "busy"), [(0, False), (2, False), (3, True)])
async def test_speakers_are_left_out_while_more_than_half_of_the_queue_waits(waiting, busy):
    assert await asked_of(waiting=waiting) == ([busy], TEXT)


async def test_what_must_not_depend_on_the_load_does_not():
    assert await asked_of(waiting=3, deterministic=True) == ([False], TEXT)


async def test_a_window_without_text_has_no_speakers_and_teaches_nothing():
    model = Model()
    model.error = EngineError("failed")

    assert await asked_of(model) == ([], model.error)


async def test_a_window_whose_text_was_made_ahead_has_speakers_like_any_other():
    worker = Worker("whisper-test", Model, duration_s=5.0, max_latency_s=20.0, capacity_for=lambda _: 4)
    await worker.ready
    await until(lambda: worker.queue.idle, "a worker that waits")
    speakers = Speakers()

    await worker.transcribe(lambda settle: new_job(settle, lane=Lane.PARTIAL, speculative=True))
    answered = await worker.transcribe(lambda settle: new_job(settle, speakers=speakers))
    worker.queue.close()
    await worker.finished

    assert answered
    assert answered[0].answered_speculatively
    assert speakers.asked == [False]


@pytest.mark.parametrize("deterministic", [False, True])
async def test_a_worker_that_is_stopped_leaves_speakers_out_where_it_may(deterministic):
    worker = Worker("whisper-test", Model, duration_s=5.0, max_latency_s=20.0, capacity_for=lambda _: 4)
    await worker.ready

    class Stopping(Model):
        """While it works, the worker is stopped, and it is done before it notices."""

        def transcribe(self, *_, **__):
            worker.cancel()
            return TEXT

    worker.model, speakers = Stopping(), Speakers()
    answered = await worker.transcribe(lambda settle: new_job(settle, speakers=speakers, deterministic=deterministic))
    worker.queue.close()
    await worker.finished

    assert answered
    assert answered[1] == TEXT
    assert speakers.asked == [not deterministic]


async def test_a_second_pass_gives_way_before_its_speakers_are_found():
    worker = Worker("whisper-test", Model, duration_s=5.0, max_latency_s=20.0, capacity_for=lambda _: 4)
    await worker.ready

    class Arriving(Model):
        """While it works, a window arrives."""

        def transcribe(self, *_, **__):
            worker.queue._finals.put(new_job(lambda *_: None))
            return TEXT

    worker.model = Arriving()
    speakers = Speakers()
    answered = await worker.transcribe(lambda settle: new_job(settle, lane=Lane.SECOND_PASS, speakers=speakers))
    worker.model = Model()
    worker.queue.close()
    await worker.finished

    assert answered
    assert isinstance(answered[1], EngineError)
    assert speakers.asked == []


async def test_a_window_whose_text_was_made_ahead_counts_with_its_speakers():
    """Fake clock: the times are written into the jobs."""
    worker = Worker(
        "whisper-test", Model, duration_s=5.0, max_latency_s=20.0, capacity_for=lambda rtf: queue_capacity(20, 5, rtf)
    )
    await worker.ready
    worker._labelled_s = 0.5

    for _ in range(7):
        job = new_job(lambda *_: None, lane=Lane.PARTIAL, speculative=True)
        job.started_s, job.finished_s = 100.0, 100.5
        worker._settle(job, TEXT)

    assert worker.capacity.rtf == pytest.approx(0.2)
    worker.queue.close()
    await worker.finished


def test_the_speed_that_is_measured_at_the_start_includes_the_speakers():
    heard = []

    def label(samples, left_s):
        heard.append((len(samples), left_s))
        until = perf_counter() + 0.02
        while perf_counter() < until:
            pass

    plain, labelled = warm_up(Model(), 5.0, 7.5), warm_up(Model(), 5.0, 7.5, label)

    assert plain == pytest.approx(0.1)
    assert labelled >= 0.1 + 0.02 / 5.0
    assert set(heard) == {(round(12.5 * 16_000), 7.5)}
