"""The dashboards of ``k8s/grafana``. In: the queries below. Out: Grafana's JSON, by its own library, so that it fits the schema.

    python docs/dashboards.py

writes what has changed. Names of metrics fit both ways in which they come to Prometheus: with the unit, as ``/metrics`` and a collector
have them, and without, as a collector may be set. The metrics of the broker are those of prometheus-nats-exporter.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import LegendDisplayMode, LegendPlacement
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    VariableRefresh,
)

FOLDER = Path(__file__).parents[1] / "k8s/grafana"
DATASOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
TAG = "transcriber"
RATE = "$__rate_interval"
COLUMNS = 24


@dataclass(frozen=True)
class Shown:
    """One panel: ``queries`` by their legends, ``unit`` as Grafana names it; a ``number`` is red from ``red`` on."""

    title: str
    queries: dict[str, str]
    about: str
    unit: str = "short"
    exemplars: bool = False
    number: bool = False
    red: float | None = None


@dataclass(frozen=True)
class Board:
    """One dashboard: rows of panels. ``variables`` are name and query of what can be chosen, all of it by default."""

    name: str
    title: str
    about: str
    variables: dict[str, str]
    rows: dict[str, Sequence[Shown]] = field(default_factory=dict)


def _rate(metric: str, *by: str, where: str = 'instance=~"$instance"') -> str:
    return f"sum by ({', '.join(by)}) (rate({metric}{{{where}}}[{RATE}]))"


def _count(metric: str, *by: str, where: str = 'instance=~"$instance"') -> str:
    return f"sum by ({', '.join(by)}) (increase({metric}{{{where}}}[{RATE}]))"


def _quantiles(pattern: str, *by: str, where: str = 'instance=~"$instance"') -> dict[str, str]:
    """Median, 95th and 99th of a histogram, by the pattern of its name."""
    series = f'rate({{__name__=~"{pattern}_bucket", {where}}}[{RATE}])'
    legend = " ".join(f"{{{{{label}}}}}" for label in by)
    return {
        f"{name} {legend}".strip(): f"histogram_quantile({share}, sum by ({', '.join(('le', *by))}) ({series}))"
        for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
    }


def _share(part: str, whole: str, where: str = 'instance=~"$instance"') -> str:
    return f"sum(rate({part}{{{where}}}[{RATE}])) / sum(rate({whole}{{{where}}}[{RATE}]))"


def _gauge(metric: str) -> str:
    return f'{metric}{{instance=~"$instance"}}'


def _named(pattern: str) -> str:
    """As ``_gauge``, of a metric whose name may end in its unit."""
    return f'{{__name__=~"{pattern}", instance=~"$instance"}}'


MS = "transcriber_{}_latency_ms(_milliseconds)?"
"""The name of a latency: the unit is twice in it, or once."""
ENQUEUED, DROPPED = "transcriber_jobs_enqueued_total", "transcriber_jobs_dropped_total"
INSTANCE = {"instance": "label_values(transcriber_queue_capacity, instance)"}

OVERVIEW = Board(
    "overview",
    "Transcriber: overview",
    "All daemons: what is served, how late text is, what was lost, and what text was doubtful.",
    INSTANCE,
    {
        "Now": (
            Shown(
                "daemons",
                {"": f"count({_gauge('transcriber_queue_capacity')})"},
                "Those that are scraped, or push.",
                number=True,
            ),
            Shown(
                "streams", {"": f"sum({_gauge('transcriber_streams_active')})"}, "With an open session.", number=True
            ),
            Shown(
                "stalled",
                {"": f"sum({_gauge('transcriber_streams_stalled')})"},
                "Open streams from which nothing arrives.",
                number=True,
                red=1,
            ),
            Shown(
                "fenced",
                {"": f"sum({_gauge('transcriber_streams_fenced')})"},
                "Streams that another daemon transcribes.",
                number=True,
                red=1,
            ),
            Shown(
                "lag",
                {"": f"max({_gauge('transcriber_lag_s')})"},
                "Of the slowest stream's text behind its stored audio.",
                unit="s",
                number=True,
                red=60,
            ),
            Shown(
                "windows lost",
                {"": f'sum(increase({DROPPED}{{instance=~"$instance"}}[$__range]))'},
                "In the time that is shown.",
                number=True,
                red=1,
            ),
        ),
        "Load": (
            Shown(
                "queue",
                {
                    "waiting {{instance}}": _gauge("transcriber_queue_depth"),
                    "room {{instance}}": _gauge("transcriber_queue_capacity"),
                },
                "Windows that wait, and that may wait. Where both meet, the next is dropped.",
            ),
            Shown(
                "busy",
                {"{{instance}}": _gauge("transcriber_worker_busy")},
                "Share of the time that workers spent on windows. At 1 another replica is needed.",
                unit="percentunit",
            ),
            Shown(
                "real-time factor",
                {"{{instance}}": _gauge("transcriber_rtf")},
                "Time of a window over its length: a worker does 1 / RTF streams.",
                unit="percentunit",
            ),
            Shown(
                "windows",
                {"queued": _rate(ENQUEUED), "without speech": _rate("transcriber_chunks_filtered_total")},
                "A second. Whisper does not run on those without speech.",
                unit="ops",
            ),
            Shown(
                "queue resized",
                {"{{instance}}": _count("transcriber_queue_resized_total", "instance")},
                "The capacity follows whisper's speed: often means a neighbour that takes the processor.",
            ),
            Shown("open windows", {"{{instance}}": _gauge("transcriber_buffer_size")}, "Samples at 16 kHz."),
        ),
        "Model": (
            Shown("loaded", {"{{model}}": f"count by (model) ({_gauge('transcriber_model')})"}, "Daemons, by model."),
            Shown(
                "swaps",
                {"{{outcome}}": _count("transcriber_model_swaps_total", "outcome")},
                "Refused and failed ones have changed nothing; the log says why.",
            ),
        ),
        "GPU": (
            Shown(
                "where whisper runs",
                {
                    "{{device}} {{description}} {{reason}}": f"count by (device, description, reason) ({_gauge('transcriber_device')})"
                },
                "Daemons, by device; a reason where it was to be a GPU.",
            ),
            Shown(
                "processes started again",
                {"{{instance}}": _count("transcriber_engine_restarts_total", "instance")},
                "Of whisper, with WHISPER_PROCESSES: each cost the window in hand. On a GPU most likely an error of the card.",
            ),
            Shown(
                "busy card",
                {"{{instance}} {{card}}": _gauge("transcriber_device_utilization")},
                "Share of the time in which a kernel ran, of all processes: at 1 there may still be room.",
                unit="percentunit",
            ),
            Shown(
                "memory of the card",
                {
                    "used {{instance}}": _named("transcriber_device_memory_used(_bytes)?"),
                    "there {{instance}}": _named("transcriber_device_memory_total(_bytes)?"),
                },
                "Of all processes. Where both meet, the next one runs on the CPU, or whisper.cpp ends.",
                unit="bytes",
            ),
            Shown(
                "temperature",
                {"{{instance}} {{card}}": _named("transcriber_device_temperature(_celsius)?")},
                "Of the card.",
                unit="celsius",
            ),
            Shown(
                "power",
                {"{{instance}} {{card}}": _named("transcriber_device_power(_watts)?")},
                "Of the card.",
                unit="watt",
            ),
        ),
        "How late": (
            Shown(
                "from audio to text",
                _quantiles(MS.format("end_to_end")),
                "From the last payload of a window to its text. A dot is a trace.",
                unit="ms",
                exemplars=True,
            ),
            Shown(
                "in the queue",
                _quantiles(MS.format("queue")),
                "Beyond half of MAX_LATENCY_SECS: scale out.",
                "ms",
                True,
            ),
            Shown("in whisper", _quantiles(MS.format("processing")), "Inside whisper calls.", "ms", True),
        ),
        "Lost": (
            Shown("gaps", {"{{reason}}": _count("transcriber_gaps_total", "reason")}, "Published, by reason."),
            Shown("windows dropped", {"{{reason}}": _count(DROPPED, "reason")}, "Each left a gap."),
            Shown(
                "payloads dropped",
                {"{{reason}}": _count("transcriber_chunks_dropped_total", "reason")},
                "An overlap was transcribed before; all else is lost.",
            ),
            Shown(
                "not sent, not read",
                {
                    "text not sent": _count("transcriber_messages_unsent_total"),
                    "messages not read": _count("transcriber_messages_malformed_total"),
                },
                "The broker was away for too long; messages that are no proper NATS messages.",
            ),
        ),
        "Doubtful": (
            Shown(
                "suppressed",
                {"{{reason}}": _count("transcriber_text_suppressed_total", "reason")},
                "Text that was held back, by what spoke against it. With the next: what to watch where nobody counts wrong words.",
            ),
            Shown(
                "share of windows",
                {
                    "suppressed": _share("transcriber_text_suppressed_total", ENQUEUED),
                    "last words left out": _share("transcriber_text_trimmed_total", ENQUEUED),
                    "transcribed again": _share("transcriber_jobs_redone_total", ENQUEUED),
                    "with less context": _share("transcriber_jobs_shortened_total", ENQUEUED),
                },
                "Of those queued.",
                unit="percentunit",
            ),
            Shown(
                "language, speakers",
                {
                    "language changed": _count("transcriber_language_changes_total"),
                    "speakers left out: {{reason}}": _count("transcriber_speakers_left_out_total", "reason"),
                },
                "Often changing languages mean noise, or a wrong WHISPER_LANGUAGES.",
            ),
            Shown(
                "second pass",
                {
                    "revised": _count("transcriber_revisions_total"),
                    "left as it was: {{reason}}": _count("transcriber_revisions_left_out_total", "reason"),
                },
                "Revisions of text and gaps.",
            ),
        ),
        "From and to the bus": (
            Shown(
                "payloads", {"{{instance}}": _rate("transcriber_chunks_received_total", "instance")}, "A second.", "ops"
            ),
            Shown(
                "odd payloads",
                {
                    "{{reason}}": _count("transcriber_chunks_odd_total", "reason"),
                    "flushed, though empty": _count("transcriber_flushes_empty_total"),
                },
                "Headers and bytes that were ignored, and Audio-Flush without audio.",
            ),
            Shown("partials", {"{{instance}}": _rate("transcriber_partials_total", "instance")}, "A second.", "ops"),
            Shown(
                "broker",
                {
                    "reconnects": _count("transcriber_nats_reconnects_total"),
                    "text sent again": _count("transcriber_publish_retries_total"),
                    "consumers reset": _count("transcriber_consumer_resets_total"),
                },
                "What daemons notice of its outages.",
            ),
            Shown(
                "live settings",
                {
                    "changed": _count("transcriber_config_changes_total"),
                    "refused": 'max(transcriber_config_refused{instance=~"$instance"})',
                },
                "Refused: keys whose latest value changes nothing, and 1 more while bucket or file cannot be read.",
            ),
        ),
    },
)

OF_STREAM = 'stream="$stream"'
STREAM = Board(
    "stream",
    "Transcriber: one stream",
    "Needs METRICS_PER_STREAM=1, and shows the first 300 streams of a daemon.",
    {"stream": f"label_values({ENQUEUED}, stream)"},
    {
        "Audio": (
            Shown("payloads", {"": _rate("transcriber_chunks_received_total", where=OF_STREAM)}, "A second.", "ops"),
            Shown(
                "payloads dropped",
                {"{{reason}}": _count("transcriber_chunks_dropped_total", "reason", where=OF_STREAM)},
                "By reason.",
            ),
            Shown(
                "odd payloads",
                {"{{reason}}": _count("transcriber_chunks_odd_total", "reason", where=OF_STREAM)},
                "Ignored parts.",
            ),
        ),
        "Text": (
            Shown(
                "windows",
                {
                    "queued": _count(ENQUEUED, where=OF_STREAM),
                    "without speech": _count("transcriber_chunks_filtered_total", where=OF_STREAM),
                    "partials": _count("transcriber_partials_total", where=OF_STREAM),
                    "revisions": _count("transcriber_revisions_total", where=OF_STREAM),
                },
                "What became of the audio.",
            ),
            Shown(
                "from audio to text",
                _quantiles(MS.format("end_to_end"), where=OF_STREAM),
                "A dot is a trace.",
                "ms",
                exemplars=True,
            ),
            Shown("in the queue", _quantiles(MS.format("queue"), where=OF_STREAM), "Streams take turns.", "ms", True),
            Shown(
                "in whisper", _quantiles(MS.format("processing"), where=OF_STREAM), "Inside whisper calls.", "ms", True
            ),
        ),
        "Lost and doubtful": (
            Shown("gaps", {"{{reason}}": _count("transcriber_gaps_total", "reason", where=OF_STREAM)}, "By reason."),
            Shown("windows dropped", {"{{reason}}": _count(DROPPED, "reason", where=OF_STREAM)}, "By reason."),
            Shown(
                "suppressed",
                {"{{reason}}": _count("transcriber_text_suppressed_total", "reason", where=OF_STREAM)},
                "Text that was held back.",
            ),
            Shown(
                "transcribed again, language",
                {
                    "again": _count("transcriber_jobs_redone_total", where=OF_STREAM),
                    "last words left out": _count("transcriber_text_trimmed_total", where=OF_STREAM),
                    "with less context": _count("transcriber_jobs_shortened_total", where=OF_STREAM),
                    "language changed": _count("transcriber_language_changes_total", where=OF_STREAM),
                },
                "Signs of noise, of another language, or of too small a model.",
            ),
        ),
    },
)

FILES = Board(
    "files",
    "Transcriber: clips, files and jobs",
    "Requests and jobs of all daemons. Which files failed, and why: transcriber jobs --state failed.",
    INSTANCE,
    {
        "Files": (
            Shown("running", {"{{instance}}": _gauge("transcriber_files_running")}, "Being transcribed."),
            Shown("ended", {"{{outcome}}": _count("transcriber_files_total", "outcome")}, "By outcome."),
        ),
        "Clips": (
            Shown("requests", {"{{code}}": _rate("transcriber_requests_total", "code")}, "A second, by code.", "ops"),
            Shown("from request to text", _quantiles(MS.format("request")), "A dot is a trace.", "ms", True),
        ),
        "The same workers": (
            Shown(
                "busy",
                {"{{instance}}": _gauge("transcriber_worker_busy")},
                "Files take what streams leave.",
                "percentunit",
            ),
            Shown(
                "windows waiting", {"{{instance}}": _gauge("transcriber_queue_depth")}, "Of streams, clips and files."
            ),
        ),
    },
)

OF_BROKER = 'server_id=~"$server"'
BROKER = Board(
    "broker",
    "Transcriber: broker",
    "Metrics of prometheus-nats-exporter with -varz -jsz=all.",
    {"server": "label_values(gnatsd_varz_connections, server_id)"},
    {
        "Server": (
            Shown("connections", {"{{server_id}}": f"gnatsd_varz_connections{{{OF_BROKER}}}"}, "Open ones."),
            Shown(
                "slow consumers",
                {"{{server_id}}": _count("gnatsd_varz_slow_consumers", "server_id", where=OF_BROKER)},
                "Clients that the broker has dropped: their messages are lost.",
            ),
            Shown(
                "messages",
                {
                    "in {{server_id}}": _rate("gnatsd_varz_in_msgs", "server_id", where=OF_BROKER),
                    "out {{server_id}}": _rate("gnatsd_varz_out_msgs", "server_id", where=OF_BROKER),
                },
                "A second.",
                "ops",
            ),
            Shown("memory", {"{{server_id}}": f"gnatsd_varz_mem{{{OF_BROKER}}}"}, "Resident.", "bytes"),
        ),
        "JetStream": (
            Shown(
                "stored",
                {"{{stream_name}}": f'jetstream_stream_total_bytes{{{OF_BROKER}, is_stream_leader="true"}}'},
                "Bytes of a stream. Where the audio's reach AUDIO_MAX_BYTES, the oldest goes.",
                "bytes",
            ),
            Shown(
                "room",
                {
                    "stored {{server_id}}": f"jetstream_server_total_message_bytes{{{OF_BROKER}}}",
                    "allowed {{server_id}}": f"jetstream_server_max_storage{{{OF_BROKER}}}",
                },
                "Of all streams together.",
                "bytes",
            ),
            Shown(
                "not read",
                {
                    "{{stream_name}} {{consumer_name}}": f'jetstream_consumer_num_pending{{{OF_BROKER}, is_consumer_leader="true"}}'
                },
                "Messages that wait for a daemon.",
            ),
            Shown(
                "not acknowledged",
                {
                    "{{stream_name}} {{consumer_name}}": (
                        f'jetstream_consumer_num_ack_pending{{{OF_BROKER}, is_consumer_leader="true"}}'
                    )
                },
                "Read, and not yet stored as text.",
            ),
            Shown(
                "delivered again",
                {
                    "{{stream_name}} {{consumer_name}}": (
                        f'jetstream_consumer_num_redelivered{{{OF_BROKER}, is_consumer_leader="true"}}'
                    )
                },
                "After a daemon died, or did not answer.",
            ),
        ),
    },
)

OF_HTTP = "http_server_request_duration(_seconds)?"
GATEWAY = Board(
    "gateway",
    "Transcriber: gateway",
    "HTTP and WebSocket. Probes are not counted.",
    {"instance": "label_values(transcriber_gateway_jobs_total, instance)"},
    {
        "Requests": (
            Shown(
                "requests",
                {
                    "{{http_route}} {{http_response_status_code}}": "sum by (http_route, http_response_status_code) "
                    f'(rate({{__name__=~"{OF_HTTP}_count", instance=~"$instance"}}[{RATE}]))'
                },
                "A second, by route and status.",
                "ops",
            ),
            Shown("duration", _quantiles(OF_HTTP, "http_route"), "By route. A dot is a trace.", "s", True),
            Shown(
                "open requests",
                {
                    "{{http_request_method}}": 'sum by (http_request_method) (http_server_active_requests{instance=~"$instance"})'
                },
                "By method.",
            ),
        ),
        "Refused": (
            Shown("refusals", {"{{reason}}": _count("transcriber_gateway_refusals_total", "reason")}, "By reason."),
            Shown(
                "slow readers",
                {"{{reason}}": _count("transcriber_gateway_readers_dropped_total", "reason")},
                "Dropped, by reason.",
            ),
        ),
        "Connections": (
            Shown(
                "open",
                {"{{kind}}": 'sum by (kind) (transcriber_gateway_connections{instance=~"$instance"})'},
                "WebSockets and event streams.",
            ),
            Shown(
                "received",
                {
                    "{{kind}}": "sum by (kind) "
                    f'(rate({{__name__=~"transcriber_gateway_received(_bytes)?_total", instance=~"$instance"}}[{RATE}]))'
                },
                "Bodies and messages.",
                "Bps",
            ),
            Shown(
                "jobs and sessions",
                {
                    "uploads as jobs": _count("transcriber_gateway_jobs_total"),
                    "sessions resumed, {{mode}}": _count("transcriber_gateway_sessions_resumed_total", "mode"),
                },
                "Uploads that were too large for a request; audio that went on after a reconnect.",
            ),
        ),
    },
)

BOARDS = (OVERVIEW, STREAM, FILES, BROKER, GATEWAY)


def as_json(board: Board) -> str:
    """The dashboard, as Grafana imports it."""
    builder = (
        dashboard.Dashboard(board.title)
        .uid(f"transcriber-{board.name}")
        .description(board.about)
        .tags([TAG])
        .timezone("browser")
        .refresh("30s")
        .time("now-1h", "now")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .editable()
        .link(
            dashboard.DashboardLink("Transcriber")
            .type(DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .as_dropdown(True)
            .keep_time(True)
        )
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    )
    for name, query in board.variables.items():
        variable = dashboard.QueryVariable(name).label(name).query(query).datasource(DATASOURCE)
        variable.refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        if name != "stream":
            variable.multi(True).include_all(True).all_value(".*")
        builder.with_variable(variable)
    number = 0
    for row, shown in board.rows.items():
        number += 1
        builder.with_row(dashboard.Row(row).id(number))
        for one in shown:
            number += 1
            builder.with_panel(_panel(one).id(number).span(COLUMNS // min(len(shown), 4 if not one.number else 6)))
    return json.dumps(builder.build(), cls=JSONEncoder, indent=1, sort_keys=True) + "\n"


def _panel(shown: Shown) -> timeseries.Panel | stat.Panel:
    panel = stat.Panel().height(4) if shown.number else _lines()
    panel.title(shown.title).description(shown.about).unit(shown.unit).datasource(DATASOURCE)
    if shown.red is not None:
        steps = [Threshold(None, "green"), Threshold(shown.red, "red")]
        panel.thresholds(dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
    for reference, (legend, expression) in enumerate(shown.queries.items()):
        query = prometheus.Dataquery().expr(expression).legend_format(legend).ref_id(chr(ord("A") + reference))
        panel.with_target(query.exemplar(True) if shown.exemplars else query)
    return panel


def _lines() -> timeseries.Panel:
    legend = common.VizLegendOptions().show_legend(True).placement(LegendPlacement.BOTTOM)
    return timeseries.Panel().height(8).min(0).fill_opacity(10).legend(legend.display_mode(LegendDisplayMode.LIST))


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for board in BOARDS:
        path = FOLDER / f"{board.name}.json"
        new = as_json(board)
        if not path.exists() or path.read_text() != new:
            path.write_text(new)


if __name__ == "__main__":
    main()
