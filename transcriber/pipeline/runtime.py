"""What all streams of a daemon share, and what one request or file asks for. Plain data."""

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
    """What whoever asks for text wants of it.

    Attributes:
        translate: into English.
        prompt: names and terms, shown to whisper before every window.
        requester: whose turn in the worker's queue its windows take; empty: each stream and file has its own.
    """

    translate: bool = False
    prompt: str = ""
    requester: str = ""
