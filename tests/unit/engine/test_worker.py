import asyncio
import logging
import math
import threading
from dataclasses import replace

import numpy as np
import pytest

from tests.support.waiting import PATIENCE_S, until
from transcriber.config.sizing import queue_capacity
from transcriber.engine.job import Job, Lane
from transcriber.engine.prompt import SpeakerPrompt
from transcriber.engine.transcript import Transcript
from transcriber.engine.worker import Worker
from transcriber.errors import EngineError


class ScriptedModel:
    """Returns the next transcript of its script; notes the encoder context of each call."""

    name = "scripted"
    translates = False

    def __init__(self, *script, tight=True):
        self.tight = tight
        self.script = list(script)
        self.asked = []
        self.prompts = []

    def supports(self, _language):
        return True

    def close(self):
        pass

    def transcribe(self, samples, language, should_abort, *, wide=False, prompt="", translate=False, greedy=False):
        self.asked.append("wide" if wide else "usual")
        self.prompts.append(prompt)
        answer = self.script.pop(0) if self.script else said("warm")
        if isinstance(answer, Exception):
            raise answer
        return answer


def said(text, doubt=None, avg_logprob=-0.1):
    return Transcript(text, (), "en", avg_logprob, None, 0.5, doubt)


async def outcome_of(model, *script, waiting=0, **of_the_job):
    """What becomes of one job while ``waiting`` others wait in a queue of four."""
    worker = Worker("whisper-test", lambda: model, duration_s=5.0, max_latency_s=20.0, capacity_for=lambda _: 4)
    await worker.ready
    model.script, model.asked, model.prompts = list(script), [], []
    settled = asyncio.get_running_loop().create_future()
    jobs = [new_job(lambda _, outcome: settled.set_result(outcome), **of_the_job)]
    jobs += [new_job(lambda *_: None) for _ in range(waiting)]
    with worker.queue._changed:  # the worker's thread cannot take one before all are there
        for job in jobs:
            worker.queue._finals.put(job)
        worker.queue._changed.notify()
    outcome = await settled
    worker.queue.close()
    await worker.finished
    return outcome, model.asked


def new_job(settle, **more):
    return Job("a", np.zeros(80_000, np.float32), "en", settle, **more)


async def test_an_answer_beyond_doubt_is_asked_once():
    outcome, asked = await outcome_of(ScriptedModel(), said("gale warning"))

    assert (outcome.text, outcome.redone, asked) == ("gale warning", False, ["usual"])


@pytest.mark.parametrize("doubt", ["token_cap", "gave_up", "log_probability", "repetition"])
async def test_a_doubtful_answer_is_asked_once_more_at_a_wide_context(doubt):
    outcome, asked = await outcome_of(ScriptedModel(), said("the the", doubt), said("the tide"))

    assert (outcome.text, outcome.redone, asked) == ("the tide", True, ["usual", "wide"])
    assert outcome.processing_s == 1.0


@pytest.mark.parametrize(
    ("first", "second", "stays"), [(-2.0, -1.5, "repetition"), (-1.5, -2.0, "log_probability")], ids=["2nd", "1st"]
)
async def test_of_two_doubtful_answers_the_likelier_stays_and_is_held_back(first, second, stays):
    outcome, _ = await outcome_of(
        ScriptedModel(), said("first", "log_probability", first), said("second", "repetition", second)
    )

    assert (outcome.text, outcome.words, outcome.suppressed) == ("", (), stays)
    assert (outcome.avg_logprob, outcome.redone) == (max(first, second), True)


@pytest.mark.parametrize("doubt", ["token_cap", "log_probability", "repetition"])
async def test_text_still_in_doubt_is_held_back_with_its_reason(doubt):
    outcome, asked = await outcome_of(ScriptedModel(), said("the the", doubt), said("the the", doubt))

    assert (outcome.text, outcome.words, outcome.suppressed, asked) == ("", (), doubt, ["usual", "wide"])


@pytest.mark.parametrize("turned", [False, True], ids=["2nd", "1st"])
async def test_of_two_doubtful_answers_one_that_may_be_shown_stays(turned):
    answers = [said("no " * 30, "token_cap", -0.1), said("no " * 8, "repetition", -0.2)]

    outcome, asked = await outcome_of(ScriptedModel(), *(answers[::-1] if turned else answers), speech_s=2.3)

    assert (outcome.text, outcome.suppressed, asked) == ("no " * 8, None, ["usual", "wide"])


async def test_an_answer_that_gave_up_does_not_hide_that_another_was_held_back():
    outcome, _ = await outcome_of(ScriptedModel(), said("the the", "repetition", -0.5), said("", "gave_up", None))

    assert (outcome.text, outcome.suppressed) == ("", "repetition")


async def test_a_second_answer_beyond_doubt_is_shown():
    outcome, _ = await outcome_of(ScriptedModel(), said("the the", "token_cap", -0.1), said("the tide", None, -0.9))

    assert (outcome.text, outcome.suppressed) == ("the tide", None)


@pytest.mark.parametrize(
    ("heard", "reason"), [({"speech_s": 0.1}, "rate"), ({"speech_prob": 0.1}, "no_speech"), ({"speech_s": 5.0}, None)]
)
async def test_the_detector_can_speak_against_an_answer_too(heard, reason):
    answer = said("gale warning for the north channel " * 3, None, -0.8)

    outcome, asked = await outcome_of(ScriptedModel(), answer, answer, **heard)

    assert outcome.suppressed == reason
    assert asked == (["usual", "wide"] if reason else ["usual"])


async def test_an_answer_that_gave_up_is_empty_and_not_held_back():
    nothing = said("", "gave_up", None)

    outcome, _ = await outcome_of(ScriptedModel(), nothing, nothing)

    assert (outcome.text, outcome.suppressed) == ("", None)


async def test_text_that_is_held_back_is_not_in_the_log(caplog):
    caplog.set_level(logging.DEBUG)

    await outcome_of(ScriptedModel(), *[said("secret", "repetition")] * 2)

    assert "secret" not in caplog.text


async def test_a_model_at_a_wide_context_is_not_asked_again():
    outcome, asked = await outcome_of(ScriptedModel(tight=False), said("the the", "repetition"))

    assert (outcome.suppressed, outcome.redone, asked) == ("repetition", False, ["usual"])


async def test_what_fits_no_tighter_context_is_not_asked_again():
    answer = replace(said("the the", "repetition"), wide=True)

    outcome, asked = await outcome_of(ScriptedModel(), answer)

    assert (outcome.suppressed, outcome.redone, asked) == ("repetition", False, ["usual"])


async def in_context(model, context, *script):
    """What becomes of a job whose speaker said "gale warning" before."""
    context.record(said("gale warning"), context.epoch)
    return await outcome_of(model, *script, prompt=context)


async def test_the_second_asking_is_without_what_was_said_before_even_at_a_wide_context():
    model = ScriptedModel(tight=False)

    outcome, _ = await in_context(model, SpeakerPrompt(), said("the the", "repetition"), said("the tide"))

    assert (outcome.text, outcome.redone, model.prompts) == ("the tide", True, ["gale warning", ""])


@pytest.mark.parametrize(
    ("answer", "left"),
    [
        (said("tonight"), "gale warning tonight"),
        (said("tonight", "repetition"), ""),
        (said("tonight", None, -0.8), ""),
        (said("", None, None), ""),
        (EngineError("failed"), ""),
    ],
)
async def test_only_a_sure_answer_is_context(answer, left):
    context = SpeakerPrompt()

    await in_context(ScriptedModel(tight=False), context, answer, answer)

    assert context.text == left


async def test_a_partial_uses_the_context_and_leaves_it_as_it_is():
    model, context = ScriptedModel(), SpeakerPrompt()
    context.record(said("gale warning"), context.epoch)

    job = new_job(lambda *_: None, prompt=context, lane=Lane.PARTIAL)
    job.update_history(said("wind"))

    assert (job.prompt_for("en"), context.text, model.asked) == ("gale warning", "gale warning", [])


@pytest.mark.parametrize(("waiting", "redone"), [(0, True), (2, True), (3, False)])
async def test_nothing_is_asked_again_while_the_queue_is_more_than_half_full(waiting, redone):
    outcome, _ = await outcome_of(ScriptedModel(), said("the the", "repetition"), said("the tide"), waiting=waiting)

    assert outcome.redone == redone


async def test_when_the_second_asking_fails_the_first_answer_stays():
    outcome, _ = await outcome_of(ScriptedModel(), said("the the", "repetition"), EngineError("aborted"))

    assert (outcome.suppressed, outcome.redone) == ("repetition", False)


@pytest.mark.parametrize(("job_s", "capacity"), [(0.001, 40), (2.0, 8)])
async def test_failures_make_the_queue_shorter_where_they_are_slow_and_never_longer(job_s, capacity):
    worker = Worker(
        "whisper-test",
        ScriptedModel,
        duration_s=5.0,
        max_latency_s=20.0,
        capacity_for=lambda rtf: queue_capacity(20, 5, rtf),
    )
    await worker.ready

    for _ in range(7):
        job = new_job(lambda *_: None)
        job.started_s, job.finished_s = 100.0, 100.0 + job_s
        worker._settle(job, EngineError("failed"))

    assert worker.queue.capacity == capacity
    worker.queue.close()
    await worker.finished


async def test_the_queue_follows_the_speed_of_the_model_and_says_so(caplog):
    """Fake clock: the times are written into the jobs."""
    caplog.set_level(logging.INFO)
    model = ScriptedModel()
    worker = Worker(
        "whisper-test",
        lambda: model,
        duration_s=5.0,
        max_latency_s=20.0,
        capacity_for=lambda rtf: queue_capacity(20, 5, rtf),
    )
    await worker.ready  # the scripted model took half a second, so its RTF is 0.1
    before = worker.queue.capacity
    capacities = []

    for job_s in [1.0] * 5 + [0.5] * 7:
        job = new_job(lambda *_: None)
        job.started_s, job.finished_s = 100.0, 100.0 + job_s
        worker._settle(job, said("gale warning"))
        capacities.append(worker.queue.capacity)

    assert (before, capacities[4], capacities[-1]) == (40, 17, 34)
    assert worker.capacity.changes == 2
    assert [r.queue_capacity for r in caplog.records if "capacity follows" in r.message] == [17, 34]
    worker.queue.close()
    await worker.finished


class Spinning(ScriptedModel):
    """Works on half a second of audio until it is aborted, and on all else not at all."""

    def transcribe(self, samples, language, should_abort, *, wide=False, prompt="", translate=False, greedy=False):
        if len(samples) == 8_000:
            while not should_abort():
                pass
            raise EngineError("aborted", return_code=-6)
        return super().transcribe(samples, language, should_abort, wide=wide, prompt=prompt)


class Guessing:
    """A worker that has a partial in hand, and what became of its jobs."""

    def __init__(self):
        self.outcomes = {}

    async def __aenter__(self):
        self.worker = Worker(
            "whisper-test",
            Spinning,
            duration_s=5.0,
            max_latency_s=60.0,
            capacity_for=lambda rtf: queue_capacity(20, 5, rtf),
        )
        await self.worker.ready
        await until(lambda: self.worker.queue.idle, "a worker that waits")
        self.busy_s = self.worker.busy_s
        self.partial = Job("a", np.zeros(8_000, np.float32), "en", self.settle, Lane.PARTIAL)
        assert self.worker.queue.try_put(self.partial) is None
        await until(lambda: self.worker._job is self.partial, "the partial in hand")
        return self

    def settle(self, job, outcome):
        assert job not in self.outcomes
        self.outcomes[job] = outcome

    async def __aexit__(self, *_):
        self.worker.queue.close()
        await asyncio.wait_for(self.worker.finished, 10)


@pytest.mark.parametrize("lane", [Lane.FINAL, Lane.REQUEST])
async def test_a_partial_gives_way_to_what_comes_and_that_is_served(lane):
    async with Guessing() as guessing:
        urgent = new_job(guessing.settle, lane=lane)
        assert guessing.worker.queue.try_put(urgent) is None
        await until(lambda: urgent in guessing.outcomes, "the other job")

    assert list(guessing.outcomes) == [guessing.partial, urgent]
    assert isinstance(guessing.outcomes[guessing.partial], EngineError)
    assert guessing.outcomes[urgent].text == "warm"


async def test_a_partial_continues_though_a_file_waits():
    async with Guessing() as guessing:
        assert guessing.worker.queue.try_put(new_job(guessing.settle, lane=Lane.FILE)) is None
        assert not guessing.worker._should_abort(guessing.partial, math.inf)


async def test_no_other_partial_is_taken_while_one_is_in_hand():
    async with Guessing() as guessing:
        second = new_job(guessing.settle, lane=Lane.PARTIAL)

        assert guessing.worker.queue.try_put(second) is second


async def test_a_partial_is_no_work_that_counts():
    async with Guessing() as guessing:
        in_hand_s = guessing.worker.busy_s
        places, rtf = guessing.worker.queue.capacity, guessing.worker.capacity.rtf
        for _ in range(7):
            slow = new_job(lambda *_: None, lane=Lane.PARTIAL)
            slow.started_s, slow.finished_s = 100.0, 110.0
            guessing.worker._settle(slow, said("gale"))

    assert in_hand_s == guessing.worker.busy_s == guessing.busy_s
    assert (guessing.worker.queue.capacity, guessing.worker.capacity.rtf) == (places, rtf)


async def test_a_running_partial_gives_way_at_close_and_is_settled():
    async with Guessing() as guessing:
        pass

    assert isinstance(guessing.outcomes[guessing.partial], EngineError)


async def test_a_doubtful_partial_is_not_asked_again_but_held_back():
    outcome, asked = await outcome_of(
        ScriptedModel(), said("the the", "repetition"), said("the tide"), lane=Lane.PARTIAL
    )

    assert (outcome.text, outcome.suppressed, asked) == ("", "repetition", ["usual"])


class Away(ScriptedModel):
    """A model in another process, as its worker sees it: away as long as the test says."""

    restarts = 3
    late = False

    def __init__(self):
        super().__init__()
        self.back = threading.Event()
        self.back.set()
        self.on_failure = self.failure = None

    def wait(self, should_stop):
        if self.failure:
            raise self.failure
        while not (self.back.wait(0.01) or should_stop()):
            pass


async def away_worker():
    """A worker whose model has just gone away, and a job that waits for it."""
    model, outcomes = Away(), []
    worker = Worker("whisper-test", lambda: model, duration_s=5.0, max_latency_s=20.0, capacity_for=lambda _: 1)
    await worker.ready
    await until(lambda: worker.queue.idle, "a worker that waits")
    model.back.clear()
    for number in range(2):  # the first one is taken by the worker that waits already
        assert worker.queue.try_put(new_job(lambda _, outcome: outcomes.append(outcome))) is None
        await until(lambda number=number: len(outcomes) == 1 or number, "the first answer")
    return worker, model, outcomes


async def test_while_the_process_of_its_model_is_away_jobs_wait_in_the_queue_which_refuses_more():
    worker, model, outcomes = await away_worker()

    late = new_job(lambda *_: None)
    assert worker.queue.try_put(late) is late
    assert (len(outcomes), worker.queue.depth, worker.queue.idle) == (1, 1, False)
    assert (worker.healthy, worker.restarts) == (True, 3)
    model.late = True
    assert not worker.healthy
    model.back.set()
    await until(lambda: len(outcomes) == 2, "the second answer")
    worker.queue.close()
    await worker.finished


async def test_a_stop_does_not_wait_for_a_process_that_is_away():
    worker, _, _ = await away_worker()

    worker.queue.close()
    assert len(worker.cancel()) == 1
    await worker.finished


async def test_a_process_that_cannot_be_started_again_ends_its_worker_though_it_idles():
    worker, model, _ = await away_worker()
    assert not worker.crashed

    threading.Thread(target=model.on_failure, args=(RuntimeError("the model cannot be started again"),)).start()
    with pytest.raises(RuntimeError, match="cannot be started again"):
        await worker.finished
    assert worker.crashed
    worker.queue.close()
    model.back.set()  # and its thread ends


async def test_a_drained_worker_ends_though_the_process_of_its_model_is_away():
    worker, model, outcomes = await away_worker()
    worker.queue.close()
    assert not worker.queue.drained

    worker.queue.clear()
    await asyncio.wait_for(worker.finished, PATIENCE_S)
    assert not model.back.is_set()
    assert len(outcomes) == 1


async def test_the_time_in_which_the_process_of_its_model_is_away_is_no_jobs():
    model, outcomes = Away(), []
    worker = Worker("whisper-test", lambda: model, duration_s=5.0, max_latency_s=20.0, capacity_for=lambda _: 1)
    await worker.ready
    await until(lambda: worker.queue.idle, "a worker that waits")
    model.back.clear()
    worker.queue.try_put(new_job(lambda _, outcome: outcomes.append(outcome), lane=Lane.FILE))
    await until(lambda: outcomes, "the answer")

    await until(lambda: not worker.queue.idle, "a worker with nothing in hand")
    model.back.set()
    worker.queue.close()
    await worker.finished


async def test_a_job_that_has_its_outcome_gets_no_other_when_the_process_cannot_be_started_again():
    model, outcomes = Away(), []
    worker = Worker("whisper-test", lambda: model, duration_s=5.0, max_latency_s=20.0, capacity_for=lambda _: 1)
    await worker.ready
    await until(lambda: worker.queue.idle, "a worker that waits")
    model.failure = RuntimeError("the model cannot be started again")
    worker.queue.try_put(new_job(lambda _, outcome: outcomes.append(outcome)))

    with pytest.raises(RuntimeError, match="cannot be started again"):
        await worker.finished
    assert [outcome.text for outcome in outcomes] == ["warm"]
