"""OpenAI's own client against a gateway, a broker and a daemon with the bundled model."""

import asyncio
import re
from typing import Any

import httpx
import nats
import openai
import pytest

from tests.support import clip_requests
from tests.support.clip_requests import text, wav
from tests.support.durable_streams import provisioned
from tests.support.gateway import GatewayProcess
from tests.support.openapi import Document
from tests.support.waiting import PATIENCE_S, until
from transcriber.bus.client_session import connected
from transcriber.bus.jetstream.client import JetStream
from transcriber.bus.jetstream.file_streams import FILES_BUCKET
from transcriber.bus.object_store.bucket import Bucket
from transcriber.clients.jobs_api import Jobs
from transcriber.config import load_settings
from transcriber.gateway.keys import new_key
from transcriber.testing.broker import EmbeddedBroker
from transcriber.testing.daemon import DaemonProcess
from transcriber.testing.speech import load_speech

RATE = 48_000
SPEECH = load_speech()[0]
CLIP_S = 4
PCM = SPEECH.pcm[: 2 * RATE * CLIP_S]
CLIP = wav(PCM, rate=RATE)
LONG = wav(SPEECH.pcm[: 2 * RATE * (CLIP_S + 4)], rate=RATE)
LONGER = wav(3 * b"".join(one.pcm for one in load_speech()), rate=RATE)
"""Three minutes: a job that is not done at once."""

MAX_PAYLOAD = 2**19
"""Of the broker: the clip fits into a message, what is longer does not."""

KEY, ENTRY = new_key("studio")
LISTENER, LISTENER_ENTRY = new_key("listener")
HURRIED, HURRIED_ENTRY = new_key("hurried")


PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def words(text):
    return re.findall(r"[a-z]+", text.lower())


@pytest.fixture(scope="module")
def said(gateway):
    """What the daemon answers to a bare request."""

    async def ask():
        client = await nats.connect(gateway.broker.url)
        try:
            return words(text(await clip_requests.ask(client, CLIP)))
        finally:
            await client.close()

    found = asyncio.run(ask())
    assert len(found) > 4
    assert found[:4] == words(SPEECH.text)[:4]
    return found


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gateway")
    keys = folder / "keys.toml"
    listens = LISTENER_ENTRY.replace('"listen", "publish", "transcribe"', '"listen"')
    keys.write_text(ENTRY + listens + HURRIED_ENTRY + "requests_per_minute = 1\n")
    with EmbeddedBroker("--config", str(_small_messages(folder)), store=folder / "store") as broker:
        asyncio.run(provisioned(broker, files=True))
        with DaemonProcess(broker.url, FILES="1") as daemon:
            assert asyncio.run(daemon.ready()), daemon.log()
            with GatewayProcess(
                broker.url, GATEWAY_KEYS_FILE=keys, GATEWAY_ORIGINS="https://captions.example"
            ) as running:
                running.broker = broker
                yield running


def _small_messages(folder):
    path = folder / "nats.conf"
    path.write_text(f"max_payload: {MAX_PAYLOAD}\n")
    return path


@pytest.fixture
def client(gateway):
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=KEY, max_retries=0) as client:
        yield client


def transcribe(client, audio=CLIP, **options):
    return client.audio.transcriptions.create(**{"file": ("gale.wav", audio), "model": "whisper-1"} | options)


def test_json_has_the_text_and_its_duration(client, said):
    answer = transcribe(client)

    assert words(answer.text) == said
    assert answer.usage.type == "duration"
    assert answer.usage.seconds == pytest.approx(CLIP_S, abs=0.01)


def test_text_and_subtitles_are_plain_bodies(client, said):
    assert words(transcribe(client, response_format="text")) == said
    assert transcribe(client, response_format="vtt").startswith("WEBVTT\n")
    assert re.match(r"1\n00:00:0\d,\d{3} --> ", transcribe(client, response_format="srt"))


def test_verbose_json_has_segments_or_words_as_asked_for(client, said):
    plain = transcribe(client, response_format="verbose_json")
    with_words = transcribe(
        client, response_format="verbose_json", timestamp_granularities=["word"], language="en", temperature=0
    )

    assert words("".join(segment.text for segment in plain.segments)) == said
    assert plain.words is None
    assert [words(word.word)[0] for word in with_words.words] == said
    assert with_words.segments is None
    assert with_words.words[0].start < with_words.words[-1].end <= with_words.duration
    assert all(segment.compression_ratio > 0 for segment in plain.segments)


def test_a_stream_appends_and_ends_with_the_whole_text(client, said):
    for audio in (CLIP, LONG):
        *deltas, last = transcribe(client, audio, stream=True)

        assert {event.type for event in deltas} == {"transcript.text.delta"}
        assert last.type == "transcript.text.done"
        assert "".join(event.delta for event in deltas) == last.text
        assert words(last.text)[:4] == said[:4]


def test_a_stream_of_a_verbose_json_ends_with_all_of_it(client):
    for audio in (CLIP, LONG):
        whole = transcribe(client, audio, response_format="verbose_json")
        *_, last = transcribe(client, audio, response_format="verbose_json", stream=True)

        assert last.type == "transcript.text.done"
        assert last.text == whole.text
        assert last.segments == [segment.model_dump() for segment in whole.segments]
        assert (last.duration, last.gaps) == (whole.duration, [])


def test_what_is_too_large_for_a_request_is_an_urgent_job(gateway, client, said):
    raw = client.audio.transcriptions.with_raw_response.create(
        file=("long.wav", LONG), model="demo", extra_headers={"traceparent": PARENT}
    )
    subtitles = transcribe(client, LONG, response_format="srt")
    job = raw.headers["X-Transcriber-Job"]
    record = httpx.get(f"{gateway.url}/v1/jobs/{job}", headers={"Authorization": f"Bearer {KEY}"}).json()

    assert (record["submission"]["job"], record["urgent"], record["traceparent"]) == (job, True, PARENT)
    assert words(raw.parse().text)[:4] == said[:4]
    assert subtitles.count(" --> ") >= 1


def test_speakers_are_told_apart_by_channels(client):
    stereo = wav(_both_channels(PCM), rate=RATE, channels=2)
    options = {"response_format": "diarized_json", "extra_body": {"speakers": "channels"}, "chunking_strategy": "auto"}

    answer = transcribe(client, stereo, **options)
    *events, last = transcribe(client, stereo, stream=True, **options)

    assert {segment.speaker for segment in answer.segments} == {"0", "1"}
    assert [event.type for event in events] == ["transcript.text.segment"] * len(answer.segments)
    assert last.type == "transcript.text.done"


def _both_channels(pcm):
    """The recording on the first channel, and half a second later on the other."""
    later = b"\0\0" * (RATE // 2)
    left, right = pcm + later, later + pcm
    return b"".join(left[at : at + 2] + right[at : at + 2] for at in range(0, len(left), 2))


def test_models_are_listed_under_their_names(client):
    assert [model.id for model in client.models.list()] == ["demo"]
    assert client.models.retrieve("whisper-1").id == "demo"
    with pytest.raises(openai.NotFoundError) as refused:
        client.models.retrieve("large-v3")
    assert refused.value.param == "model"


@pytest.mark.parametrize(
    ("param", "options"),
    [
        ("temperature", {"temperature": 0.4}),
        ("include", {"include": ["logprobs"]}),
        ("known_speaker_names", {"known_speaker_names": ["Ann"]}),
        ("languages", {"languages": ["en", "de"]}),
        ("chunking_strategy", {"chunking_strategy": {"type": "server_vad"}}),
        ("response_format", {"response_format": "srt", "stream": True}),
        ("timestamp_granularities", {"timestamp_granularities": ["word"]}),
        ("language", {"language": "what you hear"}),
        ("language", {"language": "de"}),
        ("prompt", {"prompt": "x" * 1001}),
        ("model", {"model": ""}),
        ("file", {"file": ("empty.wav", b"")}),
    ],
)
def test_what_is_not_supported_is_refused_by_its_name(client, param, options):
    with pytest.raises(openai.BadRequestError) as refused:
        transcribe(client, **options)

    assert refused.value.param == param


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # the client's, of translations
def test_other_errors_have_the_status_that_the_client_knows(gateway, client):
    with pytest.raises(openai.NotFoundError) as unknown:
        transcribe(client, model="large-v3")
    with pytest.raises(openai.BadRequestError):
        transcribe(client, b"no audio at all, but long enough to look at")
    with pytest.raises(openai.BadRequestError):
        client.audio.translations.create(file=("gale.wav", CLIP), model="whisper-1")
    for key, error in (("wrong", openai.AuthenticationError), (LISTENER, openai.PermissionDeniedError)):
        with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=0) as other, pytest.raises(error):
            transcribe(other)
    assert unknown.value.param == "model"
    assert unknown.value.request_id


def test_a_key_with_a_limit_is_refused_with_the_time_to_wait(gateway):
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=HURRIED, max_retries=0) as hurried:
        hurried.models.list()
        with pytest.raises(openai.RateLimitError) as refused:
            hurried.models.list()

    assert 0 < int(refused.value.response.headers["Retry-After"]) <= 60


async def test_the_asynchronous_client_does_the_same(gateway, said):
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=KEY) as client:
        one, other = await asyncio.gather(
            client.audio.transcriptions.create(file=("gale.wav", CLIP), model="gpt-4o-transcribe"),
            client.audio.transcriptions.create(file=("gale.wav", CLIP), model="demo", stream=True),
        )
        events = [event async for event in other]

    assert words(one.text) == words(getattr(events[-1], "text", "")) == said


async def test_a_client_that_leaves_cancels_its_job(gateway):
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {KEY}"}) as client:
        form: dict[str, Any] = {"data": {"model": "demo", "stream": "true"}, "files": {"file": ("long.wav", LONGER)}}
        async with client.stream("POST", f"{gateway.url}/v1/audio/transcriptions", **form) as response:
            job = response.headers["X-Transcriber-Job"]

    settings = load_settings(nats_url=gateway.broker.url)
    async with connected(settings, "test") as connection:
        jobs = Jobs(connection, settings)
        async with jobs.watch(job, lambda *_: None) as watch:
            record = await watch.record()
    assert record.state == "cancelled"
    assert record.submission.by == "gateway:studio"


async def test_a_file_that_is_no_audio_fails_and_is_not_kept(gateway, client):
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        transcribe(client, b"rubbish" * MAX_PAYLOAD)
    job = re.findall(r"job=\w+", str(caught.value))

    settings = load_settings(nats_url=gateway.broker.url)
    async with connected(settings, "test") as connection:
        record = await Jobs(connection, settings).record(job[0])
        assert record is not None
        assert record.state == "failed"
        assert await Bucket(JetStream(connection), FILES_BUCKET).info(record.submission.object) is None


async def test_no_line_of_the_log_has_text(gateway, client):
    before = len(gateway.requests())
    transcribe(client, prompt="a secret word", extra_headers={"X-Request-ID": "mine-1"})
    await until(lambda: len(gateway.requests()) > before)

    line = gateway.requests()[-1]
    assert (line["route"], line["status"], line["key"]) == ("/v1/audio/transcriptions", 200, "studio")
    assert line["request_id"] == "mine-1"
    assert not any("secret" in str(one) or SPEECH.text[:10] in str(one) for one in gateway.lines)


def test_every_form_of_an_answer_is_as_the_openapi_document_says(gateway):
    with httpx.Client(base_url=gateway.url, timeout=PATIENCE_S, headers={"Authorization": f"Bearer {KEY}"}) as client:
        document = Document(client.get("/openapi.json").json())
        forms: list[dict[str, Any]] = [
            {"response_format": form} for form in ("json", "text", "srt", "vtt", "verbose_json", "diarized_json")
        ]
        words: dict[str, Any] = {"response_format": "verbose_json", "timestamp_granularities[]": ["word", "segment"]}
        for form in (*forms, words, {"stream": "true"}, {"language": "xx"}):
            answer = client.post(
                "/v1/audio/transcriptions", data={"model": "whisper-1"} | form, files={"file": ("gale.wav", CLIP)}
            )
            assert answer.status_code == (400 if form.get("language") else 200), answer.text
            document.check(answer)
        for path in ("/v1/models", "/v1/models/whisper-1", "/v1/jobs", "/v1/models/none", "/v1/jobs/none"):
            document.check(client.get(path))
