"""A Whisper model under OpenAI's tensor names, from any source. In: its tensors. Out: a ggml file, written tensor by tensor.

A source gives functions that read one tensor each, so that no more than one is in memory.
"""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from numpy.typing import NDArray

from transcriber.errors import ModelError
from transcriber.models.conversion.layout import Dimensions, Shape, tensor_type
from transcriber.models.conversion.mel_filters import mel_filters
from transcriber.models.conversion.quantize import BLOCK, KIND_F16, Kind, unfit_reason
from transcriber.models.ggml import F16, F32, HEADER, MAGIC
from transcriber.models.progress import Draw

Read = Callable[[], NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model that can be written.

    Attributes:
        source: the file or folder it is read from, for messages.
        dimensions: of its network.
        vocabulary: the text tokens, in order.
        tensors: OpenAI's name to a function that reads it.
    """

    source: Path
    dimensions: Dimensions
    vocabulary: list[bytes]
    tensors: Mapping[str, Read]

    def write(self, file: BinaryIO, kind: Kind, draw: Draw) -> None:
        """Write a ggml file with matrices of ``kind``.

        Raises:
            ModelError: a tensor is missing, unknown, of another shape, or has values that the file cannot hold.
        """
        self._check_dimensions()
        self._check_names()
        if kind is not KIND_F16 and self.dimensions.n_state % BLOCK:
            raise self.error(f"is {self.dimensions.n_state} wide, no multiple of {BLOCK}: cannot be {kind.name}")
        self._write_head(file, kind)
        tensors = list(self.dimensions.tensors())
        for number, (name, shape) in enumerate(tensors):
            self._write_tensor(file, name, shape, kind)
            draw(f"{self.source.name} to {kind.name}", number, len(tensors))

    def error(self, what: str) -> ModelError:
        return ModelError(f"{self.source}: {what}")

    def _check_dimensions(self) -> None:
        """Check them before anything is allocated by them."""
        for name, value in self._fields().items():
            least, most = HEADER[name]
            if not least <= value <= most:
                raise self.error(f"{name} is {value}, not from {least} to {most}")
        width = self.dimensions.n_state
        for heads in (self.dimensions.n_audio_head, self.dimensions.n_text_head):
            if width % heads:
                raise self.error(f"is {width} wide, no multiple of its {heads} heads")

    def _check_names(self) -> None:
        wanted = {name for name, _ in self.dimensions.tensors()}
        if missing := sorted(wanted - self.tensors.keys()):
            raise self.error(f"lacks {_some(missing)}")
        if strange := sorted(self.tensors.keys() - wanted):
            raise self.error(f"has tensors that Whisper does not have: {_some(strange)}")

    def _fields(self) -> dict[str, int]:
        """The fields of the file's header, but for its type."""
        it = self.dimensions
        return {
            "n_vocab": it.n_vocab,
            "n_audio_ctx": it.n_audio_ctx,
            "n_audio_state": it.n_state,
            "n_audio_head": it.n_audio_head,
            "n_audio_layer": it.n_audio_layer,
            "n_text_ctx": it.n_text_ctx,
            "n_text_state": it.n_state,
            "n_text_head": it.n_text_head,
            "n_text_layer": it.n_text_layer,
            "n_mels": it.n_mels,
        }

    def _write_head(self, file: BinaryIO, kind: Kind) -> None:
        fields = self._fields() | {"ftype": kind.ftype}
        file.write(MAGIC + struct.pack(f"<{len(HEADER)}i", *(fields[name] for name in HEADER)))
        filters = mel_filters(self.dimensions.n_mels)
        file.write(struct.pack("<2i", *filters.shape) + filters.astype("<f4").tobytes())
        file.write(struct.pack("<i", len(self.vocabulary)))
        file.writelines(struct.pack("<i", len(token)) + token for token in self.vocabulary)

    def _write_tensor(self, file: BinaryIO, name: str, shape: Shape, kind: Kind) -> None:
        numbers = self.tensors[name]()
        if numbers.shape not in {shape, shape[:1] if shape[1:] == (1,) else shape}:
            raise self.error(f"{name} is {_by(numbers.shape)}, not {_by(shape)}")
        if unfit := unfit_reason(numbers, tensor_type(name, shape, F16)):
            raise self.error(f"{name} holds {unfit}")
        type_ = tensor_type(name, shape, kind.type)
        file.write(struct.pack("<3i", len(shape), len(name), type_))
        file.write(struct.pack(f"<{len(shape)}i", *reversed(shape)) + name.encode())
        if type_ == F32:
            file.write(numbers.astype("<f4").tobytes())
        elif type_ == F16:
            file.writelines(KIND_F16.pieces(numbers))
        else:
            # Rounded to f16 first, as whisper.cpp's own tools do: the same bits as the f16 file, quantised.
            file.writelines(kind.pieces(numbers, by_f16=True))


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""  # noqa: PLR2004 - a line's worth
    return ", ".join(names[:3]) + more


def _by(shape: Shape) -> str:
    return " x ".join(map(str, shape)) or "a single number"
