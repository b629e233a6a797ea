"""LiveKit's OpenAI plugin against the gateway: clips by HTTP, and streams by the Realtime interface."""

import asyncio
from contextlib import asynccontextmanager
from importlib import import_module

import pytest

from tests.support.vendors import MOST, PAUSE_S, SPOKEN_S, as_documented, assert_spoken, needs, speech, words
from tests.support.waiting import PATIENCE_S

pytestmark = needs("livekit", "livekit")

RATE = 24_000
SENTENCES = [speech(RATE, 0, PAUSE_S, quiet_s=1.5), speech(RATE, PAUSE_S, SPOKEN_S, quiet_s=1.5)]
PAYLOAD = RATE // 50 * 2


def livekit(module):
    return import_module(f"livekit.{module}")


@asynccontextmanager
async def service(gateway, **options):
    http = livekit("agents").utils.http_context
    async with http.open():
        stt = as_documented(livekit("plugins.openai").STT, gateway, **options)
        try:
            yield stt
        finally:
            await stt.aclose()
            await stt._client.close()


def frame(pcm):
    return livekit("rtc").AudioFrame(pcm, RATE, 1, len(pcm) // 2)


@pytest.mark.parametrize(
    "options",
    [{}, {"model": "whisper-1"}, {"model": "gpt-transcribe", "keywords": ["knots"], "prompt": "weather at sea"}],
    ids=["defaults", "verbose", "hints"],
)
async def test_clips(gateway, options):
    async with service(gateway, **options) as stt:
        event = await stt.recognize([frame(speech(RATE))])

    assert_spoken(event.alternatives[0].text)
    assert event.alternatives[0].language == "en"


def speak(stream, pcm):
    for at in range(0, len(pcm), PAYLOAD):
        stream.push_frame(frame(pcm[at : at + PAYLOAD]))


@pytest.mark.parametrize("options", [{"use_realtime": True}, {"model": "gpt-realtime-whisper"}], ids=["server", "own"])
async def test_streams(gateway, options):
    """The gateway finds where speech ends, or LiveKit's own detector does, and commits."""
    kinds, text, sentences = [], "", iter(SENTENCES)
    async with service(gateway, **options) as stt:
        stream = stt.stream()
        async with asyncio.timeout(PATIENCE_S), stream:
            speak(stream, next(sentences))
            async for event in stream:
                kinds.append(event.type.name)
                if kinds[-1] == "END_OF_SPEECH":
                    speak(stream, next(sentences, b""))
                if kinds[-1] == "FINAL_TRANSCRIPT":
                    text = f"{text} {event.alternatives[0].text}"
                    if len(words(text)) >= MOST:
                        break

    assert_spoken(text)
    assert kinds.index("START_OF_SPEECH") < kinds.index("END_OF_SPEECH")
    assert "INTERIM_TRANSCRIPT" in kinds


async def test_what_is_not_supported_is_an_error_that_says_so(gateway):
    agents = livekit("agents")
    async with service(gateway, temperature=0.4) as stt:
        with pytest.raises(agents.APIStatusError) as refused:
            await stt.recognize([frame(speech(RATE))], conn_options=agents.APIConnectOptions(max_retry=0))
    assert "temperature: only 0 is supported" in refused.value.message

    async with (
        service(gateway, use_realtime=True, turn_detection={"silence_duration_ms": 900}) as stt,
        stt.stream() as stream,
    ):
        with pytest.raises(agents.APIError) as denied:
            async for _ in stream:
                pass
    assert "speech ends after 500 ms of silence" in denied.value.message
