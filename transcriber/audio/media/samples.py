"""Decoded frames as samples. In: frames of FFmpeg, in any layout. Out: samples of one format."""

from typing import Any, cast

import av
import numpy as np
from av.error import FFmpegError
from numpy.typing import NDArray

from transcriber.audio.format import MAX_CHANNELS, MAX_SAMPLE_RATE, MIN_SAMPLE_RATE, AudioFormat, SampleFormat
from transcriber.audio.mixing import gains, mix_two
from transcriber.errors import MediaError

_SCALES = {"u8": (128, 2.0**-7), "s16": (0, 2.0**-15), "s32": (0, 2.0**-31), "flt": (0, 1.0), "dbl": (0, 1.0)}
"""What is subtracted from a sample, and what it is multiplied by, to be in [-1, 1]."""

_DTYPES: dict[str, type[np.generic]] = {
    "u8": np.uint8,
    "s16": np.int16,
    "s32": np.int32,
    "flt": np.float32,
    "dbl": np.float64,
}


class Samples:
    """Makes all samples of a file look like the first, but for their rate.

    Attributes:
        format: S16LE where the first frame has no more than 16 bits, else F32LE; more than two channels are to be one.
        gains: at which they are to be mixed, (channels,); None: there are no more than two.
    """

    def __init__(self, first: av.AudioFrame | AudioFormat) -> None:
        """Like the first frame, or S16LE or F32LE of any format.

        Raises:
            MediaError: its rate is none that is read.
        """
        self._packer: av.AudioResampler | None = None
        self._usual = ""
        self.gains: NDArray[np.float32] | None = None
        if isinstance(first, AudioFormat):
            self.format, self._channels = first, first.channels
            self._as_is = "s16" if first.sample is SampleFormat.S16LE else "flt"
            self._dtype = _DTYPES[self._as_is]
            return
        rate, channels = first.sample_rate, first.layout.nb_channels
        if not is_read(rate):
            raise MediaError(f"{rate} Hz; {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE} are read")
        mixed = channels > MAX_CHANNELS
        narrow = first.format.packed.name in {"u8", "s16"} and not mixed
        sample = SampleFormat.S16LE if narrow else SampleFormat.F32LE
        self.format = AudioFormat(sample, rate, 1 if mixed else channels)
        self.gains = _gains(first) if mixed else None
        self._channels = channels
        self._as_is = "s16" if narrow else "flt"  # what need not be converted
        self._dtype = _DTYPES[self._as_is]
        # Of one channel, planar and packed are the same; most frames are like this one, and 20 ms of Opus are decoded in 15 us.
        self._usual = first.format.name if first.format.packed.name == self._as_is and channels == 1 else ""

    def of(self, frame: av.AudioFrame) -> NDArray[Any]:
        """(frames, channels of the first frame) int16 or float32, at the rate of ``frame``.

        Raises:
            MediaError: its channels cannot be read.
        """
        channels = frame.layout.nb_channels
        samples: NDArray[Any]
        if channels == 1 and frame.format.name == self._usual:
            return np.ndarray((frame.samples, 1), self._dtype, cast("memoryview", frame.planes[0]))
        packed = self._packed(frame) if channels > MAX_CHANNELS and frame.format.is_planar else frame
        kind = packed.format.packed.name
        samples = _interleaved(packed, _DTYPES[kind])
        if kind == self._as_is and channels == self._channels:
            return samples
        zero, scale = _SCALES[kind]
        with np.errstate(invalid="ignore", over="ignore"):  # in a broken file is anything; pieces are made finite
            samples = (samples.astype(np.float32) - np.float32(zero)) * np.float32(scale)
            if channels != self._channels:
                samples = self._alike(samples, _gains(frame))
        return self._as_format(samples)

    def of_array(self, samples: NDArray[Any]) -> NDArray[Any]:
        """The same of (frames, 1 or 2) int16 or float32 in about [-1, 1]."""
        if samples.dtype == self._dtype and samples.shape[1] == self._channels:
            return samples
        scaled = samples.astype(np.float32)
        if samples.dtype == np.int16:
            scaled *= np.float32(2.0**-15)
        if scaled.shape[1] != self._channels:
            scaled = self._alike(np.ascontiguousarray(scaled), np.ones(1, np.float32))
        return self._as_format(scaled)

    def none(self) -> NDArray[Any]:
        """No samples."""
        return np.empty((0, self._channels), np.int16 if self.format.sample is SampleFormat.S16LE else np.float32)

    def _as_format(self, samples: NDArray[np.float32]) -> NDArray[Any]:
        if self.format.sample is SampleFormat.S16LE:
            return np.clip(np.rint(np.nan_to_num(samples) * 2**15), -(2**15), 2**15 - 1).astype(np.int16)
        return np.ascontiguousarray(samples)

    def _alike(self, samples: NDArray[np.float32], loudness: NDArray[np.float32]) -> NDArray[np.float32]:
        """Samples of another number of channels as those of the first frame."""
        mixed = (
            mix_two(samples)[:, np.newaxis] if samples.shape[1] == MAX_CHANNELS else samples @ loudness[:, np.newaxis]
        )
        # Each gets so much that their mix will be as loud.
        share = 1.0 if self.gains is None else 1 / self.gains.sum()
        return mixed.repeat(self._channels, axis=1) * np.float32(share)

    def _packed(self, frame: av.AudioFrame) -> av.AudioFrame:
        """A frame of many channels in one plane. PyAV must not be asked for the planes that it has: it looks for more than there are."""
        for _ in range(2):
            self._packer = self._packer or av.AudioResampler(format="flt", layout=frame.layout)
            try:
                (packed,) = self._packer.resample(frame)
            except (FFmpegError, ValueError):
                self._packer = None  # the layout has changed, or is none that is known
            else:
                return packed
        raise MediaError(f"{frame.layout.nb_channels} channels that cannot be read")


def is_read(rate: int) -> bool:
    """Whether samples of so many a second are read."""
    return MIN_SAMPLE_RATE <= rate <= MAX_SAMPLE_RATE


def _gains(frame: av.AudioFrame) -> NDArray[np.float32]:
    return gains(tuple(channel.name for channel in frame.layout.channels))


def _interleaved(frame: av.AudioFrame, dtype: type[np.generic]) -> NDArray[Any]:
    """(frames, channels), which may be shared with ``frame``. PyAV's own array costs as much again as decoding 20 ms of Opus."""
    channels, planes = frame.layout.nb_channels, cast("tuple[memoryview, ...]", frame.planes)  # as good as
    if channels == 1 or not frame.format.is_planar:
        return np.frombuffer(planes[0], dtype, frame.samples * channels).reshape(-1, channels)
    return np.stack([np.frombuffer(plane, dtype, frame.samples) for plane in planes], axis=1)
