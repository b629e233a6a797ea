"""A plan for people, and for Kubernetes. In: a ``Plan``. Out: a table; a kustomization, as YAML."""

import json
import math
from pathlib import Path

from rich.box import SIMPLE
from rich.filesize import decimal
from rich.table import Table

from transcriber import __version__
from transcriber.config import Settings, settings_fields
from transcriber.errors import ConfigError
from transcriber.models.catalog import DEMO, model_path
from transcriber.plan.given import as_text, given
from transcriber.plan.sizing import GIBIBYTE, HEADROOM, MEBIBYTE, Plan, Wishes

OF_THE_CHART = frozenset({"DURABLE", "BACKFILL", "PARTITIONS", "FILES"})
"""Settings that it makes itself."""

OF_JETSTREAM = frozenset(
    {"STREAM_REPLICAS", "AUDIO_MAX_AGE_SECS", "AUDIO_MAX_BYTES", "TRANSCRIPT_MAX_AGE_SECS", "TRANSCRIPT_MAX_BYTES"}
)
"""Settings of what is made before daemons start, by others."""

MODELS = Path("/models")
"""Where pods have the volume of model files."""

OF_A_GPU = (
    f"images:\n- name: transcriber\n  newTag: {__version__}-cuda\n",
    ", nvidia.com/gpu: 1",
    "    - {op: add, path: /spec/template/spec/tolerations, value: [{key: nvidia.com/gpu, operator: Exists, effect: NoSchedule}]}\n",
)
"""What ``k8s/overlays/gpu`` has: the image, a limit, and what a pod tolerates."""


def as_table(plan: Plan, settings: Settings, wishes: Wishes) -> Table:
    """A table for the terminal."""
    table = Table(title=f"{plan.streams} streams of {plan.model}, {plan.mode}", box=SIMPLE, show_header=False)
    table.add_column(justify="left")
    table.add_column(justify="left")
    table.add_row("daemons", f"{plan.replicas}, {_shares(plan)}")
    table.add_row("each", f"{plan.cores} cores, {plan.memory_bytes // MEBIBYTE} MiB; {_arrangement(plan)}")
    table.add_row("the most that one carries", f"{plan.most_streams} streams; {wishes.spare:.0%} are left free")
    table.add_row("cores in all", str(plan.replicas * plan.cores))
    if plan.mode == "durable":
        table.add_row("windows dropped", "none: audio waits on the broker")
    else:
        spread = f"{plan.loss_low:.2%} to {plan.loss_high:.2%} in {wishes.seeds} simulations"
        table.add_row("windows dropped", f"{plan.loss:.2%} ({spread}); the queue holds {plan.queue_capacity}")
    table.add_row(
        "text after its window",
        f"{plan.latency_p50_s:.1f} s (p50), {plan.latency_p95_s:.1f} s (p95, fullest daemon)",
    )
    table.add_row("workers busy", f"{plan.busy:.0%}; {plan.shortened:.0%} of windows without left context")
    if settings.files:
        table.add_row("files beside it", f"{plan.file_hours_a_day:g} hours of audio a day")
    table.add_row(
        "network", f"audio {_rate(plan.audio_in)} in, text {_rate(plan.text_out)}, broker {_rate(plan.broker_out)} out"
    )
    if plan.copies:
        times = f" on each of {plan.copies} brokers" if plan.copies > 1 else ""
        table.add_row("JetStream", f"{_size(plan.audio_bytes)} of audio, {_size(plan.text_bytes)} of text{times}")
    return table


def as_kustomization(plan: Plan, settings: Settings) -> str:
    """An overlay of ``k8s/base`` or ``k8s/partitions``, for a folder in ``k8s/overlays``; and, as comments, what ``k8s/provision`` needs."""
    partitions = plan.copies > 0
    kind = "StatefulSet" if partitions else "Deployment"
    found = _literals(plan, settings)
    replicas = f"    - {{op: replace, path: /spec/replicas, value: {plan.replicas}}}\n" if partitions else ""
    images, limit, tolerations = OF_A_GPU if _on_gpu(settings) else ("", "", "")
    return f"""\
{_headline(plan)}apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [../../{"partitions" if partitions else "base"}]
{images}configMapGenerator:
- name: transcriber
  behavior: merge
  literals:
{_as_lines(found)}patches:
- target: {{kind: {kind}}}
  patch: |
{replicas}    - op: replace
      path: /spec/template/spec/containers/0/resources
      value:
        requests: {{cpu: "{plan.cores}", memory: {plan.memory_bytes // MEBIBYTE}Mi}}
        limits: {{memory: {2 * plan.memory_bytes // MEBIBYTE}Mi{limit}}}
{tolerations}    - {{op: test, path: /spec/template/spec/containers/0/env/0/name, value: WHISPER_THREADS}}
    - op: replace
      path: /spec/template/spec/containers/0/env/0
      value: {{name: WHISPER_THREADS, value: "{plan.threads}"}}
{_provision(found) if plan.copies or settings.files else ""}"""


def as_values(plan: Plan, settings: Settings) -> str:
    """Values of the chart in ``k8s/chart``, of all partitions or of the first of the live daemons; JSON, which is YAML.

    Raises:
        ConfigError: the chart has no such daemons.
    """
    if plan.mode == "backfill":
        raise ConfigError("BACKFILL=1: the chart has no partitions for it; take --kustomization")
    if settings.files:
        raise ConfigError("FILES=1: the chart has daemons for files alone; take --kustomization")
    memory = plan.memory_bytes // MEBIBYTE
    found = {name: text for name, text in _literals(plan, settings).items() if name not in OF_THE_CHART}
    daemon: dict[str, object] = {
        "settings": {name: text for name, text in found.items() if name not in OF_JETSTREAM}
        | {"WHISPER_THREADS": str(plan.threads)},
        "resources": {
            "requests": {"cpu": str(plan.cores), "memory": f"{memory}Mi"},
            "limits": {"memory": f"{2 * memory}Mi"},
        },
    }
    if _on_gpu(settings):
        daemon["gpu"] = True
    # Of all: the Job that makes JetStream's streams, and the partitions that check them, must have the same.
    values: dict[str, object] = {"settings": {name: text for name, text in found.items() if name in OF_JETSTREAM}}
    if plan.copies:
        values |= {
            "partitions": {"enabled": True, "replicas": plan.replicas} | daemon,
            "nack": {
                "streams": {
                    stream: {"maxAge": f"{found[f'{of}_MAX_AGE_SECS']}s", "maxBytes": int(found[f"{of}_MAX_BYTES"])}
                    for stream, of in (("AUDIO", "AUDIO"), ("TRANSCRIPTS", "TRANSCRIPT"))
                }
            },
        }
    else:
        values["streams"] = {"part-1": daemon}
    return f"{_headline(plan)}{json.dumps(values, indent=2)}\n"


def _headline(plan: Plan) -> str:
    """What it is of, as comments."""
    line = f"# {plan.streams} streams of {plan.model}, {plan.mode}: {plan.replicas} daemons, {_shares(plan)}; `transcriber plan`.\n"
    if plan.copies or plan.replicas == 1:
        return line
    return f"{line}# One of {plan.replicas} alike, each with a prefix of its own in AUDIO_SUBJECT.\n"


def _literals(plan: Plan, settings: Settings) -> dict[str, str]:
    """Settings of each daemon: what follows from the plan, and what it was planned with."""
    found = _model(plan.model) | {
        "WHISPER_PROCESSES" if plan.processes else "WHISPER_WORKERS": str(plan.workers),
        "MAX_LATENCY_SECS": as_text(settings.max_latency_secs),
    }
    if plan.replica_streams > settings_fields()["max_streams"].default:
        found["MAX_STREAMS"] = str(plan.replica_streams)
    if plan.copies:
        found |= {
            "DURABLE": as_text(settings.durable),
            "BACKFILL": as_text(settings.backfill),
            "PARTITIONS": str(plan.replicas),
            "STREAM_REPLICAS": str(plan.copies),
            "AUDIO_MAX_AGE_SECS": as_text(settings.audio_max_age_secs),
            "AUDIO_MAX_BYTES": _limit(plan.audio_bytes),
            "TRANSCRIPT_MAX_AGE_SECS": as_text(settings.transcript_max_age_secs),
            "TRANSCRIPT_MAX_BYTES": _limit(plan.text_bytes),
        }
    else:
        found["AUDIO_SUBJECT"] = "audio.*" if plan.replicas == 1 else "audio.1.*"
    found |= given(settings)
    if _on_gpu(settings):
        found["WHISPER_DEVICE"] = "cuda"  # a pod has one card, whatever its number was where it was calibrated
    return found


def _model(name: str) -> dict[str, str]:
    """The path, since ``k8s/base`` has one, which wins over a name."""
    if name == DEMO:
        return {"WHISPER_MODEL_PATH": "", "WHISPER_MODEL": DEMO}
    return {"WHISPER_MODEL_PATH": str(model_path(MODELS, name))}


def _on_gpu(settings: Settings) -> bool:
    return settings.whisper_device.startswith("cuda")


def _provision(literals: dict[str, str]) -> str:
    """What makes the streams must know of them, as comments: one file is one kustomization."""
    needed = {name: text for name, text in literals.items() if name in {*OF_JETSTREAM, "PARTITIONS", "FILES"}}
    lines = _as_lines(needed).replace("  - ", "#   - ")
    return f"# Of the literals in k8s/provision/kustomization.yaml, which makes the streams, these:\n{lines}"


def _as_lines(literals: dict[str, str]) -> str:
    """Items of a list in YAML: what is given may hold what means something there."""
    return "".join(f"  - {json.dumps(f'{name}={text}', ensure_ascii=False)}\n" for name, text in literals.items())


def _limit(stored_bytes: int) -> str:
    return str(GIBIBYTE * max(1, math.ceil(HEADROOM * stored_bytes / GIBIBYTE)))


def _shares(plan: Plan) -> str:
    if plan.replicas == 1:
        return f"{plan.streams} streams"
    return f"{'at most ' if plan.partitions else ''}{plan.replica_streams} streams each"


def _arrangement(plan: Plan) -> str:
    return (
        f"{'WHISPER_PROCESSES' if plan.processes else 'WHISPER_WORKERS'}={plan.workers} WHISPER_THREADS={plan.threads}"
    )


def _rate(bytes_s: float) -> str:
    return f"{decimal(round(bytes_s))}/s"


def _size(size_bytes: float) -> str:
    return f"{size_bytes / GIBIBYTE:.1f} GiB"
