"""Warnings and errors, as a real OTLP receiver gets them over gRPC and over HTTP."""

import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.otlp_receiver import Receiver, http_receiver
from tests.support.waiting import PATIENCE_S
from transcriber.config import Settings, load_settings
from transcriber.engine.remote.model import RemoteModel
from transcriber.engine.warm_up import self_test_speech
from transcriber.errors import BadInputError, EngineError
from transcriber.models.catalog import DEMO_MODEL
from transcriber.telemetry import Telemetry, current_traceparent
from transcriber.telemetry.log_export import LogExport

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
WORDS = "the harbour master said so"
log = logging.getLogger("transcriber.tests")


@pytest.fixture(autouse=True)
def exported(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("OTEL_LOGS_EXPORTER", "otlp")
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
    monkeypatch.setenv("OTEL_BLRP_SCHEDULE_DELAY", "20")
    yield
    root = logging.getLogger()
    root.handlers = [handler for handler in root.handlers if not isinstance(handler, LogExport)]
    logging.getLogger("opentelemetry").setLevel(logging.NOTSET)


def attributes(owner: Any) -> dict[str, Any]:
    return {a.key: getattr(a.value, str(a.value.WhichOneof("value"))) for a in owner.attributes}


def raised(error: Exception, cause: Exception | None = None) -> Exception:
    try:
        raise error from cause  # noqa: TRY301 - as below
    except Exception as caught:  # noqa: BLE001 - it gets its frames here
        return caught


def test_a_warning_arrives_with_its_extras_its_trace_and_our_resource(
    receiver: Receiver, make: Callable[..., Telemetry]
) -> None:
    make()

    log.info("not sent")
    log.warning("%s is late", "radio-7", extra={"lag_s": 1.5, "server": "nats://me:secret@x", "traceparent": PARENT})

    request = receiver.logs.get(timeout=PATIENCE_S)
    (resource,) = request.resource_logs
    (record,) = resource.scope_logs[0].log_records
    assert (record.body.string_value, record.severity_text) == ("radio-7 is late", "WARN")
    assert attributes(resource.resource)["service.name"] == "transcriber"
    assert attributes(resource.resource)["service.instance.id"] == "one"
    assert (record.trace_id.hex(), record.span_id.hex()) == tuple(PARENT.split("-")[1:3])
    found = attributes(record)
    assert (found["lag_s"], found["server"]) == (1.5, "nats://***@x")
    assert found["logger"] == "transcriber.tests"
    assert "secret" not in str(request)


def test_an_error_has_its_stack_and_of_foreign_errors_no_message(
    receiver: Receiver, make: Callable[..., Telemetry]
) -> None:
    make()
    current_traceparent.set(PARENT)

    log.error("a request failed", exc_info=raised(ValueError(WORDS), raised(BadInputError("3 bytes are no samples"))))
    current_traceparent.set("")

    (record,) = receiver.next_logs()
    found = attributes(record)
    stack = found["exception.stacktrace"]
    assert (record.severity_text, found["exception.type"]) == ("ERROR", "ValueError")
    assert "exception.message" not in found
    assert stack.index("transcriber.errors.BadInputError: 3 bytes are no samples\n") < stack.index("\nValueError\n")
    assert stack.count("in raised\n") == 2
    assert record.trace_id.hex() == PARENT.split("-")[1]
    assert WORDS not in str(record)


def test_of_libraries_only_what_stands_in_their_source_is_sent(
    receiver: Receiver, make: Callable[..., Telemetry]
) -> None:
    make()

    as_asyncio_does = "\n".join(("Task exception was never retrieved", f"future: ValueError('{WORDS}')"))
    logging.getLogger("asyncio").error(as_asyncio_does)
    logging.getLogger("uvicorn.error").error("%s failed", WORDS)

    bodies: list[str] = []
    while len(bodies) < 2:
        bodies += [record.body.string_value for record in receiver.next_logs()]
    assert bodies == ["Task exception was never retrieved", "%s failed"]


def test_what_exporters_log_is_never_exported(
    make: Callable[..., Telemetry], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
    with http_receiver() as (receiver, url):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        receiver.status = 400
        telemetry = make()
        for number in range(3):
            log.warning("number %d", number)
            assert [record.body.string_value for record in receiver.next_logs()] == [f"number {number}"]
        telemetry.shutdown(PATIENCE_S)

        # What it logged of the refusals would have been sent by now.
        assert any(record.name.startswith("opentelemetry") for record in caplog.records)
        assert receiver.logs.empty()


def test_the_queue_is_bounded_and_the_newest_records_are_kept(
    receiver: Receiver, make: Callable[..., Telemetry], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BLRP_MAX_QUEUE_SIZE", "8")
    monkeypatch.setenv("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", "8")
    make()
    receiver.answers.clear()
    log.warning("begins an export that is not answered")
    receiver.next_logs()

    for number in range(100):
        log.warning("number %d", number)
    receiver.answers.set()

    assert [record.body.string_value for record in receiver.next_logs()] == [f"number {n}" for n in range(92, 100)]


def test_what_is_logged_before_the_figures_are_exported_is_sent(receiver: Receiver) -> None:
    telemetry = Telemetry(load_settings(), "one")  # as a daemon has it while it connects and loads its model

    log.warning("no NATS server answers")

    assert [record.body.string_value for record in receiver.next_logs()] == ["no NATS server answers"]
    telemetry.shutdown(PATIENCE_S)


def test_an_error_of_a_process_of_whisper_is_sent_as_one_of_ours(
    receiver: Receiver, make: Callable[..., Telemetry]
) -> None:
    make()
    settings = Settings(whisper_model="demo", whisper_threads=1)
    model = RemoteModel("tests.support.aborting_model:AbortingModel", DEMO_MODEL, settings)
    try:
        with pytest.raises(EngineError):
            model.transcribe(self_test_speech(), "en", lambda: False)
        bodies: list[str] = []
        while "whisper.cpp aborts the process: CUDA error: out of memory" not in bodies:
            bodies += [record.body.string_value for record in receiver.next_logs()]
    finally:
        model.close()


FAILS = """
import logging
import sys
from transcriber import cli, commands
from transcriber.errors import StartError
from transcriber.telemetry import Telemetry
def fail(settings, arguments):
    Telemetry(settings, "one")
    logging.getLogger("transcriber.tests").warning("no NATS server answers")
    raise StartError("no broker")
commands._schema = fail
sys.exit(cli.main(["schema"]))
"""


def test_what_a_start_that_fails_has_logged_is_sent_at_its_end(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BLRP_SCHEDULE_DELAY", str(int(1000 * PATIENCE_S)))
    failed = subprocess.run([sys.executable, "-c", FAILS], check=False, capture_output=True, timeout=PATIENCE_S)

    assert failed.returncode == 3
    assert [record.body.string_value for record in receiver.next_logs()] == ["no NATS server answers"]


CRASHES = """
import sys
from transcriber import cli, commands
from transcriber.config import load_settings
from transcriber.telemetry import Telemetry
def crash(settings, arguments):
    telemetry = Telemetry(settings, "one")
    telemetry.start()
    telemetry.shutdown(0.3)
    raise ValueError("the harbour master said so")
commands._schema = crash
sys.exit(cli.main(["schema"]))
"""


def test_a_crash_after_the_last_figures_is_sent_too(receiver: Receiver) -> None:
    crashed = subprocess.run([sys.executable, "-c", CRASHES], check=False, capture_output=True, timeout=PATIENCE_S)

    (record,) = receiver.next_logs()
    assert crashed.returncode == 1
    assert record.body.string_value == "crashed"
    assert attributes(record)["exception.type"] == "ValueError"
    assert "in crash\n" in attributes(record)["exception.stacktrace"]
    assert WORDS not in str(record).replace('raise ValueError(\\"the harbour master said so\\")', "")


def test_a_collector_that_is_dead_holds_neither_the_end_nor_a_crash() -> None:
    with socket.create_server(("127.0.0.1", 0)) as black_hole:
        env = {
            **os.environ,
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{black_hole.getsockname()[1]}",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "3600",
        }

        # The exporter's timeout is an hour: waiting for it would never return.
        crashed = subprocess.run(
            [sys.executable, "-c", CRASHES], check=False, capture_output=True, env=env, timeout=PATIENCE_S
        )

    assert crashed.returncode == 1
