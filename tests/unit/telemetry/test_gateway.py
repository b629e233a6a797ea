"""What is counted of a gateway's requests."""

import asyncio
import contextvars

import pytest
from starlette.requests import ClientDisconnect
from starlette.routing import WebSocketRoute

from tests.unit.telemetry.test_telemetry import prometheus_name
from transcriber.cli import main
from transcriber.config import load_settings
from transcriber.gateway.api_error import CODES, REFUSALS
from transcriber.gateway.embedded import EmbeddedGateway
from transcriber.gateway.guard import GONE, Guard
from transcriber.gateway.server import routes
from transcriber.telemetry import current_traceparent
from transcriber.telemetry.gateway import GatewayTelemetry
from transcriber.telemetry.gateway_figures import GatewayFigures, refusal_of
from transcriber.telemetry.instruments import GATEWAY_INSTRUMENTS

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def telemetry():
    return GatewayTelemetry(load_settings(), "one")


def values(figures, key):
    return {next(iter(attributes.values())) if attributes else "": value for value, attributes in figures.points(key)}


def test_names_are_those_of_opentelemetry_for_http_and_ours_for_the_rest():
    kinds = {"counter": "sum"}

    assert {prometheus_name(i.name, kinds.get(i.kind, i.kind), i.unit) for i in GATEWAY_INSTRUMENTS} == {
        "http_server_request_duration_seconds",
        "http_server_active_requests",
        "transcriber_gateway_connections",
        "transcriber_gateway_readers_dropped_total",
        "transcriber_gateway_refusals_total",
        "transcriber_gateway_received_bytes_total",
        "transcriber_gateway_jobs_total",
        "transcriber_gateway_sessions_resumed_total",
    }


def test_every_instrument_has_its_points_and_every_websocket_its_kind():
    figures = GatewayFigures()

    for instrument in GATEWAY_INSTRUMENTS:
        if instrument.kind != "histogram":
            assert list(figures.points(instrument.key)), instrument.name
    sockets = {route.path.rpartition("/")[2] for route in routes() if isinstance(route, WebSocketRoute)}
    assert sockets == figures.connections.keys() - {"events"} == figures.received.keys() - {"body"}


def test_every_error_has_a_reason_and_every_reason_an_error():
    reasons = {refusal_of(status, code) for status in REFUSALS for code in (None, *CODES)}

    assert reasons == GatewayFigures().refusals.keys()
    assert {refusal_of(status, None) for status in (GONE, 101, 200, 202, 304, 499)} == {None}


def test_requests_are_counted_while_they_last_and_methods_nobody_knows_are_one(telemetry):
    figures = telemetry.figures
    requests = [telemetry.begin(method, "", socket=False) for method in ("GET", "BREW", "MAKE")]

    assert values(figures, "http_server_active_requests") == {"GET": 1, "POST": 0, "_OTHER": 2}
    for request in requests:
        request.received(10)
        request.end("", None, path="/", request_id="1")
    assert values(figures, "http_server_active_requests") == {"GET": 0, "POST": 0}
    assert figures.received["body"] == 30
    assert figures.refusals["error"] == 3


def test_a_websocket_is_a_connection_and_no_request(telemetry):
    figures = telemetry.figures
    socket = telemetry.begin("GET", "", socket=True)

    socket.opened("audio", "/v1/streams/{stream}/audio")
    socket.received(7)
    assert (figures.connections["audio"], figures.received["audio"], figures.active_requests["GET"]) == (1, 7, 0)
    socket.code = "closed_full"
    socket.end("/v1/streams/{stream}/audio", 101, path="/v1/streams/a/audio", request_id="1")
    assert (figures.connections["audio"], figures.refusals["unserved"]) == (0, 1)


async def ignore(*_):
    pass


@pytest.mark.parametrize(("error", "reasons"), [(ClientDisconnect, {}), (asyncio.CancelledError, {"stop": 1})])
async def test_a_request_that_ends_before_its_answer_is_no_error_of_ours(telemetry, error, reasons):
    async def app(*_):
        raise error

    scope = {"type": "http", "method": "POST", "path": "/", "headers": []}
    await Guard(app, load_settings(), telemetry)(scope, ignore, ignore)

    assert {reason: count for reason, count in telemetry.figures.refusals.items() if count} == reasons
    assert not any(telemetry.figures.active_requests.values())


@pytest.mark.parametrize(("given", "kept"), [(PARENT, PARENT), ("", ""), ("nonsense", "")])
def test_without_tracing_a_request_carries_the_clients_trace_or_none(telemetry, given, kept):
    request = telemetry.begin("GET", given, socket=False)

    assert request.traceparent == kept
    assert request.given == bool(kept)


def test_what_is_logged_in_the_task_of_a_request_belongs_to_its_trace(telemetry):
    def handled(parent):
        telemetry.begin("GET", parent, socket=False)
        return current_traceparent.get()

    assert [contextvars.copy_context().run(handled, parent) for parent in (PARENT, "")] == [PARENT, ""]
    assert not current_traceparent.get()


@pytest.mark.parametrize(("given", "next_one"), [("", "9465"), ("9000", "9001"), ("0", "0"), ("65535", "0")])
def test_a_gateway_beside_a_daemon_serves_its_metrics_at_the_next_port(monkeypatch, given, next_one):
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "otlp,prometheus")
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", given)

    environment = EmbeddedGateway("nats://127.0.0.1:1", load_settings())._environment()

    assert environment["OTEL_EXPORTER_PROMETHEUS_PORT"] == next_one


def test_a_wrong_variable_is_one_line_and_status_2(monkeypatch, capsys):
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "zipkin")

    assert main(["gateway"]) == 2
    assert "OTEL_TRACES_EXPORTER='zipkin'" in capsys.readouterr().err


def test_a_port_for_prometheus_that_nothing_uses_is_not_read(monkeypatch):
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", "x")

    environment = EmbeddedGateway("nats://127.0.0.1:1", load_settings())._environment()

    assert environment["OTEL_EXPORTER_PROMETHEUS_PORT"] == "x"
