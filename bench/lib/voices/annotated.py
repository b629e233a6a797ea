"""Real recordings with the turns of their speakers, and turns as RTTM, the format of the field.

In: the source archive of ``pyannote.audio`` (MIT), as ``pip download --no-deps --no-binary pyannote.audio pyannote.audio==4.0.7`` fetches it.
Out: half a minute of a telephone call, and of each of thirteen meetings of the AMI corpus (CC BY 4.0): samples, turns, and what each speaker
says alone.
"""

import hashlib
import io
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from bench.lib.recordings import Samples
from bench.lib.voices.stretches import Stretch, phrases
from transcriber.engine.job import WHISPER_SAMPLE_RATE

SHA256 = "3a903dfb5ca711d134cc2522561c9158b186836f5d62e8a57c46c6648e8a8229"
CALL = "pyannote_audio-4.0.7/src/pyannote/audio/sample/sample"
MEETINGS = "pyannote_audio-4.0.7/tests/data/"
TURNS = ("debug.development.rttm", "debug.test.rttm", "debug.train.rttm")
NAMES = ("dev00", "dev01", "tst00", "tst01", *(f"trn0{number}" for number in range(1, 10)))
PAUSE_S, LEAST_S = 0.16, 0.9
"""What is said alone is cut at pauses, into phrases that long at least."""

Turn = tuple[str, float, float]
"""Speaker, and the seconds where what it says without a pause starts and ends."""


class Annotated(NamedTuple):
    """A recording, (n,) float32 at 16 kHz, and who speaks when in it."""

    name: str
    telephone: bool
    samples: Samples
    turns: tuple[Turn, ...]

    def alone(self) -> dict[str, list[Stretch]]:
        """By speaker, what nobody else speaks over."""
        found: dict[str, list[Stretch]] = {}
        for speaker, start_s, end_s in self.turns:
            free = [(start_s, end_s)]
            for other, begin_s, stop_s in self.turns:
                if other != speaker:
                    free = [part for span in free for part in _without(span, (begin_s, stop_s))]
            pieces = [self.samples[round(a * WHISPER_SAMPLE_RATE) : round(b * WHISPER_SAMPLE_RATE)] for a, b in free]
            said = [phrase for piece in pieces for phrase in phrases(piece, PAUSE_S, LEAST_S)]
            found.setdefault(speaker, []).extend(phrase for phrase in said if phrase.duration_s >= LEAST_S)
        return found


def read_archive(path: Path) -> list[Annotated]:
    """The call, then the meetings.

    Raises:
        SystemExit: it cannot be read, or is another version.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SystemExit(f"{path}: {error.strerror}") from error
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise SystemExit(f"{path}: not the source archive of pyannote.audio 4.0.7")
    with tarfile.open(fileobj=io.BytesIO(content)) as files:

        def read(name: str) -> bytes:
            file = files.extractfile(name)
            return file.read() if file else b""

        call = Annotated("call", True, _samples(read(f"{CALL}.wav")), tuple(parsed(read(f"{CALL}.rttm").decode())))
        rttm = "".join(read(f"{MEETINGS}{name}").decode() for name in TURNS)
        meetings = [
            Annotated(name, False, _samples(read(f"{MEETINGS}{name}.wav")), tuple(parsed(rttm, name))) for name in NAMES
        ]
    return [call, *meetings]


def parsed(rttm: str, name: str = "") -> list[Turn]:
    """Those of the recording of that name; of any, if there is none.

    >>> parsed("SPEAKER call 1 6.690 0.430 <NA> <NA> anna <NA> <NA>")
    [('anna', 6.69, 7.12)]
    """
    fields = [line.split() for line in rttm.splitlines() if line.startswith("SPEAKER ")]
    return [(one[7], float(one[3]), round(float(one[3]) + float(one[4]), 3)) for one in fields if name in {"", one[1]}]


def written(name: str, turns: Iterable[Turn]) -> str:
    """
    >>> written("call", [("anna", 6.69, 7.12)])
    'SPEAKER call 1 6.690 0.430 <NA> <NA> anna <NA> <NA>\\n'
    """
    return "".join(
        f"SPEAKER {name} 1 {start_s:.3f} {end_s - start_s:.3f} <NA> <NA> {speaker} <NA> <NA>\n"
        for speaker, start_s, end_s in turns
    )


def _samples(wav: bytes) -> Samples:
    return np.asarray(soundfile.read(io.BytesIO(wav), dtype="float32")[0])


def _without(span: tuple[float, float], taken: tuple[float, float]) -> list[tuple[float, float]]:
    """
    >>> _without((0, 5), (1, 2))
    [(0, 1), (2, 5)]
    """
    (start, end), (begin, stop) = span, taken
    return [(a, b) for a, b in ((start, min(end, begin)), (max(start, stop), end)) if a < b]
