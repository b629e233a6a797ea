"""A speculative transcript answers the final with the same inputs; any other final is transcribed itself."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from tests.support.waiting import until
from transcriber.engine.job import Job, Lane
from transcriber.engine.job_queue import JobQueue
from transcriber.engine.language_evidence import LanguageEvidence
from transcriber.engine.prompt import SpeakerHistory, SpeakerPrompt
from transcriber.engine.speculation import SpeculativeAnswer
from transcriber.engine.transcript import Transcript
from transcriber.engine.worker import Worker
from transcriber.errors import EngineError

SAMPLES = np.linspace(-1, 1, 8_000, dtype=np.float32)
TRAIL = SpeakerHistory()
ANSWER = Transcript("gale warning", (), "en", -0.1, None, 0.5)


def job(samples=SAMPLES, **fields):
    return Job("a", samples, "en", lambda *_: None, **fields)


def asked_ahead(**fields):
    ahead = SpeculativeAnswer()
    ahead.begin(job(lane=Lane.PARTIAL, speculative=True, **fields))
    return ahead


def answered(**fields):
    ahead = asked_ahead(**fields)
    ahead.store(ANSWER)
    return ahead


def test_who_asks_the_same_has_the_answer_and_only_one_has_it():
    ahead = answered()

    assert ahead.take(job(SAMPLES.copy())) is ANSWER
    assert ahead.take(job()) is None


def test_what_was_not_answered_is_no_answer():
    assert SpeculativeAnswer().take(job()) is None
    assert asked_ahead().take(job()) is None


@pytest.mark.parametrize(
    "other",
    [
        job(SAMPLES[:-1]),
        job(-SAMPLES),
        job(lead_s=0.1),
        job(vocabulary="Skagerrak"),
        job(translate=True),
        job(speech_s=0.4),
        job(speech_prob=0.9),
        replace(job(), stream="b"),
        replace(job(), language="de"),
        job(history=SpeakerHistory(language="de")),
    ],
    ids=["shorter", "other", "lead", "vocabulary", "translate", "speech", "likely", "stream", "language", "history"],
)
def test_who_asks_something_else_has_it_not(other):
    assert answered().take(other) is None


def test_what_was_said_in_between_makes_it_another_question():
    history, context = SpeakerHistory(spoken=LanguageEvidence("en")), SpeakerPrompt()
    same, other_trail, other_context = (answered(history=history, prompt=context) for _ in range(3))
    asks = job(history=history, prompt=context)

    assert same.take(asks) is ANSWER
    history.record(None)
    assert other_trail.take(asks) is None
    history.record(ANSWER)
    context.record(ANSWER, context.epoch)
    assert other_context.take(asks) is None


def test_its_own_final_does_not_press_and_another_stream_does():
    queue, history = JobQueue(4), SpeakerHistory()
    ahead, guess = (job(lane=Lane.PARTIAL, history=history, speculative=ahead) for ahead in (True, False))

    assert queue.try_put(job(history=history)) is None
    assert (queue.must_yield(ahead), queue.must_yield(guess)) == (False, True)
    assert queue.try_put(replace(job(history=history), stream="b")) is None
    assert queue.must_yield(ahead)


@pytest.mark.parametrize(
    "other",
    [job(SAMPLES[:-1], history=TRAIL), job(history=SpeakerHistory())],
    ids=["the same window, longer", "another channel"],
)
def test_another_window_of_the_stream_presses(other):
    queue = JobQueue(4)

    assert queue.try_put(other) is None
    assert queue.must_yield(job(lane=Lane.PARTIAL, history=TRAIL, speculative=True))


class Held:
    """A model whose calls on ``SAMPLES`` wait for ``go``; it counts them."""

    name, tight, translates = "held", False, False

    def __init__(self):
        self.calls = 0
        self.go = False

    def supports(self, _language):
        return True

    def close(self):
        pass

    def transcribe(self, samples, language, should_abort, *, wide=False, prompt="", translate=False, greedy=False):
        if len(samples) == len(SAMPLES):
            self.calls += 1
            while not self.go:
                if should_abort():
                    raise EngineError("aborted", return_code=-6)
        return ANSWER


class Hearing:
    """A worker that transcribes a window speculatively, and the outcomes of its jobs."""

    def __init__(self):
        self.model = Held()
        self.outcomes = {}

    async def __aenter__(self):
        self.worker = Worker(
            "whisper-test", lambda: self.model, duration_s=5.0, max_latency_s=60.0, capacity_for=lambda _: 4
        )
        await self.worker.ready
        await until(lambda: self.worker.queue.idle, "a worker that waits")
        self.ahead = self.put(lane=Lane.PARTIAL, speculative=True)
        await until(lambda: self.model.calls == 1, "what is heard ahead")
        return self

    def put(self, samples=SAMPLES, stream="a", **fields):
        asked = Job(stream, samples, "en", self.outcomes.__setitem__, **fields)
        assert self.worker.queue.try_put(asked) is None
        return asked

    async def outcome(self, asked):
        return await until(lambda: self.outcomes.get(asked), "an outcome")

    async def __aexit__(self, *_):
        self.model.go = True
        self.worker.queue.close()
        await asyncio.wait_for(self.worker.finished, 10)


async def test_a_final_that_comes_meanwhile_waits_for_the_answer_and_asks_nobody():
    async with Hearing() as hearing:
        final = hearing.put(SAMPLES.copy())
        hearing.model.go = True

        assert await hearing.outcome(final) == ANSWER
        assert hearing.model.calls == 1
        assert hearing.outcomes[hearing.ahead] == ANSWER
        assert final.answered_speculatively
        # What it took says how fast the model is, and is work; that the final took no time is neither.
        took_s = hearing.ahead.finished_s - hearing.ahead.started_s
        assert list(hearing.worker.capacity._recent)[-1:] == [pytest.approx(took_s / 5.0)]
        assert hearing.worker.busy_s >= took_s


async def test_a_window_transcribed_ahead_gives_way_to_others_and_its_final_follows():
    async with Hearing() as hearing:
        other = hearing.put(SAMPLES[:100], stream="b")
        final = hearing.put()
        await hearing.outcome(other)
        hearing.model.go = True

        assert await hearing.outcome(final) == ANSWER
        assert hearing.model.calls == 2
        assert isinstance(hearing.outcomes[hearing.ahead], EngineError)
        assert not final.answered_speculatively


async def test_when_speech_resumes_the_window_is_transcribed_as_it_is_then():
    async with Hearing() as hearing:
        hearing.model.go = True
        await hearing.outcome(hearing.ahead)
        final = hearing.put(-SAMPLES)

        await hearing.outcome(final)
        assert hearing.model.calls == 2
