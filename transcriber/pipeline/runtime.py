"""What all streams of a daemon share, and the options of one clip or file. Plain data."""

from dataclasses import dataclass

from transcriber.audio.vad.detector import Network
from transcriber.config import Settings
from transcriber.diarization.live_labeller import LiveLabeller
from transcriber.engine.job import ModelFacts
from transcriber.live_settings.live import LiveSettings, StreamSettings
from transcriber.logs import RateLimited
from transcriber.pipeline.sinks import MessageSink
from transcriber.telemetry import Telemetry


@dataclass(frozen=True, slots=True)
class Runtime:
    """What all streams of a daemon share.

    Attributes:
        model: the one in use, whichever that is by now.
        network: detects speech; None: nothing needs it.
        labeller: finds the speakers of streams by voice; None: voices are not distinguished.
        live: settings that may change; None: none do, as of clips and files.
    """

    settings: Settings
    model: ModelFacts
    network: Network | None
    publisher: MessageSink
    telemetry: Telemetry
    warnings: RateLimited
    labeller: LiveLabeller | None = None
    live: LiveSettings | None = None

    @property
    def daemon(self) -> Settings:
        """The settings of the daemon as a whole, at this moment."""
        return self.live.daemon if self.live else self.settings

    def stream(self, name: str) -> StreamSettings:
        """The settings of a stream."""
        return self.live.stream(name) if self.live else StreamSettings(self.settings)


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
