"""Where the broker is, credentials and TLS. In: settings, the files they name. Out: options for nats-py, or an error of one line."""

import base64
import re
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nkeys

from transcriber.config import Settings, mask
from transcriber.config.nats_context import NatsContext, read_context
from transcriber.errors import ConfigError


@dataclass(frozen=True, slots=True)
class BrokerAccess:
    """How to connect.

    Attributes:
        url: addresses, separated by commas, with the passwords in them.
        setting: what named them: ``NATS_URL``, or ``NATS_CONTEXT=name``.
        options: credentials and TLS, as nats-py's ``connect`` takes them.
    """

    url: str
    setting: str
    options: dict[str, Any]

    @property
    def named(self) -> str:
        """Setting and addresses, without passwords."""
        return f"{self.setting}{'=' if self.setting == 'NATS_URL' else ', '}{mask(self.url)}"


def broker_access(settings: Settings) -> BrokerAccess:
    """Every file is checked here, before the endless retries. What is set wins over the context, credentials as a whole.

    Raises:
        ConfigError: there is no such context, or a file cannot be used.
    """
    context = read_context(settings.nats_context) if settings.nats_context else NatsContext()
    label = f"NATS_CONTEXT={settings.nats_context}: "
    given = settings.model_fields_set
    url, setting = settings.nats_url, "NATS_URL"
    if context.url and "nats_url" not in given:
        url, setting = context.url, label.removesuffix(": ")
    inbox_prefix = settings.nats_inbox_prefix
    if context.inbox_prefix and "nats_inbox_prefix" not in given:
        inbox_prefix = context.inbox_prefix
    options: dict[str, Any] = {"inbox_prefix": inbox_prefix}
    if settings.nats_creds:
        options["user_credentials"] = _with_seed("NATS_CREDS=", settings.nats_creds)
    elif settings.nats_nkey_seed_file:
        options["nkeys_seed"] = _with_seed("NATS_NKEY_SEED_FILE=", settings.nats_nkey_seed_file)
    elif setting != "NATS_URL" or "@" not in url:
        options |= _login(context, label)
    options |= _tls(settings, context, label, url)
    return BrokerAccess(url, setting, options)


def _login(context: NatsContext, label: str) -> dict[str, Any]:
    """The credentials of a context; a token may come with a key, for a broker that asks another (auth callout)."""
    options: dict[str, Any] = {"token": context.token} if context.token else {}
    if context.user:
        options |= {"user": context.user, "password": context.password or ""}
    if context.creds:
        options["user_credentials"] = _with_seed(f"{label}creds=", context.creds)
    if context.nkey:
        options["nkeys_seed"] = _with_seed(f"{label}nkey=", context.nkey)
    if jwt := context.user_jwt:
        seed = (context.user_seed or "").encode()
        if seed:
            _check_seed(f"{label}user_seed", seed)
        options["user_jwt_cb"] = lambda: bytearray(jwt, "utf-8")
        options["signature_cb"] = lambda nonce: _signed(seed, nonce)
    return options


def _signed(seed: bytes, nonce: str) -> bytes:
    """The broker's nonce, signed; nothing without a seed, as a bearer token needs none."""
    if not seed:
        return b""
    pair = nkeys.from_seed(bytearray(seed))
    signature = base64.b64encode(pair.sign(nonce.encode()))
    pair.wipe()
    return signature


def _with_seed(label: str, path: Path) -> str:
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{label}{path}: {error.strerror}") from None
    seed = re.search(rb"\bS[A-Z2-7]{57}\b", text)
    _check_seed(f"{label}{path}", seed[0] if seed else b"")
    return str(path)


def _check_seed(label: str, seed: bytes) -> None:
    try:
        nkeys.from_seed(bytearray(seed)).wipe()
    except Exception:  # noqa: BLE001 - nkeys raises whatever its parser meets; the seed must not be shown
        raise ConfigError(f"{label}: no nkey seed in it") from None


def _tls(settings: Settings, context: NatsContext, label: str, url: str) -> dict[str, Any]:
    """nats-py's options of TLS; certificate and key are from the same place."""
    files: dict[str, Path | None]
    files = {"NATS_TLS_CA=": settings.nats_tls_ca} if settings.nats_tls_ca else {f"{label}ca=": context.ca}
    if settings.nats_tls_cert:
        pair = {"NATS_TLS_CERT=": settings.nats_tls_cert, "NATS_TLS_KEY=": settings.nats_tls_key}
    else:
        pair = {f"{label}cert=": context.cert, f"{label}key=": context.key}
    (ca,), (certificate, key) = files.values(), pair.values()
    if not (ca or certificate or context.tls_first or "tls://" in url):
        return {}
    options: dict[str, Any] = {"tls_handshake_first": True} if context.tls_first else {}
    return options | {"tls": _tls_context(files | pair, ca, certificate, key)}


def _tls_context(
    named: dict[str, Path | None], ca: Path | None, certificate: Path | None, key: Path | None
) -> ssl.SSLContext:
    for label, path in named.items():
        if path and not path.is_file():
            raise ConfigError(f"{label}{path}: no such file")
    try:
        context = ssl.create_default_context(cafile=ca)
        if certificate and key:
            context.load_cert_chain(certificate, key)
    except (ssl.SSLError, OSError) as error:
        used = ", ".join(f"{label}{path}" for label, path in named.items() if path and path != key)
        raise ConfigError(f"{used}: not usable as PEM: {error}") from None
    return context
