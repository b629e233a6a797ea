"""Opus packets to samples (RFC 6716).

In: packets, one after the other. Out: S16LE at 48 kHz, with one channel or two.
"""

import av
from av.error import FFmpegError

from transcriber.audio.codecs.opus import OPUS_HEAD, OPUS_RATE, OpusHeader
from transcriber.audio.format import AudioFormat, SampleFormat
from transcriber.errors import BadInputError


class OpusDecoder:
    """Decodes packets in their order; each depends a little on those before it.

    Attributes:
        format: of the samples.
        scale: frames of samples for each that a container counts.
    """

    scale = 1

    def __init__(self, head: OpusHeader) -> None:
        self.format = AudioFormat(SampleFormat.S16LE, OPUS_RATE, head.channels)
        self._context = av.codec.CodecContext.create("libopus", "r")
        # Without pre-skip, which the caller applies: the decoder would apply it where a stream is joined in the middle, too.
        self._context.extradata = (
            OPUS_HEAD
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
        return b"".join(
            bytes(memoryview(frame.planes[0])[: frame.samples * self.format.frame_bytes])
            for frame in decode_packet(self._context, packet, "an Opus packet")
        )


def decode_packet(context: "av.AudioCodecContext", packet: bytes, what: str) -> list["av.AudioFrame"]:
    """The frames of one packet, called ``what`` in an error.

    Raises:
        BadInputError: it does not decode.
    """
    if not packet:  # to the decoder that means the end of the stream
        raise BadInputError(f"{what} is empty")
    try:
        return context.decode(av.Packet(packet))
    except FFmpegError as error:
        raise BadInputError(f"{what} does not decode: {error.strerror}") from None
