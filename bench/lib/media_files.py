"""Audio files of every kind that is read, made in memory. In: PCM. Out: the bytes of a file, as FFmpeg's encoders write it."""

import io
import tempfile
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.int16]
"""(frames, channels) S16."""


@dataclass(frozen=True)
class Kind:
    """A container with a codec in it.

    Attributes:
        container: FFmpeg's name of the muxer.
        codec: of the encoder.
        options: of the muxer.
        codec_options: of the encoder.
        lossless: whether what comes out is what went in.
        delay: frames that the codec puts before, of which the container does not tell; less than 0: so many are lost, as the decoder
            takes them for what another encoder puts before.
        extra: most frames that the codec puts behind.
        bit_rate: in bits per second.
        rates: in Hz, that the encoder takes.
        channels: that the encoder takes.
        picture: the codec of a picture that goes with it; empty: none.
        magic: what the file begins with instead of what FFmpeg writes.
    """

    container: str
    codec: str
    options: dict[str, str] = field(default_factory=dict)
    codec_options: dict[str, str] = field(default_factory=dict)
    lossless: bool = False
    delay: int = 0
    extra: int = 0
    bit_rate: int | None = None
    rates: tuple[int, ...] = (8_000, 16_000, 44_100, 48_000)
    channels: tuple[int, ...] = (1, 2)
    picture: str = ""
    magic: bytes = b""

    @property
    def rate(self) -> int:
        """The best that it takes."""
        return max(self.rates)


_OPUS_RATES = (8_000, 16_000, 48_000)
_FILM_RATES = (44_100, 48_000)
_BLU_RAY = {"mpegts_m2ts_mode": "1"}

_KINDS = {
    "wav s16": Kind("wav", "pcm_s16le", lossless=True),
    "wav s24": Kind("wav", "pcm_s24le", lossless=True),
    "wav f32": Kind("wav", "pcm_f32le", lossless=True),
    "wav mulaw": Kind("wav", "pcm_mulaw"),
    "wav adpcm": Kind("wav", "adpcm_ms", extra=2048),
    "aiff": Kind("aiff", "pcm_s16be", lossless=True),
    "au": Kind("au", "pcm_s16be", lossless=True),
    "caf": Kind("caf", "pcm_s16le", lossless=True),
    "flac": Kind("flac", "flac", lossless=True),
    "mp3 cbr": Kind("mp3", "libmp3lame", bit_rate=96_000),
    "mp3 vbr": Kind("mp3", "libmp3lame", codec_options={"q": "2"}),
    "adts": Kind("adts", "aac", delay=1024, extra=1024),
    "m4a": Kind("ipod", "aac", extra=1024),
    "m4a moov first": Kind("ipod", "aac", {"movflags": "faststart"}, extra=1024),
    "m4a fragments": Kind("ipod", "aac", {"movflags": "frag_keyframe+empty_moov"}, delay=1024, extra=1024),
    "m4a alac": Kind("ipod", "alac", lossless=True),
    "mp4 opus": Kind("mp4", "libopus", extra=1920, rates=_OPUS_RATES),
    "ogg opus": Kind("ogg", "libopus", rates=_OPUS_RATES),
    "ogg vorbis": Kind("ogg", "vorbis", codec_options={"strict": "experimental"}, extra=64, channels=(2,)),
    "ogg flac": Kind("ogg", "flac", lossless=True),
    "webm opus": Kind("webm", "libopus", rates=_OPUS_RATES),
    "matroska flac": Kind("matroska", "flac", lossless=True),
    "matroska aac": Kind("matroska", "aac", extra=1024),
    "matroska film": Kind("matroska", "ac3", extra=1536, rates=_FILM_RATES, picture="mpeg4"),
    "ts aac": Kind("mpegts", "aac", delay=1024, extra=1024),
    "ts film": Kind("mpegts", "mp2", delay=481, extra=1152, rates=_FILM_RATES, picture="mpeg2video"),
    "m2ts film": Kind("mpegts", "ac3", _BLU_RAY, delay=256, extra=1536, rates=_FILM_RATES, picture="mpeg2video"),
    "mpeg film": Kind("mpeg", "mp2", delay=481, extra=1152, rates=_FILM_RATES, picture="mpeg1video"),
    "vob ac3": Kind("vob", "ac3", delay=256, extra=1536, rates=_FILM_RATES, picture="mpeg2video"),
    "vob pcm": Kind("vob", "pcm_dvd", lossless=True, rates=(48_000,), picture="mpeg2video"),
    "avi pcm": Kind("avi", "pcm_s16le", lossless=True),
    "avi film": Kind("avi", "libmp3lame", delay=1105, extra=1152, rates=_FILM_RATES, picture="mpeg4"),
    "flv aac": Kind("flv", "aac", delay=1024, extra=1024),
    "flv film": Kind("flv", "libmp3lame", delay=1105, extra=1152, rates=(44_100,), picture="flv"),
    "flv nellymoser": Kind("flv", "nellymoser", delay=128, extra=512, rates=(16_000,), channels=(1,)),
    "wma": Kind("asf", "wmav2", delay=-2048, extra=2048, bit_rate=128_000, rates=_FILM_RATES),
    "wmv": Kind("asf", "wmav2", delay=-2048, extra=2048, bit_rate=128_000, rates=_FILM_RATES, picture="wmv2"),
    "amr": Kind("amr", "libopencore_amrnb", delay=40, extra=160, bit_rate=12_200, rates=(8_000,), channels=(1,)),
    "3gp": Kind("3gp", "libopencore_amrnb", extra=160, bit_rate=12_200, rates=(8_000,), channels=(1,), picture="h263"),
    "mxf": Kind("mxf", "pcm_s24le", lossless=True, extra=1920, rates=(48_000,), picture="mpeg2video"),
    "w64": Kind("w64", "pcm_s16le", lossless=True, extra=4),
    "rf64": Kind("wav", "pcm_s16le", {"rf64": "always"}, lossless=True),
    "bw64": Kind("wav", "pcm_s24le", {"rf64": "always"}, lossless=True, magic=b"BW64"),
}

KINDS = {name: kind for name, kind in _KINDS.items() if kind.codec in av.codec.codecs_available}
"""Those that this PyAV encodes: that of Python 3.12 and newer may come without AMR."""


def encode(kind: Kind, samples: Samples, rate: int) -> bytes:
    """``samples`` at ``rate`` as a file."""
    if "faststart" in kind.options.get("movflags", ""):
        # It reads again what it wrote, which FFmpeg does only with a file of its own.
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "file"
            with av.open(str(path), "w", format=kind.container, options=kind.options) as container:
                _write(container, kind, samples, rate)
            return path.read_bytes()
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=kind.container, options=kind.options) as container:
        _write(container, kind, samples, rate)
    return kind.magic + buffer.getvalue()[len(kind.magic) :]


def resampled(samples: Samples, rate: int, to_rate: int) -> Samples:
    """One channel at another rate."""
    resampler = av.AudioResampler(format="s16", layout="mono", rate=to_rate)
    parts = [*resampler.resample(_frame(samples, rate, 0)), *resampler.resample(None)]
    return np.concatenate([part.to_ndarray().reshape(-1, 1) for part in parts])


def _write(container: av.container.OutputContainer, kind: Kind, samples: Samples, rate: int) -> None:
    layout = "mono" if samples.shape[1] == 1 else "stereo"
    picture = _Picture(container, kind.picture) if kind.picture else None
    stream = container.add_stream(kind.codec, rate=rate, options=kind.codec_options, layout=layout)
    if not isinstance(stream, av.AudioStream):
        raise TypeError(kind.codec)
    if kind.bit_rate:
        stream.bit_rate = kind.bit_rate
    stream.codec_context.open()
    size = stream.codec_context.frame_size or 1024
    resampler = av.AudioResampler(format=stream.codec_context.format, layout=layout, rate=rate, frame_size=size)
    for start in range(0, len(samples), size):
        if picture:
            picture.show_until(start / rate)
        for frame in resampler.resample(_frame(samples[start : start + size], rate, start)):
            container.mux(stream.encode(frame))
    for frame in resampler.resample(None):
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
    if picture:
        picture.end()


class _Picture:
    """Moving grey, 25 frames a second."""

    def __init__(self, container: av.container.OutputContainer, codec: str) -> None:
        stream = container.add_stream(codec, rate=25)
        if not isinstance(stream, av.VideoStream):
            raise TypeError(codec)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"  # H.263 knows few sizes
        self._container, self._stream = container, stream
        self._shown = 0

    def show_until(self, seconds: float) -> None:
        while self._shown <= seconds * 25:
            image = np.full((96, 128, 3), self._shown * 5 % 256, np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = self._shown
            self._container.mux(self._stream.encode(frame))
            self._shown += 1

    def end(self) -> None:
        self._container.mux(self._stream.encode(None))


def _frame(samples: Samples, rate: int, start: int) -> av.AudioFrame:
    layout = "mono" if samples.shape[1] == 1 else "stereo"
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples).reshape(1, -1), format="s16", layout=layout)
    frame.sample_rate, frame.pts = rate, start
    frame.time_base = Fraction(1, rate)
    return frame
