"""Packets of AAC and MP3 to samples. In: packets, one after the other. Out: S16LE."""

from typing import cast

import av
import numpy as np

from transcriber.audio.codecs.opus import CodedHeader
from transcriber.audio.codecs.opus_decoder import decode_packet
from transcriber.audio.format import MAX_CHANNELS, AudioFormat, SampleFormat
from transcriber.errors import BadInputError


class FrameDecoder:
    """Decodes packets in their order; each depends a little on those before it.

    Attributes:
        format: of the samples. The first packets of HE-AAC may double its rate and make two channels of one.
    """

    def __init__(self, head: CodedHeader) -> None:
        self.format = AudioFormat(SampleFormat.S16LE, head.rate, head.channels)
        self._head = head
        self._context = cast("av.AudioCodecContext", av.codec.CodecContext.create(head.codec, "r"))
        if head.config:
            self._context.extradata = head.config

    @property
    def scale(self) -> int:
        """How many frames of samples a frame of the container's clock is: 1 or 2."""
        return self.format.rate // self._head.rate

    def decode(self, packet: bytes) -> bytes:
        """Samples of one packet.

        Raises:
            BadInputError: it does not decode.
        """
        return b"".join(self._samples(frame) for frame in decode_packet(self._context, packet, "a packet"))

    def _samples(self, frame: "av.AudioFrame") -> bytes:
        fmt = AudioFormat(SampleFormat.S16LE, frame.sample_rate, frame.layout.nb_channels)
        if fmt != self.format:
            # Only more than was announced: a damaged packet may pretend to be anything.
            more = fmt.rate in {self.format.rate, 2 * self._head.rate} and self.format.channels <= fmt.channels
            if not more or fmt.channels > MAX_CHANNELS:
                raise BadInputError(f"a packet of {fmt.channels} channels at {fmt.rate} Hz")
            self.format = fmt
        planes = np.stack([np.frombuffer(memoryview(plane), "<f4", frame.samples) for plane in frame.planes], axis=1)
        data: bytes = np.clip(np.rint(np.nan_to_num(planes) * 2**15), -(2**15), 2**15 - 1).astype("<i2").tobytes()
        return data
