"""One message of a live stream, with what is known of it. Plain data."""

from typing import NamedTuple

from transcriber.audio.headers import AudioHeaders
from transcriber.schema.arrival import Arrival
from transcriber.schema.messages import GapReason


class LivePayload(NamedTuple):
    """Samples, an encoded chunk, a heartbeat or an end.

    Attributes:
        data: samples in the stream's format, or encoded; empty: a heartbeat or an end.
        lost_before: why others may be missing before it, if they may.
        live_s: live time at which it arrived.
        published: whether a publisher sent it; False: the daemon ends the stream.
    """

    data: bytes
    headers: AudioHeaders
    lost_before: GapReason | None
    arrival: Arrival
    live_s: float
    published: bool = True
