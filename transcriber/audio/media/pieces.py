"""The output of decoding a file. In: decoded samples with their places. Out: PCM in pieces of at most a second."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from transcriber.audio.codecs.pcm import MAX_FLOAT_PEAK, is_unscaled, peak_of
from transcriber.audio.format import AudioFormat
from transcriber.audio.mixing import MixReport, mix_many
from transcriber.errors import ClaimError, TranscriberError, TruncatedError

CLEARLY_S = 0.5
"""Containers round the length, and count codec padding; so many missing seconds are no truncation."""

Chunk = tuple[int, NDArray[Any]]
"""The place of its first frame, and (frames, channels) samples: int16, or float32 in about [-1, 1]."""

_UNITS = (2.0**15, 2.0**23, 2.0**31)
"""Full scale of integers that were written as floats."""


class Piece(NamedTuple):
    """Samples that lie together.

    Attributes:
        frame: place of its first frame, at the format's rate; it jumps ahead where something could not be decoded.
        data: whole interleaved frames of the file's format, at most a second.
        missing: why audio of unknown length is missing here; then there are no data.
    """

    frame: int
    data: bytes
    missing: str = ""


@dataclass(frozen=True, slots=True)
class Media:
    """A file of which the first frame is decoded.

    Attributes:
        format: of the pieces: S16LE or F32LE at the file's own rate, 1 or 2 channels; more are mixed to one.
        frames: its length; None if the container does not state it.
        container: such as ``ogg``.
        codec: such as ``opus``.
        pieces: the audio, decoded lazily; the same for the same bytes. It returns the place after the last frame, and
            ``close()`` frees the decoder.
        mix_report: what was found so far while more than two channels were mixed.
    """

    format: AudioFormat
    frames: int | None
    container: str
    codec: str
    pieces: Generator[Piece, None, int]
    mix_report: MixReport = field(default_factory=MixReport)


class SampleNormalizer:
    """Makes the samples of one piece after the other finite, in about [-1, 1], and of at most two channels."""

    def __init__(
        self,
        gains: NDArray[np.float32] | None = None,
        mix_report: MixReport | None = None,
        *,
        as_written: bool = False,
    ) -> None:
        """``gains`` mix all channels to one; ``as_written``: floats are stored in the file as they are, not decoded from a codec."""
        self.as_written = as_written
        self._gains, self._mix_report = gains, mix_report
        self._peak = 0.0  # largest so far of integers that were written as floats; 0: they are not

    def __call__(self, samples: NDArray[Any]) -> NDArray[Any]:
        """Normalize (frames, channels), one frame at least.

        NaN becomes silence and infinity full scale: one NaN would stay in a resampler for good.
        """
        if samples.dtype == np.float32:
            samples = self._in_range(samples)
        return samples if self._gains is None else mix_many(samples, self._gains, self._mix_report)

    def _in_range(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        peak = peak_of(samples)
        if not np.isfinite(peak):
            samples = np.nan_to_num(samples, nan=0.0, posinf=1.0, neginf=-1.0)
            peak = peak_of(samples)
        if self.as_written and (self._peak or is_unscaled(samples, peak)):
            self._peak = max(self._peak, peak)
            # Resampling before may have exceeded full scale somewhat.
            unit = next((unit for unit in _UNITS if self._peak <= 2 * unit), _UNITS[-1])
            samples, peak = samples * np.float32(1 / unit), MAX_FLOAT_PEAK
        return np.clip(samples, -1.0, 1.0).astype(np.float32, copy=False) if peak >= MAX_FLOAT_PEAK else samples


def join(
    chunks: Iterator[Chunk],
    rate: int,
    promised: int | None,
    first: int = 0,
    normalize: SampleNormalizer | None = None,
    claimed: int = 0,
) -> Generator[Piece, None, int]:
    """Chunks of any length as pieces.

    Args:
        chunks: their places only grow, and never overlap.
        rate: frames in a second.
        promised: the length, if the container can be trusted.
        first: a place where a piece begins; pieces before it are left out.
        normalize: applied to the samples of each piece.
        claimed: the length that a header claims, which may never have been right.

    Returns:
        The place after the last frame.

    Raises:
        TruncatedError: the last chunk ends clearly before ``promised``.
        ClaimError: the same, before ``claimed``.
    """
    normalize = normalize or SampleNormalizer()
    if normalize.as_written:  # the scale of its floats depends on the pieces before
        end = yield from _pieces(chunks, _PieceBuffer(rate, 0, normalize), first)
    else:
        end = yield from _pieces(chunks, _PieceBuffer(rate, first, normalize), first)
    clearly = end + rate * CLEARLY_S
    if promised is not None and clearly < promised:
        raise TruncatedError(f"it ends after {end / rate:.1f} s of {promised / rate:.1f} s", promised)
    if clearly < claimed:
        raise ClaimError(f"its header claims {claimed / rate:.1f} s, and there are {end / rate:.1f} s", end)
    return end


def _pieces(chunks: Iterator[Chunk], buffer: "_PieceBuffer", first: int) -> Generator[Piece, None, int]:
    end, start = 0, buffer.end
    try:
        for place, samples in chunks:
            end = place + len(samples)
            pieces = buffer.add(place, samples) if place >= start else buffer.add(start, samples[start - place :])
            yield from (piece for piece in pieces if piece.frame >= first)
    except TranscriberError:
        yield from (piece for piece in buffer.rest() if piece.frame >= first)
        raise
    yield from (piece for piece in buffer.rest() if piece.frame >= first)
    return end


class _PieceBuffer:
    """A second of samples. They are copied at once, while they are in the cache, so that the decoder can reuse its memory.

    Attributes:
        end: the place after the last.
    """

    def __init__(self, size: int, end: int, normalize: SampleNormalizer) -> None:
        self.end = end
        self._size, self._start, self._normalize = size, end, normalize
        self._held = 0  # frames from ``_start`` on
        self._samples: NDArray[Any] = np.empty((0, 0))

    def add(self, place: int, samples: NDArray[Any]) -> list[Piece]:
        """Returns the pieces that these samples complete."""
        left, held = len(samples), self._held
        if not left:
            return []
        pieces = []
        if place != self.end:
            pieces, self._start, held = self.rest(), place, 0
        self.end = place + left
        while held + left >= self._size:
            taken = self._size - held
            if held:
                self._samples[held:] = samples[:taken]
            pieces.append(self._piece(self._start, self._samples if held else samples[:taken]))
            samples, left = samples[taken:], left - taken
            self._start, held = self._start + self._size, 0
        if left:
            if not len(self._samples):
                self._samples = np.empty((self._size, samples.shape[1]), samples.dtype)
            self._samples[held : held + left] = samples
        self._held = held + left
        return pieces

    def rest(self) -> list[Piece]:
        """The remaining samples, as one piece."""
        held, self._held = self._held, 0
        return [self._piece(self._start, self._samples[:held])] if held else []

    def _piece(self, start: int, samples: NDArray[Any]) -> Piece:
        return Piece(start, self._normalize(samples).tobytes())
