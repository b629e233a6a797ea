"""What all streams of a daemon share, and the options of one clip or file. Plain data."""

from dataclasses import dataclass

from transcriber.audio.vad.detector import Network
from transcriber.config import Settings
from transcriber.engine.job import SpeechModel
from transcriber.logs import RateLimited
from transcriber.pipeline.sinks import MessageSink
from transcriber.telemetry import Telemetry


@dataclass(frozen=True, slots=True)
class Runtime:
    """What all streams of a daemon share."""

    settings: Settings
    model: SpeechModel
    network: Network | None
    publisher: MessageSink
    telemetry: Telemetry
    warnings: RateLimited


@dataclass(frozen=True, slots=True)
class RequestOptions:
    """Options of a clip or a file.

    Attributes:
        translate: into English.
        prompt: names and terms that whisper sees before every window.
        requester: clips of one requester share a turn in the worker's queue; empty: the file has its own.
    """

    translate: bool = False
    prompt: str = ""
    requester: str = ""
