"""The weights of the voice network. In: the file of another package. Out: arrays.

Only this file of the package is used, so that its dependencies need not be installed. It is a checkpoint of torch, which is a
pickle, but nothing is unpickled: its SHA-256 must match, so the offsets of its weights are known.
"""

import hashlib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from transcriber.errors import ConfigError

PACKAGE = "resemblyzer"
INSTALL = f"pip install --no-deps {PACKAGE}==0.1.4"
SHA256 = "39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e"

SIZE = 256
"""Width of the output, and of each layer."""

LAYERS = 3
BANDS = 40
_RECURRENT, _LINEAR, _LINEAR_BIAS = 269_883, 7_731, 6_699
"""Offsets in the file, in bytes."""


def weights_file() -> Path | None:
    """The file with the weights; None where it is not installed. The package is not imported: it would want torch."""
    try:
        path = Path(str(distribution(PACKAGE).locate_file(f"{PACKAGE}/pretrained.pt")))
    except PackageNotFoundError:
        return None
    return path if path.is_file() else None


def read_weights() -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Those of the layers as they are stored, of the linear layer, and its bias.

    Raises:
        ConfigError: they are not installed, or of another version.
    """
    path = weights_file()
    if path is None:
        raise ConfigError(f"speakers=voices needs weights that are not installed: {INSTALL}")
    recurrent = 4 * SIZE * (BANDS + SIZE + 2) + (LAYERS - 1) * 4 * SIZE * (2 * SIZE + 2)
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != SHA256:
            raise ConfigError(f"{path} is not of the version we know: {INSTALL}")
        parts = []
        for place, count in ((_RECURRENT, recurrent), (_LINEAR, SIZE * SIZE), (_LINEAR_BIAS, SIZE)):
            file.seek(place)
            parts.append(np.frombuffer(file.read(4 * count), "<f4"))
    layers, linear, bias = parts
    return layers, linear, bias
