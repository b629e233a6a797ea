"""All metrics: name, kind, unit and description of each."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Instrument:
    """One metric.

    Attributes:
        name: as OpenTelemetry knows it; in Prometheus the dots are underscores, and counters end in ``_total``.
        kind: counters only grow; gauges are a value of this moment.
        unit: UCUM. ``{...}`` and ``""`` leave the name in Prometheus alone; ``1`` would add ``_ratio`` to it.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    unit: str
    description: str

    @property
    def key(self) -> str:
        """``queue_depth`` of ``transcriber.queue.depth``."""
        return self.name.removeprefix("transcriber.").replace(".", "_")


INSTRUMENTS = (
    Instrument("transcriber.queue.depth", "gauge", "{job}", "windows that wait for the worker"),
    Instrument("transcriber.queue.capacity", "gauge", "{job}", "windows that may wait"),
    Instrument("transcriber.queue.resized", "counter", "{change}", "times the capacity followed the speed of whisper"),
    Instrument("transcriber.jobs.enqueued", "counter", "{job}", "windows that were given a place in the queue"),
    Instrument("transcriber.jobs.dropped", "counter", "{job}", "windows that were not transcribed, by reason"),
    Instrument(
        "transcriber.jobs.redone", "counter", "{job}", "windows asked again at a wide context, as the text was odd"
    ),
    Instrument(
        "transcriber.jobs.shortened",
        "counter",
        "{job}",
        "windows heard without most of their left context: it was left out",
    ),
    Instrument("transcriber.partials", "counter", "{message}", "guesses at open windows, published"),
    Instrument("transcriber.text.suppressed", "counter", "{window}", "windows whose text was held back, by reason"),
    Instrument(
        "transcriber.language.changes",
        "counter",
        "{change}",
        "times a speaker was heard in another language than before",
    ),
    Instrument("transcriber.queue.latency_ms", "histogram", "ms", "from the queue's door to the worker"),
    Instrument("transcriber.processing.latency_ms", "histogram", "ms", "inside whisper calls"),
    Instrument("transcriber.end_to_end.latency_ms", "histogram", "ms", "from the last payload to the NATS client"),
    Instrument("transcriber.worker.busy", "gauge", "", "fraction of the interval in which the workers worked, 0 to 1"),
    Instrument("transcriber.chunks.received", "counter", "{chunk}", "payloads that came"),
    Instrument("transcriber.chunks.dropped", "counter", "{chunk}", "payloads that were not used, by reason"),
    Instrument(
        "transcriber.chunks.odd", "counter", "{oddity}", "headers and odd bytes that were passed over, by reason"
    ),
    Instrument("transcriber.chunks.filtered", "counter", "{window}", "windows without speech, kept from whisper"),
    Instrument("transcriber.buffer.size", "gauge", "{sample}", "16 kHz samples in the open windows"),
    Instrument(
        "transcriber.rtf", "gauge", "", "time of a job over that of a whole window: the median of the last seven"
    ),
    Instrument("transcriber.streams.active", "gauge", "{stream}", "streams with an open session"),
    Instrument("transcriber.streams.stalled", "gauge", "{stream}", "streams from which nothing comes"),
    Instrument("transcriber.nats.reconnects", "counter", "{reconnect}", "times the connection was made anew"),
    Instrument("transcriber.messages.malformed", "counter", "{message}", "protocol messages the client could not read"),
    Instrument(
        "transcriber.messages.unsent", "counter", "{message}", "texts the client did not take: broker away too long"
    ),
    Instrument("transcriber.gaps", "counter", "{gap}", "gaps published, by reason"),
    Instrument("transcriber.lag_s", "gauge", "", "seconds the slowest stream's text is behind its stored audio"),
    Instrument("transcriber.streams.fenced", "gauge", "{stream}", "streams that another daemon transcribes"),
    Instrument("transcriber.publish.retries", "counter", "{message}", "texts sent again: the broker did not confirm"),
    Instrument("transcriber.consumer.resets", "counter", "{reset}", "times audio was read again from the last text on"),
    Instrument(
        "transcriber.requests", "counter", "{request}", "requests answered, by code; `none` asked for no answer"
    ),
    Instrument("transcriber.request.latency_ms", "histogram", "ms", "from a request's arrival to its text"),
    Instrument("transcriber.files.running", "gauge", "{file}", "files that are being worked through"),
    Instrument("transcriber.files", "counter", "{file}", "files that are over, by how they ended"),
    Instrument("transcriber.revisions", "counter", "{message}", "texts published that replace earlier ones or a gap"),
    Instrument(
        "transcriber.revisions.left_out", "counter", "{passage}", "second passes that changed nothing, by reason"
    ),
)

# The SDK's own bounds end at 10 s. 25 s is 1.25 x L_max, the threshold of the latency alert.
BOUNDS_MS = (5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 20_000, 25_000, 30_000, 60_000)
