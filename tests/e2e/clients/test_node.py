"""npm's openai against the gateway, and @nats-io/transport-node straight on NATS."""

import pytest
import trustme

from tests.support.clip_requests import wav
from tests.support.gateway import GatewayProcess
from tests.support.vendors import assert_spoken, documented, needs_node, node, speech

pytestmark = needs_node

RATE = 24_000
PREFIX = "conversation.item.input_audio_transcription."


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Speech on one channel, on two of which the other is half a second later, and as bare samples."""
    folder = tmp_path_factory.mktemp("speech")
    spoken, later = speech(RATE), bytes(RATE)
    both = b"".join(a + b for a, b in zip(frames(spoken + later), frames(later + spoken), strict=True))
    contents = {"mono.wav": wav(spoken, RATE), "stereo.wav": wav(both, RATE, 2), "24k.pcm": spoken}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in contents]


def frames(pcm):
    return (pcm[at : at + 2] for at in range(0, len(pcm), 2))


@pytest.fixture(scope="module")
def openai(broker_url, files, tmp_path_factory):
    """What npm's openai got; over TLS, as its Realtime client knows no other."""
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    ours = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    ours.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    ours.private_key_pem.write_to_path(folder / "key.pem")
    tls = {"GATEWAY_TLS_CERT": folder / "cert.pem", "GATEWAY_TLS_KEY": folder / "key.pem"}
    with GatewayProcess(broker_url, **tls) as gateway:
        client = documented("new OpenAI(", gateway.url).replace("http:", "https:")
        realtime = documented("new OpenAIRealtimeWS(", gateway.url)
        return node("openai.mjs", *files, CLIENT=client, REALTIME=realtime, NODE_EXTRA_CA_CERTS=str(folder / "ca.pem"))


@pytest.fixture(scope="module")
def nats(broker_url, files):
    mono, _, pcm = files
    return node("nats.mjs", mono, pcm, CONNECT=documented("connect(", broker_url))


def test_all_formats(openai):
    formats = openai["formats"]

    assert openai["models"] == ["demo"]
    for text in formats["json"]["text"], formats["text"], formats["verbose_json"]["text"]:
        assert_spoken(text)
    assert formats["json"]["usage"] == {"type": "duration", "seconds": pytest.approx(6, abs=0.01)}
    assert formats["srt"].startswith("1\n00:00:0")
    assert formats["vtt"].startswith("WEBVTT\n")
    assert_spoken(" ".join(segment["text"] for segment in formats["verbose_json"]["segments"]))
    assert_spoken(" ".join(word["word"] for word in formats["words"]["words"]))
    assert {segment["speaker"] for segment in formats["diarized_json"]["segments"]} == {"0", "1"}


def test_a_stream_of_events(openai):
    *deltas, done = openai["stream"]

    assert {delta["type"] for delta in deltas} == {"transcript.text.delta"}
    assert done["type"] == "transcript.text.done"
    assert_spoken("".join(delta["delta"] for delta in deltas))


def test_errors_are_those_of_the_client(openai):
    assert openai["temperature"] == {
        "name": "BadRequestError", "status": 400, "param": "temperature", "code": "unsupported_parameter",
    }  # fmt: skip
    assert openai["model"] == {"name": "NotFoundError", "status": 404, "param": "model", "code": "model_not_found"}


def test_realtime_goes_on_after_an_error(openai):
    events = openai["realtime"]

    assert [event["param"] for event in events if event["type"] == "error"] == [
        "session.audio.input.turn_detection.type"
    ]
    assert [event["type"] for event in events if event["type"].startswith("session")] == [
        "session.created",
        "session.updated",
    ]
    assert_spoken(next(event["transcript"] for event in events if event["type"] == PREFIX + "completed"))


def test_audio_published_from_node_becomes_text(nats):
    messages = nats["live"]

    assert (messages[0]["type"], messages[0]["state"]) == ("status", "started")
    assert_spoken(" ".join(message["text"] for message in messages if message["type"] == "final"))
    assert sum(message["frames"] for message in messages if message["type"] in {"final", "silence", "gap"}) == 6 * RATE


def test_a_request_from_node_is_answered_with_its_text_or_why_not(nats):
    assert_spoken(nats["clip"]["text"])
    assert nats["refused"]["code"] == "400"
    assert nats["refused"]["error"]
