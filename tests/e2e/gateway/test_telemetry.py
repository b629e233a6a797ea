"""Metrics and spans of a gateway, as a real OTLP receiver gets them."""

import asyncio
import json
import time
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect

from tests.e2e.gateway.test_server import exchange, post
from tests.support.clip_requests import clip
from tests.support.daemon import Daemon
from tests.support.gateway import GatewayProcess
from tests.support.otlp_receiver import grpc_receiver, number, points
from tests.support.waiting import PATIENCE_S, settled
from transcriber.telemetry.instruments import BOUNDS_S, GATEWAY_INSTRUMENTS

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UPLOAD = "/v1/audio/transcriptions"
AUDIO = "/v1/streams/radio-7/audio?content_type=audio/x-raw;format=S16LE;rate=16000;channels=1"


def attributes(point):
    return {one.key: getattr(one.value, str(one.value.WhichOneof("value"))) for one in point.attributes}


def labelled(metric):
    """Values by the one attribute that varies."""
    return {
        next(value for name, value in attributes(point).items() if name != "url.scheme"): number(point)
        for point in points(metric)
    }


def spans_of(receiver):
    """All spans that have come."""
    found = []
    while not receiver.traces.empty():
        for resource in receiver.traces.get().resource_spans:
            found += [span for scope in resource.scope_spans for span in scope.spans]
    return found


def latest(receiver):
    """The last metrics that came."""
    found = {}
    while not receiver.metrics.empty():
        found = receiver.next_metrics()
    return found


def seen_open(receiver):
    """The kinds of connections that are open, once there are two."""
    until_s = time.monotonic() + PATIENCE_S
    opened: set[str] = set()
    while len(opened) < 2 and time.monotonic() < until_s:
        connections = labelled(receiver.next_metrics()["transcriber.gateway.connections"])
        opened = {kind for kind, count in connections.items() if count}
    return opened


async def test_metrics_of_requests_connections_and_refusals(broker):
    with (
        grpc_receiver() as (receiver, url),
        GatewayProcess(broker.url, OTEL_EXPORTER_OTLP_ENDPOINT=url, OTEL_METRIC_EXPORT_INTERVAL=100) as gateway,
    ):
        async with httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE_S) as client:
            for path in ("/v1/models", "/v1/nowhere", "/v1/elsewhere", "/livez"):
                await client.get(path)
            await client.get("/v1/models", headers={"Host": "evil.example"})
            await client.request("PROPFIND", "/v1/models")
            await asyncio.to_thread(exchange, gateway, post(b"", "application/json", 2**20 + 1, "/v1/tickets"))
            await asyncio.to_thread(exchange, gateway, b"GET / HTTP/1.1\r\nX: " + b"a" * 100_000)
            await client.post(UPLOAD, content=b"0123456789", headers={"Content-Type": "application/json"})
            async with connect(f"{gateway.websocket_url}{AUDIO}") as socket:
                await socket.recv()
                await socket.send(bytes(320))
                while json.loads(await socket.recv())["type"] != "position":
                    pass
                async with client.stream("GET", "/v1/streams/radio-7/transcript"):
                    assert await asyncio.to_thread(seen_open, receiver) == {"audio", "events"}
        assert gateway.stop() == 0
        metrics = latest(receiver)

    assert metrics.keys() == {instrument.name for instrument in GATEWAY_INSTRUMENTS}
    assert labelled(metrics["transcriber.gateway.connections"]) == dict.fromkeys(
        ("audio", "transcript", "realtime", "events"), 0
    )
    assert labelled(metrics["http.server.active_requests"]) == {"GET": 0, "POST": 0}
    assert not metrics["http.server.active_requests"].sum.is_monotonic
    refusals = {reason: count for reason, count in labelled(metrics["transcriber.gateway.refusals"]).items() if count}
    assert refusals == {"unserved": 1, "input": 4, "origin": 1, "size": 2}
    assert labelled(metrics["transcriber.gateway.received"]) == {
        "body": 0,
        "audio": 320,
        "transcript": 0,
        "realtime": 0,
    }
    assert metrics["transcriber.gateway.received"].unit == "By"
    duration = metrics["http.server.request.duration"]
    found = {
        (one["http.request.method"], one.get("http.route"), one["http.response.status_code"]): point.count
        for point in points(duration)
        if (one := attributes(point))["url.scheme"] == "http"
    }
    assert found == {
        ("GET", "/v1/models", 503): 1,
        ("GET", None, 404): 2,
        ("GET", "/v1/models", 403): 1,
        ("_OTHER", "/v1/models", 405): 1,
        ("POST", None, 413): 1,  # before it is routed
        ("POST", UPLOAD, 415): 1,
        ("GET", "/v1/streams/{stream}/audio", 101): 1,
        ("GET", "/v1/streams/{stream}/transcript", 200): 1,
    }
    assert (duration.unit, tuple(points(duration)[0].explicit_bounds)) == ("s", BOUNDS_S)
    assert {one["error.type"] for one in map(attributes, points(duration)) if "error.type" in one} == {"503"}


async def test_a_request_is_a_span_between_the_client_and_the_daemon(broker, tmp_path):
    with grpc_receiver() as (receiver, url):
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_TRACES_EXPORTER": "otlp", "OTEL_METRICS_EXPORTER": "none"}
        async with Daemon(broker.url, tmp_path, **env) as daemon:
            with GatewayProcess(broker.url, **env) as gateway:
                async with httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE_S) as client:
                    form: Any = {"data": {"model": "whisper-1"}, "files": {"file": clip(321)}}
                    told = await client.post(UPLOAD, **form, headers={"traceparent": PARENT, "X-Request-ID": "mine"})
                    untold = await client.post(UPLOAD, **form)
                    nowhere = await client.get("/v1/secret")
                assert (told.status_code, untold.status_code, nowhere.status_code) == (200, 200, 404), told.text
                assert gateway.stop() == 0
            await daemon.stop()
        spans = spans_of(receiver)

    given = {"trace": PARENT.split("-")[1], "span": PARENT.split("-")[2]}
    ours = [span for span in spans if span.name == f"POST {UPLOAD}"]
    theirs = {span.parent_span_id: span for span in spans if span.name == "process transcriber.transcribe"}
    assert [span.trace_id.hex() == given["trace"] for span in ours] == [True, False]
    assert [span.parent_span_id.hex() for span in ours] == [given["span"], ""]
    assert [theirs[span.span_id].trace_id for span in ours] == [span.trace_id for span in ours]
    assert attributes(ours[0]) == {
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "http.route": UPLOAD,
        "transcriber.request_id": "mine",
        "url.path": UPLOAD,
        "url.scheme": "http",
    }
    (lost,) = [span for span in spans if span.name == "GET"]
    assert "url.path" not in attributes(lost)


@pytest.mark.parametrize("traced", [False, True])
async def test_what_goes_to_the_bus_carries_a_trace_only_where_there_is_one(broker, publisher, traced):
    """And audio, whose session may last for weeks, only one of the client's."""
    heard: list[Any] = []

    async def answer(request):
        heard.append((request.headers or {}).get("traceparent"))
        await publisher.publish(request.reply, b'{"text": "", "segments": [], "duration": 1}', headers={"Gaps": "[]"})

    async def model(request):
        await publisher.publish(request.reply, b'{"metadata": {"model": "demo"}}')

    await publisher.subscribe("transcriber.transcribe", cb=answer)
    await publisher.subscribe("$SRV.INFO.transcriber", cb=model)
    audio = await publisher.subscribe("audio.radio-7")
    await settled(publisher)
    with grpc_receiver() as (_, url):
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_TRACES_EXPORTER": "otlp"} if traced else {}
        with GatewayProcess(broker.url, **env) as gateway:
            async with httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE_S) as client:
                form: Any = {"data": {"model": "demo", "response_format": "text"}, "files": {"file": clip(321)}}
                await client.post(UPLOAD, **form)
                await client.post(UPLOAD, **form, headers={"traceparent": PARENT})
            for headers in ({}, {"traceparent": PARENT}):
                async with connect(f"{gateway.websocket_url}{AUDIO}", additional_headers=headers) as socket:
                    await socket.recv()
                    await socket.send(bytes(320))
                    heard.append((await audio.next_msg(timeout=PATIENCE_S)).headers.get("traceparent"))

    untold, told, session, told_session = heard
    assert session is None
    for one in (told, told_session):
        assert one.startswith(PARENT[:36])
        assert (one == PARENT) == (not traced)
    assert bool(untold) == traced
