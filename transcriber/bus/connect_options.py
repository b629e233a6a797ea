"""Credentials and TLS. In: settings, and the files they name. Out: options for nats-py, or an error of one line."""

import re
import ssl
from pathlib import Path
from typing import Any

import nkeys

from transcriber.config import Settings
from transcriber.errors import ConfigError


def connect_options(settings: Settings) -> dict[str, Any]:
    """Credentials and TLS as nats-py takes them; every file is checked here, before the endless retries.

    Raises:
        ConfigError: a file cannot be used.
    """
    options: dict[str, Any] = {"inbox_prefix": settings.nats_inbox_prefix}
    if settings.nats_creds:
        _check_seed("NATS_CREDS", settings.nats_creds)
        options["user_credentials"] = str(settings.nats_creds)
    if settings.nats_nkey_seed_file:
        _check_seed("NATS_NKEY_SEED_FILE", settings.nats_nkey_seed_file)
        options["nkeys_seed"] = str(settings.nats_nkey_seed_file)
    if settings.nats_tls_ca or settings.nats_tls_cert or "tls://" in settings.nats_url:
        options["tls"] = _tls_context(settings)
    return options


def _check_seed(variable: str, path: Path) -> None:
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{variable}={path}: {error.strerror}") from None
    seed = re.search(rb"\bS[A-Z2-7]{57}\b", text)
    try:
        nkeys.from_seed(bytearray(seed[0] if seed else b"")).wipe()
    except Exception:  # noqa: BLE001 - nkeys raises whatever its parser meets; the seed must not be shown
        raise ConfigError(f"{variable}={path}: no nkey seed in it") from None


def _tls_context(settings: Settings) -> ssl.SSLContext:
    named = {"NATS_TLS_CA": settings.nats_tls_ca, "NATS_TLS_CERT": settings.nats_tls_cert}
    for variable, path in (named | {"NATS_TLS_KEY": settings.nats_tls_key}).items():
        if path and not path.is_file():
            raise ConfigError(f"{variable}={path}: no such file")
    try:
        context = ssl.create_default_context(cafile=settings.nats_tls_ca)
        if settings.nats_tls_cert and settings.nats_tls_key:
            context.load_cert_chain(settings.nats_tls_cert, settings.nats_tls_key)
    except (ssl.SSLError, OSError) as error:
        used = ", ".join(f"{variable}={path}" for variable, path in named.items() if path)
        raise ConfigError(f"{used}: not usable as PEM: {error}") from None
    return context
