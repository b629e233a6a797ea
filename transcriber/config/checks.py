"""Checks of single settings. In: a value as given. Out: the value to keep, or a ``ValueError`` that says what is allowed."""

import re
from typing import Any
from urllib.parse import SplitResult, urlsplit

from transcriber.config.sizing import FORCED_AUDIO_CTX
from transcriber.schema.languages import WHISPER_LANGUAGES, language_code
from transcriber.schema.subjects import STREAM_NAME, SUBJECT_TOKEN

MAX_WORKERS = 64

SELECTED = "@selected"
"""Names the context that was chosen with ``nats context select``."""


def check_audio_subject(value: str) -> str:
    *head, last = value.split(".")
    if not head or not all(map(SUBJECT_TOKEN.fullmatch, head)):
        raise ValueError("must be a literal prefix and one last token, such as audio.* or audio.radio-7")
    if last != "*" and not STREAM_NAME.fullmatch(last):
        raise ValueError("the last token must be * or a stream name ([A-Za-z0-9_-], at most 64)")
    return value


def check_stream_name(value: str) -> str:
    if not STREAM_NAME.fullmatch(value):
        raise ValueError("must be a name ([A-Za-z0-9_-], at most 64)")
    return value


def check_bucket_name(value: str) -> str:
    return value and check_stream_name(value)


def to_whole_number(value: Any) -> Any:
    """A number from the environment, for a ``Literal`` of numbers."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value


def check_literal_subject(value: str) -> str:
    if not all(map(SUBJECT_TOKEN.fullmatch, value.split("."))):
        raise ValueError("must be a literal subject ([A-Za-z0-9_-], tokens separated by dots)")
    return value


def check_broker_addresses(value: str) -> str:
    if any(url is None or url.scheme not in {"nats", "tls"} for url in _urls(value)):
        raise ValueError("must be nats://host:port or tls://host:port, separated by commas")
    return value


def check_context_name(value: str) -> str:
    if "/" in value or ".." in value or not value.isprintable():
        raise ValueError(f"must be the name of a context, without / and .., or {SELECTED}")
    return value


def check_hub_addresses(value: str) -> str:
    if any(url is None or url.scheme not in {"http", "https"} or url.username is not None for url in _urls(value)):
        raise ValueError("must be http://host/path or https://host/path, separated by commas, no password")
    return value


def _urls(value: str) -> list[SplitResult | None]:
    """The URLs of a comma-separated list; None for one without a host, or with an invalid port."""
    urls: list[SplitResult | None] = []
    for text in value.split(","):
        try:
            url = urlsplit(text.strip())
            urls.append(url if url.hostname and url.port != 0 else None)
        except ValueError:
            urls.append(None)
    return urls


def to_language_code(value: str) -> str:
    code = "auto" if value.lower() == "auto" else language_code(value)
    if code is None:
        raise ValueError("must be auto, a code such as en, or the English name of a language")
    return code


def to_language_codes(value: str) -> str:
    names = [name.strip() for name in value.split(",") if name.strip()]
    codes = [language_code(name) for name in names]
    if wrong := [name for name, code in zip(names, codes, strict=True) if code not in WHISPER_LANGUAGES]:
        raise ValueError(f"must be codes such as en,de, or English names of languages; Whisper has no {wrong[0]!r}")
    return ",".join(dict.fromkeys(code for code in codes if code))


def to_audio_ctx(value: Any) -> Any:
    if value in {"auto", FORCED_AUDIO_CTX}:
        return value
    if isinstance(value, str):
        value = int(value) if value.isdecimal() else -1
    # Flash attention reads stale padding at any other value (whisper.cpp PR 3941).
    if value not in {0, 256, 512, 768, 1024, 1280, 1500}:
        raise ValueError("must be auto, 0, 1500 or a multiple of 256 below")
    return value


def check_device(value: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:(0|[1-9][0-9]?))?", value):
        raise ValueError("must be auto, cpu, cuda or cuda:N, where N is the number of a card, from 0")
    return value


def to_processes(value: Any) -> Any:
    if value == "auto":
        return value
    number = int(value) if isinstance(value, str) and value.isdecimal() else value
    if not isinstance(number, int) or not 0 <= number <= MAX_WORKERS:
        raise ValueError(f"must be auto, or a number from 0 to {MAX_WORKERS}")
    return number


def to_upper_case(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


def check_origins(value: str) -> str:
    """Origins of pages, as browsers send them, in small letters: ``https://host[:port]``, separated by commas; or ``*``."""
    origins = [origin.strip().lower() for origin in value.split(",") if origin.strip()]
    for origin in origins:
        if origin != "*" and not re.fullmatch(
            r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:]+\](:[0-9]{1,5})?", origin
        ):
            raise ValueError(f"{origin!r} is no origin such as https://example.org")
    return ",".join(origins)
