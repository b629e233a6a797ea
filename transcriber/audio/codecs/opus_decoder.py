"""Opus packets to samples (RFC 6716).

In: packets, one after the other. Out: S16LE at 48 kHz, with one channel or two.
"""

import av
from av.error import FFmpegError

from transcriber.audio.codecs.opus import HEAD, OPUS_RATE, Head
from transcriber.audio.format import AudioFormat, SampleFormat
from transcriber.errors import BadInputError


class OpusDecoder:
    """Decodes packets in their order; each depends a little on those before it.

    Attributes:
        format: of the samples.
    """

    def __init__(self, head: Head) -> None:
        self.format = AudioFormat(SampleFormat.S16LE, OPUS_RATE, head.channels)
        self._context = av.codec.CodecContext.create("libopus", "r")
        # Without pre-skip, which is the container's business: the decoder would apply it to what a late comer hears first.
        self._context.extradata = (
            HEAD
            + bytes([1, head.channels, 0, 0])
            + OPUS_RATE.to_bytes(4, "little")
            + head.gain.to_bytes(2, "little", signed=True)
            + b"\0"
        )

    def decode(self, packet: bytes) -> bytes:
        """Samples of one packet.

        Raises:
            BadInputError: it does not decode.
        """
        if not packet:  # to the decoder that means the end of all
            raise BadInputError("an Opus packet is empty")
        try:
            decoded = self._context.decode(av.Packet(packet))
        except FFmpegError as error:
            raise BadInputError(f"an Opus packet does not decode: {error.strerror}") from None
        return b"".join(
            bytes(memoryview(frame.planes[0])[: frame.samples * self.format.frame_bytes]) for frame in decoded
        )
