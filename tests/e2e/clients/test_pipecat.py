"""Pipecat's OpenAI services against the gateway, in a pipeline with its own detector of speech, as its users build one."""

import asyncio
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any

import openai
import pytest

from tests.support.vendors import MOST, as_documented, assert_spoken, needs, speech, words
from tests.support.waiting import PATIENCE_S

pytestmark = [
    needs("pipecat", "pipecat"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # Pipecat's own
]

RATE = 16_000
AUDIO = speech(RATE, quiet_s=2)
PAYLOAD_S = 0.02
PAYLOAD = 2 * round(PAYLOAD_S * RATE)


def pipecat(module):
    return import_module(f"pipecat.{module}")


@asynccontextmanager
async def pipeline(service, *, detects=True):
    """A queue of the frames that the service makes of the speech; ``detects``: what is speech is found before the service."""
    made: asyncio.Queue[Any] = asyncio.Queue()

    class Ear(pipecat("processors.frame_processor").FrameProcessor):  # type: ignore[misc]
        async def process_frame(self, frame, direction):
            await super().process_frame(frame, direction)
            made.put_nowait(frame)
            await self.push_frame(frame, direction)

    parts = [Ear(), service, Ear()]  # the first hears errors, which go up
    if detects:
        analyzer = pipecat("audio.vad.silero").SileroVADAnalyzer()
        parts.insert(0, pipecat("processors.audio.vad_processor").VADProcessor(vad_analyzer=analyzer))
    worker = pipecat("pipeline.worker").PipelineWorker(
        pipecat("pipeline.pipeline").Pipeline(parts),
        params=pipecat("pipeline.worker").PipelineParams(audio_in_sample_rate=RATE),
        enable_rtvi=False,
    )
    runner = pipecat("workers.runner").WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    running = asyncio.create_task(runner.run())
    speaking = asyncio.create_task(speak(worker))
    try:
        yield made
    finally:
        speaking.cancel()
        await worker.queue_frame(pipecat("frames.frames").EndFrame())
        await running


async def speak(worker):
    """The speech at once, and then silence at its pace, as a microphone goes on."""
    frame = pipecat("frames.frames").InputAudioRawFrame
    for at in range(0, len(AUDIO), PAYLOAD):
        await worker.queue_frame(frame(AUDIO[at : at + PAYLOAD], RATE, 1))
    while True:
        await asyncio.sleep(PAYLOAD_S)
        await worker.queue_frame(frame(bytes(PAYLOAD), RATE, 1))


async def hear(made):
    """Names of the frames up to the text's last words, and the text."""
    names, text = [], ""
    async with asyncio.timeout(PATIENCE_S):
        while len(words(text)) < MOST:
            frame = await made.get()
            names.append(type(frame).__name__)
            assert names[-1] != "ErrorFrame", frame
            if names[-1] == "TranscriptionFrame":
                text = f"{text} {frame.text}"
    return names, text


async def test_the_service_for_segments_works_with_its_defaults(gateway):
    async with openai.DefaultAsyncHttpxClient() as http:  # it leaves its own one open
        service = as_documented(pipecat("services.openai.stt").OpenAISTTService, gateway, http_client=http)
        async with pipeline(service) as made:
            _, text = await hear(made)

    assert_spoken(text)


async def test_the_realtime_service_commits_what_its_own_detector_finds(gateway):
    service = as_documented(pipecat("services.openai.stt").OpenAIRealtimeSTTService, gateway)
    async with pipeline(service) as made:
        names, text = await hear(made)

    assert_spoken(text)
    assert "InterimTranscriptionFrame" in names
    assert not any(name.startswith("Proposed") for name in names)


async def test_with_server_vad_the_gateway_says_when_somebody_speaks(gateway):
    made_by = pipecat("services.openai.stt").OpenAIRealtimeSTTService
    settings = made_by.Settings(model="gpt-transcribe")
    service = as_documented(made_by, gateway, turn_detection={"type": "server_vad"}, settings=settings)
    async with pipeline(service, detects=False) as made:
        names, text = await hear(made)

    assert_spoken(text)
    began, ended = (names.index(f"ProposedUser{did}SpeakingFrame") for did in ("Started", "Stopped"))
    assert began < ended


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"noise_reduction": "near_field"}, "there is no noise reduction: send null"),
        ({"model": "large-v9"}, "no model of that name is loaded; there is demo, whisper-1"),
    ],
)
async def test_what_is_not_supported_is_an_error_that_says_so(gateway, changes, says):
    made_by = pipecat("services.openai.stt").OpenAIRealtimeSTTService
    service = as_documented(made_by, gateway, settings=made_by.Settings(**changes))
    async with pipeline(service) as made, asyncio.timeout(PATIENCE_S):
        while says not in getattr(await made.get(), "error", ""):  # others say that it connects again
            pass
