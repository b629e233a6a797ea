"""OpenTelemetry's environment variables that the SDK leaves to the application, checked."""

import math
import os
from dataclasses import dataclass
from typing import Literal

from transcriber.config import mask
from transcriber.errors import ConfigError

EXPORTERS = {
    "METRICS": ("otlp", "prometheus", "console", "none"),
    "TRACES": ("otlp", "console", "none"),
    "LOGS": ("otlp", "console", "none"),
}
"""By signal; the variable may name several, separated by commas."""
METRICS_EXPORTER = "otlp"
"""Where ``OTEL_METRICS_EXPORTER`` names none."""
PROMETHEUS_PORT = "OTEL_EXPORTER_PROMETHEUS_PORT"


@dataclass(frozen=True, slots=True)
class Signal:
    """How metrics, traces or logs are exported: ``exporters`` has none if they are not; ``protocol`` is for otlp."""

    exporters: tuple[str, ...]
    protocol: str


def read_signal(name: Literal["METRICS", "TRACES", "LOGS"], *, default: str) -> Signal:
    """The variables of one signal; without an endpoint, OTLP is none.

    Raises:
        ConfigError: names the variable, the value and what is allowed, in one line.
    """
    exporters = _choices(f"OTEL_{name}_EXPORTER", default, EXPORTERS[name])
    protocol = _choice(_otlp(name, "PROTOCOL"), "grpc", ("grpc", "http/protobuf"))
    endpoint_variable, endpoint = _first(_otlp(name, "ENDPOINT"))
    if not endpoint:
        exporters = tuple(exporter for exporter in exporters if exporter != "otlp")
    if _first(("OTEL_SDK_DISABLED",))[1].lower() == "true" or not exporters:
        return Signal((), protocol)
    for variable in ("OTEL_METRIC_EXPORT_INTERVAL", "OTEL_METRIC_EXPORT_TIMEOUT", *_otlp(name, "TIMEOUT")):
        _positive(variable)
    if "otlp" in exporters and protocol == "grpc":
        _choice(_otlp(name, "COMPRESSION"), "gzip", ("gzip",))
    elif "otlp" in exporters and not endpoint.startswith(("http://", "https://")):
        raise ConfigError(f"{endpoint_variable}={mask(endpoint)!r}: must start with http:// or https://")
    return Signal(exporters, protocol)


def prometheus_address() -> tuple[str, int]:
    """Host and port of ``/metrics``; port 0 is any free one.

    Raises:
        ConfigError: the port is none.
    """
    port = os.environ.get(PROMETHEUS_PORT, "").strip() or "9464"
    if not (port.isascii() and port.isdecimal() and int(port) < 2**16):
        raise ConfigError(f"{PROMETHEUS_PORT}={port!r}: must be a port, 0 to 65535")
    return os.environ.get("OTEL_EXPORTER_PROMETHEUS_HOST", "").strip() or "localhost", int(port)


def next_prometheus_port() -> dict[str, str]:
    """The variable for another process on this machine, which has the same environment; none where nothing listens for Prometheus.

    Raises:
        ConfigError: a variable of the metrics has a value that is not allowed.
    """
    if "prometheus" not in read_signal("METRICS", default=METRICS_EXPORTER).exporters:
        return {}
    port = prometheus_address()[1]
    return {PROMETHEUS_PORT: str((port + 1) % 2**16 if port else 0)}


def _otlp(name: str, option: str) -> tuple[str, str]:
    """The two variables of an option, by precedence."""
    return f"OTEL_EXPORTER_OTLP_{name}_{option}", f"OTEL_EXPORTER_OTLP_{option}"


def _first(variables: tuple[str, ...]) -> tuple[str, str]:
    """The first variable that is set, and its value; an empty one counts as not set."""
    values = ((variable, os.environ.get(variable, "").strip()) for variable in variables)
    return next((found for found in values if found[1]), (variables[-1], ""))


def _choices(variable: str, default: str, allowed: tuple[str, ...]) -> tuple[str, ...]:
    """Each of a list once; empty for ``none``."""
    value = _first((variable,))[1]
    chosen = tuple(dict.fromkeys(one.strip().lower() for one in (value or default).split(",")))
    if not set(chosen) <= set(allowed):
        raise ConfigError(f"{variable}={value!r}: must be {' or '.join(allowed)}")
    if "none" in chosen and len(chosen) > 1:
        raise ConfigError(f"{variable}={value!r}: none excludes the others")
    return () if chosen == ("none",) else chosen


def _choice(variables: tuple[str, ...], default: str, allowed: tuple[str, ...]) -> str:
    variable, value = _first(variables)
    if (value or default).lower() not in allowed:
        raise ConfigError(f"{variable}={value!r}: must be {' or '.join(allowed)}")
    return (value or default).lower()


def _positive(variable: str) -> None:
    value = os.environ.get(variable, "").strip() or "1"
    try:
        good = 0 < float(value) < math.inf
    except ValueError:
        good = False
    if not good:
        raise ConfigError(f"{variable}={value!r}: must be a number above 0")
