"""OpenTelemetry's environment variables that the SDK leaves to the application, checked."""

import math
import os
from dataclasses import dataclass
from typing import Literal

from transcriber.config import mask
from transcriber.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Signal:
    """How metrics or traces are exported: ``exporter`` is otlp, console or none; ``protocol`` is for otlp."""

    exporter: str
    protocol: str


def read_signal(name: Literal["METRICS", "TRACES"], *, default: str) -> Signal:
    """The variables of one signal; without an endpoint, OTLP is ``none``.

    Raises:
        ConfigError: names the variable, the value and what is allowed, in one line.
    """
    exporter = _choice((f"OTEL_{name}_EXPORTER",), default, ("otlp", "console", "none"))
    protocol = _choice(_otlp(name, "PROTOCOL"), "grpc", ("grpc", "http/protobuf"))
    endpoint_variable, endpoint = _first(_otlp(name, "ENDPOINT"))
    if _first(("OTEL_SDK_DISABLED",))[1].lower() == "true" or (exporter == "otlp" and not endpoint):
        return Signal("none", protocol)
    for variable in ("OTEL_METRIC_EXPORT_INTERVAL", "OTEL_METRIC_EXPORT_TIMEOUT", *_otlp(name, "TIMEOUT")):
        _positive(variable)
    if exporter == "otlp" and protocol == "grpc":
        _choice(_otlp(name, "COMPRESSION"), "gzip", ("gzip",))
    elif exporter == "otlp" and not endpoint.startswith(("http://", "https://")):
        raise ConfigError(f"{endpoint_variable}={mask(endpoint)!r}: must start with http:// or https://")
    return Signal(exporter, protocol)


def _otlp(name: str, option: str) -> tuple[str, str]:
    """The two variables of an option, by precedence."""
    return f"OTEL_EXPORTER_OTLP_{name}_{option}", f"OTEL_EXPORTER_OTLP_{option}"


def _first(variables: tuple[str, ...]) -> tuple[str, str]:
    """The first variable that is set, and its value; an empty one counts as not set."""
    values = ((variable, os.environ.get(variable, "").strip()) for variable in variables)
    return next((found for found in values if found[1]), (variables[-1], ""))


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
