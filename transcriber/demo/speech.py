"""The bundled speech: six recordings of synthetic voices, 62 s in all. Out: PCM, and what is said in it."""

import json
from dataclasses import dataclass
from importlib.resources import as_file, files

from transcriber.audio.pcm import AudioFormat
from transcriber.errors import ConfigError

SPEECH_FORMAT = AudioFormat()
"""Of every recording: S16LE, 48 kHz, one channel."""


@dataclass(frozen=True, slots=True)
class Recording:
    """One recording.

    Attributes:
        name: such as ``01_gale_warning``.
        text: what is said.
        pcm: samples in ``SPEECH_FORMAT``.
    """

    name: str
    text: str
    pcm: bytes

    @property
    def frames(self) -> int:
        return len(self.pcm) // SPEECH_FORMAT.frame_bytes

    @property
    def duration_s(self) -> float:
        return self.frames / SPEECH_FORMAT.rate


def load_speech() -> list[Recording]:
    """All recordings, in order.

    Raises:
        ConfigError: the package that reads FLAC is not installed.
    """
    try:
        import soundfile  # noqa: PLC0415 - only the demo needs it
    except ImportError:
        raise ConfigError("soundfile is not installed: pip install soundfile") from None
    recordings = []
    with as_file(files(__package__) / "speech") as folder:
        for entry in json.loads((folder / "transcripts.json").read_bytes()):
            path = folder / entry["flac"]
            samples, _ = soundfile.read(path, dtype="int16")
            recordings.append(Recording(path.stem, entry["text"], samples.tobytes()))
    return recordings
