"""Traces of the gateway's clients, to the spans of the daemon that does what they ask, as a real OTLP receiver gets them."""

import base64
import json

import httpx
import pytest
from websockets.asyncio.client import connect

from tests.e2e.gateway.test_streams import AUDIO, audio_url, broker, received
from tests.support.clip_requests import clip
from tests.support.daemon import Daemon
from tests.support.durable_streams import ENV, provisioned, until_ended
from tests.support.file_jobs import file_client, stepped_levels, wav
from tests.support.gateway import GatewayProcess
from tests.support.otlp_receiver import grpc_receiver
from tests.support.waiting import PATIENCE_S

__all__ = ["broker"]

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"
TRACED = {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_METRICS_EXPORTER": "none"}


def _traced_gateway(broker, url):
    return GatewayProcess(broker.url, **TRACED, OTEL_EXPORTER_OTLP_ENDPOINT=url)


def spans_named(receiver, start):
    """The spans whose name starts so, of all that was received."""
    spans = []
    while not receiver.traces.empty():
        request = receiver.traces.get()
        spans += [span for r in request.resource_spans for s in r.scope_spans for span in s.spans]
    return [span for span in spans if span.name.startswith(start)]


@pytest.mark.parametrize("stored", [False, True], ids=["live", "durable"])
async def test_windows_of_an_audio_socket_continue_its_trace(broker, tmp_path, publisher, listener, stored):
    if stored:
        await provisioned(broker)
    with grpc_receiver() as (receiver, url), GatewayProcess(broker.url) as gateway:
        env = ENV if stored else {"BUFFER_DURATION_SECS": 0.5}
        async with Daemon(broker.url, tmp_path, **env, **TRACED, OTEL_EXPORTER_OTLP_ENDPOINT=url) as daemon:
            async with connect(audio_url(gateway), additional_headers={"traceparent": PARENT}) as socket:
                await received(socket, "session")
                await socket.send(AUDIO)
                await socket.send('{"type": "end"}')
                await listener.ends(1)
            if stored:
                await until_ended(publisher)
            await daemon.stop()
        lines = gateway.requests()
        windows = spans_named(receiver, "process audio.")

    assert len(windows) == 8
    assert {window.trace_id.hex() for window in windows} == {TRACE}
    assert {window.parent_span_id.hex() for window in windows} == {PARENT.split("-")[2]}
    assert {trace.split("-")[1] for trace in listener.traceparents} == {TRACE}
    assert [line["trace_id"] for line in lines] == [TRACE]


async def test_clips_and_jobs_continue_the_trace_of_their_request_or_begin_one_that_the_log_names(broker, tmp_path):
    async with file_client(broker) as office:
        with grpc_receiver() as (receiver, url), _traced_gateway(broker, url) as gateway:
            env = {"FILES": 1, "FILE_WINDOW_SECS": 10, **TRACED, "OTEL_EXPORTER_OTLP_ENDPOINT": url}
            async with Daemon(broker.url, tmp_path, **env) as daemon:
                async with httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE_S) as client:
                    for data in (clip(321), wav(stepped_levels(40))):
                        for headers in ({"traceparent": PARENT}, {}):
                            form = {"model": "whisper-1"}
                            answer = await client.post(
                                "/v1/audio/transcriptions", data=form, files={"file": ("a.wav", data)}, headers=headers
                            )
                            assert answer.status_code == 200, answer.text
                audio = await office.client.subscribe("audio.*")
                realtime = f"{gateway.websocket_url}/v1/realtime?intent=transcription"
                async with connect(realtime, additional_headers={"traceparent": PARENT}) as socket:
                    sent = base64.b64encode(bytes(4800)).decode()
                    await socket.send(json.dumps({"type": "input_audio_buffer.append", "audio": sent}))
                    _, payload = [await audio.next_msg(timeout=PATIENCE_S) for _ in range(2)]  # first, who listens
                direct = await office.submit(wav(stepped_levels(4)), headers={"traceparent": PARENT})
                await office.over(direct)
                await daemon.stop()
            lines = [line["trace_id"] for line in gateway.requests() if line["method"] == "POST"]
            spans = spans_named(receiver, "process transcriber.")

    assert payload.headers["traceparent"].split("-")[1] == TRACE
    assert lines[0] == lines[2] == TRACE
    assert len({TRACE, lines[1], lines[3]}) == 3
    found = {(span.name.removeprefix("process "), span.trace_id.hex()) for span in spans}
    assert found == {
        *(("transcriber.transcribe", trace) for trace in lines[:2]),
        *(("transcriber.jobs.urgent.{job}", trace) for trace in lines[2:]),
        ("transcriber.jobs.{job}", TRACE),
    }
