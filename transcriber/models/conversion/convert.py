"""Folders and files of weights to a model file. In: a folder of transformers or CTranslate2, or a ggml file. Out: a ggml file.

The result is checked like any model before it gets its name.
"""

import hashlib
import os
import re
from contextlib import suppress
from pathlib import Path

from transcriber.errors import ConfigError, ModelError
from transcriber.models.conversion.checkpoint import Checkpoint
from transcriber.models.conversion.ctranslate2 import open_ctranslate2
from transcriber.models.conversion.hugging_face import open_hugging_face
from transcriber.models.conversion.quantize import KIND_F16, KIND_Q8_0, KINDS, Kind, write_quantized
from transcriber.models.ggml import MAGIC, check_model_file
from transcriber.models.progress import Draw, draw_nothing
from transcriber.models.store import whole_file

PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json", "flax_model.msgpack", "tf_model.h5")

OTHER_KIND = re.compile(r"f32|bf16|q\d_(\d|K)")
"""Names of ggml's weight types, at the end of a file's name."""


def convert(source: Path, target: Path, kind: Kind | None = None, draw: Draw = draw_nothing) -> Kind:
    """Write the model in ``source`` to ``target``. Returns its weight type.

    Args:
        source: a folder, or a ggml file of type f16 or f32.
        target: is overwritten.
        kind: None: as the target's name ends, such as ``-q8_0``, else f16 for a folder and q8_0 for a file.
        draw: called with the progress.

    Raises:
        ConfigError: the target's name ends with another weight type.
        ModelError: it cannot be converted or stored.
    """
    folder = os.path.isdir(source)  # noqa: PTH112 - Path.is_dir raises where the folder is closed to us, or the name too long
    called = target.stem.rpartition("-")[2]
    if kind is None and called not in KINDS and OTHER_KIND.fullmatch(called):
        raise ConfigError(
            f"{target}: its name ends with {called}, which cannot be written: only {', '.join(KINDS)}; set --type"
        )
    kind = kind or KINDS.get(called) or (KIND_F16 if folder else KIND_Q8_0)
    if os.path.isdir(target):  # noqa: PTH112 - as above
        raise ModelError(f"{target}: is a directory, not a file to write")
    if _is_needed(target, source):
        raise ModelError(f"{target}: is the source of the conversion")
    if folder:
        convert_folder(source, target, kind, draw=draw)
        return kind
    check_model_file(source)
    with whole_file(target, check_model_file) as file:
        write_quantized(source, file, kind)
    return kind


def convert_folder(
    folder: Path, target: Path, kind: Kind = KIND_F16, sha256: str | None = None, draw: Draw = draw_nothing
) -> None:
    """Write the model in ``folder`` to ``target``, whose checksum must be ``sha256`` if given.

    Raises:
        ModelError: it cannot be converted or stored.
    """
    checkpoint = open_checkpoint(folder)

    def check(part: Path) -> None:
        try:
            check_model_file(part)
        except ModelError as error:
            # It names the part file, which the user does not know.
            raise ModelError(str(error).replace(str(part), str(folder))) from error
        if sha256 and (found := _sha256(part)) != sha256:
            raise ModelError(f"{target}: SHA-256 is {found}, not {sha256}, removed")

    with whole_file(target, check) as file:
        checkpoint.write(file, kind, draw)


def open_checkpoint(folder: Path) -> Checkpoint:
    """The model in a folder of any supported format.

    Raises:
        ModelError: there is none that can be converted.
    """
    here = {path.name for path in _entries(folder)}
    if here & {"model.safetensors", "model.safetensors.index.json"}:
        return open_hugging_face(folder)
    if "model.bin" in here:
        return open_ctranslate2(folder)
    if "adapter_config.json" in here:
        raise ModelError(f"{folder}: is a LoRA adapter: merge it into its model first (merge_and_unload)")
    if pickles := sorted(here.intersection(PICKLES)):
        raise ModelError(
            f"{folder}: model.safetensors is needed, not {pickles[0]}: save the model with safe_serialization"
        )
    raise ModelError(f"{folder}: no model in it: neither model.safetensors nor CTranslate2's model.bin")


def folder_digest(folder: Path) -> str:
    """A digest of the files that are converted. Not of their times: images and copies may set them all alike.

    Raises:
        ModelError: it cannot be read.
    """
    digest = hashlib.sha256()
    for path in sorted(_entries(folder)):
        if path.suffix in {".json", ".txt", ".safetensors", ".bin"} and not _is_model_file(path):
            digest.update(os.fsencode(path.name) + f" {_sha256(path)}\n".encode())
    return digest.hexdigest()


def _is_needed(target: Path, source: Path) -> bool:
    """Whether writing ``target`` would destroy ``source``, or a file of that folder; model files in it are results."""
    with suppress(OSError):
        if target.samefile(source):
            return True
        if os.path.isdir(source) and any(target.samefile(path) for path in _entries(source)):  # noqa: PTH112 - as above
            return not _is_model_file(target)
    return False


def _is_model_file(path: Path) -> bool:
    """Whether it is a ggml file: never an input in a folder, perhaps an earlier result."""
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror or error}") from error


def _entries(folder: Path) -> list[Path]:
    try:
        return [folder / name for name in os.listdir(folder) if (folder / name).is_file()]  # noqa: PTH208 - errors at once
    except OSError as error:
        raise ModelError(f"{folder}: cannot be read: {error.strerror or error}") from error


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror or error}") from error
