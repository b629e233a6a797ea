"""All metrics, of daemons and of gateways: name, kind, unit and description of each."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

Points = Callable[[str], Iterable[tuple[float, dict[str, str]]]]
"""Values and attributes of the instrument with this key, no histogram, at this moment; called from any thread."""


@dataclass(frozen=True, slots=True)
class Instrument:
    """One metric.

    Attributes:
        name: as OpenTelemetry knows it; in Prometheus the dots are underscores, and counters end in ``_total``.
        kind: counters only grow; gauges are a value of this moment; an up-down counter is a gauge that adds up over processes.
        unit: UCUM. ``{...}`` and ``""`` leave the name in Prometheus alone; ``1`` would add ``_ratio`` to it.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram", "up-down counter"]
    unit: str
    description: str

    @property
    def key(self) -> str:
        """``queue_depth`` of ``transcriber.queue.depth``."""
        return self.name.removeprefix("transcriber.").replace(".", "_")


INSTRUMENTS = (
    Instrument("transcriber.queue.depth", "gauge", "{job}", "windows that wait for the worker"),
    Instrument("transcriber.queue.capacity", "gauge", "{job}", "windows that may wait"),
    Instrument(
        "transcriber.queue.resized", "counter", "{change}", "times the capacity was adjusted to the speed of whisper"
    ),
    Instrument("transcriber.jobs.enqueued", "counter", "{job}", "windows put into the queue"),
    Instrument("transcriber.jobs.dropped", "counter", "{job}", "windows that were not transcribed, by reason"),
    Instrument(
        "transcriber.jobs.redone",
        "counter",
        "{job}",
        "windows transcribed again, as the text was doubtful",
    ),
    Instrument(
        "transcriber.jobs.shortened",
        "counter",
        "{job}",
        "windows transcribed without most of their left context, to save time",
    ),
    Instrument("transcriber.partials", "counter", "{message}", "partials published"),
    Instrument("transcriber.text.suppressed", "counter", "{window}", "windows whose text was held back, by reason"),
    Instrument(
        "transcriber.text.trimmed",
        "counter",
        "{window}",
        "windows whose last words were left out: nobody can have said them so fast",
    ),
    Instrument(
        "transcriber.language.changes",
        "counter",
        "{change}",
        "times the detected language of a speaker changed",
    ),
    Instrument("transcriber.queue.latency_ms", "histogram", "ms", "from the queue to the worker"),
    Instrument("transcriber.processing.latency_ms", "histogram", "ms", "inside whisper calls"),
    Instrument("transcriber.end_to_end.latency_ms", "histogram", "ms", "from the last payload to the NATS client"),
    Instrument(
        "transcriber.device",
        "gauge",
        "",
        "1 of the `device` that whisper runs on, `cpu` or `cuda:0`, with the card's name (`description`); where it is the CPU and a GPU"
        " was wanted, or there is a driver of one, the `reason`. With several processes, the CPU if one of them runs on it",
    ),
    Instrument("transcriber.model", "gauge", "", "1 of the `model` that is loaded"),
    Instrument(
        "transcriber.model.swaps",
        "counter",
        "{swap}",
        "swaps of the model, by outcome: `swapped`, `unchanged`, `refused`, `failed`",
    ),
    Instrument(
        "transcriber.worker.busy", "gauge", "", "fraction of the interval that the workers spent on jobs, 0 to 1"
    ),
    Instrument("transcriber.chunks.received", "counter", "{chunk}", "payloads received"),
    Instrument("transcriber.chunks.dropped", "counter", "{chunk}", "payloads dropped, by reason"),
    Instrument("transcriber.chunks.odd", "counter", "{oddity}", "headers and odd bytes ignored, by reason"),
    Instrument("transcriber.chunks.filtered", "counter", "{window}", "windows without speech, not transcribed"),
    Instrument(
        "transcriber.flushes.empty", "counter", "{flush}", "`Audio-Flush` answered by `status`, as too little was open"
    ),
    Instrument("transcriber.buffer.size", "gauge", "{sample}", "16 kHz samples in the open windows"),
    Instrument(
        "transcriber.rtf", "gauge", "", "time of a job over that of a whole window: the median of the last seven"
    ),
    Instrument(
        "transcriber.engine.restarts",
        "counter",
        "{restart}",
        "times a process of whisper died and was started again, with `WHISPER_PROCESSES`",
    ),
    Instrument("transcriber.streams.active", "gauge", "{stream}", "streams with an open session"),
    Instrument(
        "transcriber.streams.stalled",
        "gauge",
        "{stream}",
        "open streams from which nothing arrives, not even heartbeats",
    ),
    Instrument("transcriber.nats.reconnects", "counter", "{reconnect}", "reconnects to the broker"),
    Instrument("transcriber.messages.malformed", "counter", "{message}", "protocol messages the client could not read"),
    Instrument(
        "transcriber.messages.unsent",
        "counter",
        "{message}",
        "messages the client did not accept: broker away too long",
    ),
    Instrument("transcriber.gaps", "counter", "{gap}", "gaps published, by reason"),
    Instrument(
        "transcriber.lag_s", "gauge", "", "seconds by which the slowest stream's text is behind its stored audio"
    ),
    Instrument("transcriber.streams.fenced", "gauge", "{stream}", "streams that another daemon transcribes"),
    Instrument(
        "transcriber.publish.retries",
        "counter",
        "{message}",
        "messages published again: the broker did not acknowledge them",
    ),
    Instrument(
        "transcriber.consumer.resets", "counter", "{reset}", "times a consumer was reset to the last published text"
    ),
    Instrument(
        "transcriber.config.changes", "counter", "{change}", "live settings that changed, of this daemon or of streams"
    ),
    Instrument(
        "transcriber.config.refused",
        "gauge",
        "{key}",
        "keys of live settings whose latest value is refused, and 1 more while bucket or file cannot be read",
    ),
    Instrument(
        "transcriber.requests", "counter", "{request}", "requests answered, by code; `none`: without a reply subject"
    ),
    Instrument("transcriber.request.latency_ms", "histogram", "ms", "from a request's arrival to its text"),
    Instrument("transcriber.files.running", "gauge", "{file}", "files being transcribed"),
    Instrument("transcriber.files", "counter", "{file}", "files that have ended, by outcome"),
    Instrument(
        "transcriber.revisions", "counter", "{message}", "revisions published, which replace earlier text or a gap"
    ),
    Instrument("transcriber.revisions.left_out", "counter", "{passage}", "second passes without a revision, by reason"),
    Instrument(
        "transcriber.speakers.left_out",
        "counter",
        "{window}",
        "windows and passages of a second pass of which it was not found who speaks, with `SPEAKERS=voices`, by reason: the queue"
        " was more than half full, or the daemon was stopped (`busy`); an error (`failed`)",
    ),
    Instrument(
        "transcriber.device.utilization",
        "gauge",
        "",
        "of the GPU: share of about the last second in which a kernel ran, 0 to 1; not of a MIG instance",
    ),
    Instrument("transcriber.device.memory.used", "gauge", "By", "of the GPU, by all processes"),
    Instrument("transcriber.device.memory.total", "gauge", "By", "of the GPU, or of the MIG instance"),
    Instrument("transcriber.device.temperature", "gauge", "Cel", "of the GPU"),
    Instrument("transcriber.device.power", "gauge", "W", "of the GPU"),
)

GATEWAY_INSTRUMENTS = (
    Instrument(
        "http.server.request.duration",
        "histogram",
        "s",
        "of requests, by method, route and status; of a WebSocket its handshake",
    ),
    Instrument(
        "http.server.active_requests", "up-down counter", "{request}", "requests that are being answered, by method"
    ),
    Instrument(
        "transcriber.gateway.connections", "gauge", "{connection}", "open WebSockets and event streams, by kind"
    ),
    Instrument(
        "transcriber.gateway.readers.dropped",
        "counter",
        "{reader}",
        "slow readers dropped, by reason: `queue`, too much waited; `time`, nothing was taken, of events or Realtime for 10 s,"
        " of another WebSocket for 15 s",
    ),
    Instrument("transcriber.gateway.refusals", "counter", "{request}", "requests refused or failed, by reason"),
    Instrument("transcriber.gateway.received", "counter", "By", "bytes of bodies and of WebSocket messages, by kind"),
    Instrument("transcriber.gateway.jobs", "counter", "{job}", "uploads that were submitted as jobs"),
    Instrument(
        "transcriber.gateway.sessions.resumed",
        "counter",
        "{session}",
        "sessions of audio that went on after a reconnect, by mode",
    ),
)

# The SDK's own bounds end at 10 s. 25 s is 1.25 x L_max, the threshold of the latency alert.
BOUNDS_MS = (5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 20_000, 25_000, 30_000, 60_000)

BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 60.0, 120.0)
"""OpenTelemetry's for HTTP, and those of requests that wait for whisper."""

BOUNDS = {"ms": BOUNDS_MS, "s": BOUNDS_S}
"""Of histograms, by their unit."""
