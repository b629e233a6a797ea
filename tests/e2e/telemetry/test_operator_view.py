"""What an operator sees: dashboards on a real Prometheus, which scrapes a daemon and a gateway, traces of latencies, errors with theirs."""

import asyncio
import json
import math
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.support import requirements
from tests.support.audio import level, speak
from tests.support.clip_requests import clip
from tests.support.daemon import Daemon
from tests.support.gateway import GatewayProcess
from tests.support.otlp_receiver import grpc_receiver
from tests.support.ports import free_port
from tests.support.waiting import PATIENCE_S, until

DASHBOARDS = sorted((Path(__file__).parents[3] / "k8s/grafana").glob("*.json"))
SPOKEN, BROKEN = 321, 777
WORDS = f"{SPOKEN} {SPOKEN}"
WINDOW_FRAMES = 24_000
CHOSEN = {"$__rate_interval": "1m", "$__range": "1m", "$instance": ".*", "$stream": "radio-7", "$server": ".*"}


def queries(dashboard):
    """The queries of a dashboard, as Grafana would send them."""
    for panel in json.loads(dashboard.read_text())["panels"]:
        for target in panel.get("targets", []):
            expression = target["expr"]
            for name, value in CHOSEN.items():
                expression = expression.replace(name, value)
            yield expression


@contextmanager
def prometheus(program, folder, *scraped):
    """A Prometheus that scrapes these ports; its URL."""
    url = f"127.0.0.1:{free_port()}"
    config = {
        "global": {"scrape_interval": "200ms", "scrape_timeout": "200ms"},
        "scrape_configs": [
            {"job_name": "transcriber", "static_configs": [{"targets": [f"127.0.0.1:{port}" for port in scraped]}]}
        ],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    options = {
        "config.file": folder / "prometheus.yml",
        "storage.tsdb.path": folder / "series",
        "web.listen-address": url,
        "enable-feature": "exemplar-storage",
        "log.level": "warn",
    }
    command = [program, *(f"--{name}={value}" for name, value in options.items())]
    with (
        (folder / "prometheus.log").open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log) as process,
    ):
        try:
            yield f"http://{url}"
        finally:
            process.kill()


async def has_data(client, query):
    answer = await client.get("/api/v1/query", params={"query": query})
    assert answer.status_code == 200, (query, answer.text)
    return any(not math.isnan(float(one["value"][1])) for one in answer.json()["data"]["result"])


async def traces_of(client, metric):
    """Trace ids of the exemplars of a metric."""
    params = {"query": metric, "start": "2000-01-01T00:00:00Z", "end": "2100-01-01T00:00:00Z"}
    found = (await client.get("/api/v1/query_exemplars", params=params)).json()["data"]
    return {one["labels"]["trace_id"] for series in found for one in series["exemplars"]}


def all_of(queue):
    return [queue.get() for _ in range(queue.qsize())]


def spans_of(requests):
    return [span for r in requests for resource in r.resource_spans for s in resource.scope_spans for span in s.spans]


async def test_every_panel_has_data_latencies_have_traces_and_errors_are_sent_without_text(
    broker, tmp_path, publisher, listener
):
    program, ports = requirements.program("prometheus", "apt-get install prometheus"), (free_port(), free_port())
    with grpc_receiver() as (receiver, url):
        env = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": url,
            "OTEL_METRICS_EXPORTER": "prometheus",
            "OTEL_EXPORTER_PROMETHEUS_HOST": "127.0.0.1",
            "OTEL_TRACES_EXPORTER": "otlp",
            "OTEL_LOGS_EXPORTER": "otlp",
            "OTEL_BSP_SCHEDULE_DELAY": 50,
            "OTEL_BLRP_SCHEDULE_DELAY": 50,
        }
        fake = {"BUFFER_DURATION_SECS": 0.5, "METRICS_PER_STREAM": 1, "FAKE_WORD_S": 0.05, "FAKE_FAIL_AT": BROKEN}
        async with Daemon(broker.url, tmp_path, **env, **fake, OTEL_EXPORTER_PROMETHEUS_PORT=ports[0]):
            with (
                GatewayProcess(broker.url, **env, OTEL_EXPORTER_PROMETHEUS_PORT=ports[1]) as gateway,
                prometheus(program, tmp_path, *ports) as prometheus_url,
            ):
                async with httpx.AsyncClient(base_url=prometheus_url, timeout=PATIENCE_S) as client:
                    lacking = await seen_by_all_dashboards(client, gateway, publisher)
                    exemplars = [
                        await traces_of(client, "transcriber_end_to_end_latency_ms_milliseconds_bucket"),
                        await traces_of(client, "http_server_request_duration_seconds_bucket"),
                    ]
            await speak(publisher, "radio-7", level(BROKEN, WINDOW_FRAMES), session="broken")
            await until(lambda: "engine_error" in [m.reason for m in listener.messages if m.type == "gap"], "the gap")
            await until(lambda: "window not transcribed" in str(list(receiver.logs.queue)), "the error")
            await until(lambda: "engine_error" in str(list(receiver.traces.queue)), "its span")
            await until(lambda: WORDS in str([m.text for m in listener.messages if m.type == "final"]), "the text")
        logs, traces = all_of(receiver.logs), all_of(receiver.traces)

    assert lacking == []
    spans = spans_of(traces)
    sent = {span.trace_id.hex() for span in spans}
    assert all(found & sent for found in exemplars), exemplars
    (error,) = [
        record
        for request in logs
        for resource in request.resource_logs
        for scope in resource.scope_logs
        for record in scope.log_records
        if record.body.string_value.startswith("window not transcribed")
    ]
    failed = [span for span in spans if "engine_error" in str(span.attributes)]
    assert [span.span_id for span in failed] == [error.span_id]
    for request in (*logs, *traces):
        wire = request.SerializeToString()
        assert WORDS.encode() not in wire
        assert level(SPOKEN, 16) not in wire
        assert level(BROKEN, 16) not in wire


async def seen_by_all_dashboards(client, gateway, publisher):
    """Publish and ask until every query has had data; those that never had any, and those of the broker that are no queries."""
    lacking = [query for path in DASHBOARDS if path.stem != "broker" for query in queries(path)]
    lacking = [query for query in lacking if "transcriber_device_" not in query]  # figures of a card, which is not here
    assert len(lacking) > 50
    async with httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE_S) as http, asyncio.timeout(PATIENCE_S):
        await until(lambda: reachable(client.base_url), "Prometheus")
        while lacking:
            await speak(publisher, "radio-7", level(SPOKEN, WINDOW_FRAMES))
            form: Any = {"data": {"model": "whisper-1"}, "files": {"file": clip(SPOKEN)}}
            assert (await http.post("/v1/audio/transcriptions", **form)).status_code == 200
            lacking = [query for query in lacking if not await has_data(client, query)]
    for query in queries(next(path for path in DASHBOARDS if path.stem == "broker")):
        assert not await has_data(client, query)  # nobody exports them here: they are at least queries
    return lacking


def reachable(url):
    try:
        return httpx.get(f"{url}/-/ready").status_code == 200
    except httpx.HTTPError:
        return False
