"""All metrics and spans, and their export.

In: counts and times from the event loop. Out: OTLP metrics, traces and errors, and ``/metrics``, as ``OTEL_*`` says, and the
same metrics as one message for NATS. Unless something is exported OpenTelemetry is not imported.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Unpack

from transcriber.config import Settings
from transcriber.engine.job import Device, Job
from transcriber.gpu.nvml import Card
from transcriber.schema.messages import Latency, Metrics
from transcriber.telemetry.card_watch import CardWatch
from transcriber.telemetry.exports import Exports
from transcriber.telemetry.figures import LABELS, Counters, Figures, Readings
from transcriber.telemetry.instruments import BOUNDS_MS, INSTRUMENTS, Instrument, Points
from transcriber.telemetry.traceparent import (
    current_traceparent,
    sampled,
    session_traceparent,
    valid_traceparent,
)

__all__ = [
    "BOUNDS_MS",
    "INSTRUMENTS",
    "Counters",
    "Instrument",
    "Telemetry",
    "current_traceparent",
    "sampled",
    "session_traceparent",
    "valid_traceparent",
]


class Telemetry:
    """All metrics of one daemon. Event loop only; the exporters have threads of their own and only read.

    Attributes:
        instance: id of this process, in every export.

    Raises:
        ConfigError: a variable of OpenTelemetry has a value that is not allowed.
        PortError: the port of ``/metrics`` cannot be opened.
    """

    def __init__(self, settings: Settings, instance: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._exports = Exports("transcriber", instance)
        self._settings, self.instance = settings, instance
        self._figures = Figures(per_stream=settings.metrics_per_stream, clock=clock)
        self._busy = self._figures.busy_fraction()

    def start(self) -> None:
        """Start the exporters of metrics and spans; that of errors has been there from the first on.

        Raises:
            ConfigError: OpenTelemetry refuses one of its variables.
        """

        def points() -> Points:
            return partial(self._figures.points, busy=self._figures.busy_fraction())

        self._exports.start(INSTRUMENTS, points, self._settings.audio_subject)

    def counters(self, stream: str | None = None) -> Counters:
        """The counters of ``stream``; without one, of what belongs to no stream.

        One shared object, unless ``METRICS_PER_STREAM`` is set: then one for each of the first 300 streams, kept for the
        life of the process; later streams share. Look them up once a session, not once a payload.
        """
        return self._figures.counters(stream)

    def observe(self, **readings: Unpack[Readings]) -> None:
        """Set the sources of the gauges; one without a source is 0."""
        self._figures.observe(**readings)

    def observe_device(self, read: Callable[[], Device]) -> None:
        """Set the source of what whisper runs on; it is called on any thread."""
        self._figures.device = read

    def observe_model(self, read: Callable[[], str]) -> None:
        """Set the source of the name of the model that is loaded; it is called on any thread."""
        self._figures.model = read

    def watch_card(self, open_card: Callable[[], Card]) -> None:
        """Read the figures of a GPU from now on; ``open_card`` is called on the thread that reads them."""
        self._figures.card = CardWatch(open_card)

    def record_job(
        self,
        stream: str,
        *,
        queue_ms: float,
        processing_ms: float,
        end_to_end_ms: float,
        traceparent: str | None = None,
    ) -> None:
        """Record the times of a finished job; ``traceparent`` is of its span, for exemplars."""
        times_ms = {
            "queue_latency_ms": queue_ms,
            "processing_latency_ms": processing_ms,
            "end_to_end_latency_ms": end_to_end_ms,
        }
        for key, value_ms in times_ms.items():
            self._figures.latencies[key].record(value_ms)
        self._exports.record(times_ms, self._figures.attributes(stream), traceparent)

    def record_request(self, code: str, latency_ms: float) -> None:
        """Count an answered request; record its latency if it returned text. Called in the request's task."""
        self._figures.counters(None).requests[code] += 1
        if code == "200":
            self._figures.latencies["request_latency_ms"].record(latency_ms)
            self._exports.record({"request_latency_ms": latency_ms}, {}, current_traceparent.get())

    def job_span(
        self, job: Job, *, session: str, message_id: str, error: str | None = None, parent: str | None = None
    ) -> str:
        """Trace a finished job, just before its message is published.

        Args:
            job: with its times; ``started_s`` 0 if it never reached the worker.
            session: its session.
            message_id: ``Nats-Msg-Id`` of its message.
            error: the reason of the ``gap``, if it became one.
            parent: ``traceparent`` of the audio; None if it had none. Then a traced job starts a trace of its own:
                a session can last for weeks.

        Returns:
            The ``traceparent`` to publish; without tracing the parent's, or the session's own.
        """
        if self._exports.traces:
            return self._exports.traces.job_span(
                job, session=session, message_id=message_id, error=error, parent=parent
            )
        return parent or session_traceparent(job.stream, session)

    def snapshot(self) -> Metrics:
        """All metrics at this moment, for NATS; summed over streams. What is not known is left out."""
        figures: dict[str, int | float | Latency | dict[str, int]] = {}
        for i in INSTRUMENTS:
            if i.kind == "histogram":
                figures[i.name] = self._figures.latencies[i.key].summary()
            elif points := list(self._figures.points(i.key, self._busy)):
                figures[i.name] = _add_up(points, LABELS.get(i.key, "reason"))
        return Metrics(instance=self.instance, at=datetime.now(UTC), metrics=figures)

    def shutdown(self, timeout_s: float) -> bool:
        """Flush the exporters; blocks for at most about ``timeout_s``. Returns whether they ended in time."""
        if self._figures.card:
            self._figures.card.close()
        return self._exports.shutdown(timeout_s)


def _add_up(points: list[tuple[float, dict[str, str]]], label: str) -> float | dict[str, int]:
    """The sum over streams; by the attribute ``label``, where there is one."""
    by_label: dict[str, int] = {}
    for value, attributes in points:
        if label in attributes:
            by_label[attributes[label]] = by_label.get(attributes[label], 0) + int(value)
    return by_label or sum(value for value, _ in points)
