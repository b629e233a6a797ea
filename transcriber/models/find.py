"""The model's setting to a file on this machine, downloaded once where it has to be.

In: ``WHISPER_MODEL_PATH`` or ``WHISPER_MODEL``. Out: a path. A name is downloaded to a temporary
file beside its place, compared with its checksum, and renamed: a file with the right name is whole.
"""

import hashlib
import http.client
import logging
import os
import threading
import time
import uuid
from collections.abc import Generator
from contextlib import closing, suppress
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from transcriber.config import Settings
from transcriber.errors import ConfigError, ModelError

log = logging.getLogger(__name__)

_downloading = threading.Lock()
"""Several workers ask at the same time; one of them downloads."""

HUB = "https://huggingface.co/ggerganov/whisper.cpp/resolve/main"
DEMO = "demo"
DEMO_MODEL = Path(__file__).parents[1] / "demo" / "model.bin"
TIMEOUT_S = 30.0
"""Longest wait for the hub to connect, and between two pieces of a download."""

PIECE_BYTES = 2**20

SHA1 = {
    "tiny": "bd577a113a864445d4c299885e0cb97d4ba92b5f",
    "tiny-q5_1": "2827a03e495b1ed3048ef28a6a4620537db4ee51",
    "tiny-q8_0": "19e8118f6652a650569f5a949d962154e01571d9",
    "tiny.en": "c78c86eb1a8faa21b369bcd33207cc90d64ae9df",
    "tiny.en-q5_1": "3fb92ec865cbbc769f08137f22470d6b66e071b6",
    "tiny.en-q8_0": "802d6668e7d411123e672abe4cb6c18f12306abb",
    "base": "465707469ff3a37a2b9b8d8f89f2f99de7299dac",
    "base-q5_1": "a3733eda680ef76256db5fc5dd9de8629e62c5e7",
    "base-q8_0": "7bb89bb49ed6955013b166f1b6a6c04584a20fbe",
    "base.en": "137c40403d78fd54d454da0f9bd998f78703390c",
    "base.en-q5_1": "d26d7ce5a1b6e57bea5d0431b9c20ae49423c94a",
    "base.en-q8_0": "bb1574182e9b924452bf0cd1510ac034d323e948",
    "small": "55356645c2b361a969dfd0ef2c5a50d530afd8d5",
    "small-q5_1": "6fe57ddcfdd1c6b07cdcc73aaf620810ce5fc771",
    "small-q8_0": "bcad8a2083f4e53d648d586b7dbc0cd673d8afad",
    "small.en": "db8a495a91d927739e50b3fc1cc4c6b8f6c2d022",
    "small.en-q5_1": "20f54878d608f94e4a8ee3ae56016571d47cba34",
    "small.en-q8_0": "9d75ff4ccfa0a8217870d7405cf8cef0a5579852",
    "medium": "fd9727b6e1217c2f614f9b698455c4ffd82463b4",
    "medium-q5_0": "7718d4c1ec62ca96998f058114db98236937490e",
    "medium-q8_0": "e66645948aff4bebbec71b3485c576f3d63af5d6",
    "medium.en": "8c30f0e44ce9560643ebd10bbe50cd20eafd3723",
    "medium.en-q5_0": "bb3b5281bddd61605d6fc76bc5b92d8f20284c3b",
    "medium.en-q8_0": "b1cf48c12c807e14881f634fb7b6c6ca867f6b38",
    "large-v1": "b1caaf735c4cc1429223d5a74f0f4d0b9b59a299",
    "large-v2": "0f4c8e34f21cf1a914c59d8b3ce882345ad349d6",
    "large-v2-q5_0": "00e39f2196344e901b3a2bd5814807a769bd1630",
    "large-v2-q8_0": "da97d6ca8f8ffbeeb5fd147f79010eeea194ba38",
    "large-v3": "ad82bf6a9043ceed055076d0fd39f5f186ff8062",
    "large-v3-q5_0": "e6e2ed78495d403bef4b7cff42ef4aaadcfea8de",
    "large-v3-turbo": "4af2b29d7ec73d781377bfd1758ca957a807e941",
    "large-v3-turbo-q5_0": "e050f7970618a659205450ad97eb95a18d69c9ee",
    "large-v3-turbo-q8_0": "01bf15bedffe9f39d65c1b6ff9b687ea91f59e0e",
}
"""Every name to the SHA-1 that whisper.cpp publishes for it (models/README.md, and the hub's own README)."""


def find_model(settings: Settings, hub: str = HUB) -> Path:
    """The file of the model that the settings name; downloads it if it is not there. Blocks.

    Raises:
        ConfigError: no model is named, or the name is unknown.
        ModelError: it cannot be downloaded or stored.
    """
    if settings.whisper_model_path:
        return settings.whisper_model_path
    name = settings.whisper_model
    if name is None:
        raise ConfigError(
            "no model: set WHISPER_MODEL_PATH to a ggml file, WHISPER_MODEL to a name such as base.en,"
            f" or WHISPER_MODEL={DEMO} for the bundled one"
        )
    if name == DEMO:
        return DEMO_MODEL
    if name not in SHA1:
        raise ConfigError(f"WHISPER_MODEL={name!r}: must be {DEMO} (bundled) or one of {', '.join(SHA1)}")
    path = settings.whisper_model_dir / f"ggml-{name}.bin"
    with _downloading:
        if not os.path.exists(path):  # noqa: PTH110 - Path.exists raises where the folder is closed to us
            download_model(path, SHA1[name], hub)
    return path


def find_named_model(settings: Settings, name: str) -> Path:
    """As ``find_model``, of the model ``name``, or the file at that path, instead of the one that is set."""
    file = Path(name) if Path(name).is_file() else None
    return find_model(settings.model_copy(update={"whisper_model": name, "whisper_model_path": file}))


def model_name(path: Path) -> str:
    """How transcripts call the model in ``path``: ``base.en`` for ``ggml-base.en.bin``."""
    return DEMO if path == DEMO_MODEL else path.stem.removeprefix("ggml-")


def download_model(path: Path, sha1: str, hub: str) -> None:
    """Fetch ``path.name`` from ``hub`` to ``path``, whole or not at all.

    Raises:
        ModelError: out of reach, refused, cut short, another checksum, or no place to store it.
    """
    url = f"{hub}/{path.name}"
    # Processes that download at the same time each have a file of their own; the last one to be renamed stays.
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
    started_s, digest, size = time.monotonic(), hashlib.sha1(usedforsecurity=False), 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        with part.open("xb") as file, closing(_pieces(url)) as pieces:
            for piece in pieces:
                file.write(piece)
                digest.update(piece)
                size += len(piece)
            file.flush()
            os.fsync(file.fileno())
        if digest.hexdigest() != sha1:
            raise ModelError(f"{url}: SHA-1 is {digest.hexdigest()}, not {sha1}; {size} bytes, removed")
        part.replace(path)
    except OSError as error:
        raise ModelError(f"{path}: cannot be stored: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            part.unlink()
    log.info("downloaded %s: %.1f MB in %.1f s", path, size / 1e6, time.monotonic() - started_s)


def _pieces(url: str) -> Generator[bytes]:
    """The body of ``url``, all of it; every failure of the network is a ``ModelError``."""
    try:
        with urlopen(Request(url, headers={"User-Agent": "transcriber"}), timeout=TIMEOUT_S) as response:  # noqa: S310 - https, or a test's own server
            length = response.length or 0
            log.info("downloading %s: %.1f MB", url, length / 1e6)
            got = 0
            while piece := response.read(PIECE_BYTES):
                got += len(piece)
                yield piece
    except HTTPError as error:
        error.close()
        raise _unreachable(url, f"HTTP {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(url, getattr(error, "reason", None) or error) from error
    if got < length:
        raise _unreachable(url, f"ended after {got} of {length} bytes")


def _unreachable(url: str, reason: object) -> ModelError:
    return ModelError(
        f"{url}: cannot be downloaded: {reason};"
        f" set WHISPER_MODEL_PATH to a file that is here, or WHISPER_MODEL={DEMO} for the bundled model"
    )


def _sweep(path: Path) -> None:
    """Remove what earlier downloads left that were killed: nothing was written to them for long."""
    for part in path.parent.glob(f"{path.name}.*.part"):
        with suppress(OSError):  # another process may sweep too
            if time.time() - part.stat().st_mtime > 4 * TIMEOUT_S:
                part.unlink()
