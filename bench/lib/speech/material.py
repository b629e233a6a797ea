"""What is played to a model: of the demo model's own world to it, real speech and natural voices to any other.

In: the model's name, or a folder of a user's recordings. Out: corpora by name; or one stream of samples, to be played over and
over. What is missing is left out, with the reason.
"""

from pathlib import Path

from bench.lib.paced import pcm_of, speech
from bench.lib.recordings import BUNDLED, Recording, read_folder, some_of
from bench.lib.shapes import MADE, find
from bench.lib.speech.corpora import real_corpora
from bench.lib.speech.readings import dialogues, readings
from transcriber.models.catalog import DEMO

OF_EACH = 2
"""Recordings of each corpus of real speech."""


def spoken_to(model: str, folder: Path | None, minutes: float, skipped: list[str]) -> dict[str, list[Recording]]:
    """By name, of each so many minutes."""
    ours = demo_corpora if model == DEMO else real_corpora
    spoken = {"yours": read_folder(folder)} if folder else ours(skipped)
    return {name: share(recordings, minutes) for name, recordings in spoken.items()}


def share(recordings: list[Recording], minutes: float) -> list[Recording]:
    """About so many minutes, from all over the list; all of them where that is 0."""
    whole = sum(one.duration_s for one in recordings) / 60
    return some_of(recordings, max(1, round(len(recordings) * minutes / whole))) if 0 < minutes < whole else recordings


def demo_corpora(skipped: list[str]) -> dict[str, list[Recording]]:
    """Held-out voices, or the bundled recordings where there are no synthesisers."""
    try:
        return {"readings": readings(), "dialogues": dialogues()}
    except OSError as error:
        skipped.append(f"held-out voices: {error}; install espeak-ng and flite")
        return {"bundled": read_folder(BUNDLED)}


def model_and_speech(model: str, skipped: list[str]) -> tuple[Path, bytes]:
    """The file, and what is played to it."""
    path = find(model)
    if model == DEMO or model.startswith(MADE):
        return path, speech()
    corpora = real_corpora(skipped)
    return path, pcm_of([one for some in corpora.values() for one in some_of(some, OF_EACH)])
