"""The bundled speech. Out: PCM, and what is said in it.

``load_speech`` is harbour radio, six recordings of synthetic voices, 62 s in all, on the words of the bundled model.
``load_public_speech`` is real people, three recordings, 36 s in all, in the public domain: President Kennedy's inaugural
address, and Jane Austen as it was read for LibriVox (``public_speech/transcripts.json`` names the sources).
"""

import json
from dataclasses import dataclass
from importlib.resources import as_file, files

from transcriber.audio.format import AudioFormat
from transcriber.errors import ConfigError

SPEECH_FORMAT = AudioFormat()
"""Of harbour radio: S16LE, 48 kHz, one channel."""


@dataclass(frozen=True, slots=True)
class Recording:
    """One recording.

    Attributes:
        name: such as ``01_gale_warning``.
        text: what is said.
        pcm: samples in ``format``.
        format: S16LE, one channel.
    """

    name: str
    text: str
    pcm: bytes
    format: AudioFormat = SPEECH_FORMAT

    @property
    def frames(self) -> int:
        return len(self.pcm) // self.format.frame_bytes

    @property
    def duration_s(self) -> float:
        return self.frames / self.format.rate


def load_speech() -> list[Recording]:
    """Harbour radio, in order, in ``SPEECH_FORMAT``.

    Raises:
        ConfigError: the package that reads FLAC is not installed.
    """
    return _load("speech")


def load_public_speech() -> list[Recording]:
    """Real people, in order, at 16 kHz.

    Raises:
        ConfigError: as ``load_speech``.
    """
    return _load("public_speech")


def _load(name: str) -> list[Recording]:
    try:
        import soundfile  # noqa: PLC0415 - only the demo needs it
    except ImportError:
        raise ConfigError("soundfile is not installed: pip install soundfile") from None
    recordings = []
    with as_file(files(__package__) / name) as folder:
        for entry in json.loads((folder / "transcripts.json").read_bytes()):
            path = folder / entry["flac"]
            samples, rate = soundfile.read(path, dtype="int16")
            recordings.append(Recording(path.stem, entry["text"], samples.tobytes(), AudioFormat(rate=rate)))
    return recordings
