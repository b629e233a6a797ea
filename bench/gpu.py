"""What a GPU does: whether its text is right, the time of a window, windows a second by every way to share it, and live streams in time.

In: models, and a device on which whisper must run: where it runs elsewhere nothing is measured, and the status is 1. Out, by
model, of real people's speech: texts beside those of the processor, with the word errors of both; a window at a time, p50 and
p95; windows a second and memory of the card by states of one context (``WHISPER_WORKERS``), threads, child processes
(``WHISPER_PROCESSES``), daemons beside each other, and both of these under MPS; and streams through the daemon of which one text
in twenty is later than 1.5 s. ``--out`` is written after each part; with the same file a run goes on where the last one
ended, and ``--seconds`` keeps it from beginning what it cannot end. ``bench.gpu_card`` runs it on a machine that has
nothing but a card.

``--device cpu`` does the same on the processor, so that every part is tried where there is no card.
"""

from argparse import ArgumentParser
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench.lib.gpu.mps import mps
from bench.lib.gpu.pools import WINDOW_S, Way, busy, check_device
from bench.lib.gpu.progress import Progress
from bench.lib.gpu.streams import LOAD_S, STEP_S, streams_in_time
from bench.lib.gpu.text import clips_of, compare_text, one_shot
from bench.lib.recordings import BUNDLED, PEOPLE, Recording, Samples, read_folder
from bench.lib.report import Results, header, run
from bench.lib.shapes import MADE, find
from bench.lib.speech.material import model_and_speech
from transcriber.config import load_settings
from transcriber.config.sizing import available_cores
from transcriber.engine.whisper.device import chosen_device
from transcriber.models.catalog import DEMO

PARTS = ("text", "one_shot", "states", "threads", "processes", "replicas", "mps", "streams")
STATES, THREADS, PROCESSES, REPLICAS, UNDER_MPS = (1, 2, 4, 8, 16), (2, 4), (2, 4, 8), (2, 4, 8), (4, 8, 12)
TURN_S, ROUNDS, ONE_SHOT_S, LOADING_S = 4.0, 200, 10.0, 6.0
TEXT_S, STREAMS_S = 20.0, 120.0
HEADROOM = 0.25
"""Streams of the first step, as a share of those that windows a second promise: left context and partials take the rest."""


def add_options(parser: ArgumentParser) -> None:
    parser.add_argument("--device", default="cuda", help="cpu, cuda, or cuda:1; default: %(default)s")
    parser.add_argument(
        "--models", default="tiny.en-q8_0,base-q8_0", help="names (-q8_0 too), made:SHAPE, demo, or ggml files"
    )
    parser.add_argument("--parts", default=",".join(PARTS), metavar="NAME,...", help="default: %(default)s")
    parser.add_argument(
        "--corpus", type=Path, metavar="DIR", help="recordings with their texts, instead of the bundled people"
    )
    parser.add_argument(
        "--seconds", type=float, default=3600.0, metavar="S", help="begin nothing that takes longer than this"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="write the results there after each part, and go on from there"
    )


def measure(
    quick: bool, device: str, models: str, parts: str, corpus: Path | None, seconds: float, out: Path | None
) -> Results:
    found = chosen_device(load_settings(whisper_device=device))
    check_device(device, found.name)
    about = {"device": device, "description": found.description, "commit": header("gpu")["commit"], "quick": quick}
    progress = Progress(out, about, seconds)
    for model in ["demo"] if quick else models.split(","):
        folder = corpus or (BUNDLED if model == DEMO or model.startswith(MADE) else PEOPLE)
        measured = _Model(progress, model, device, read_folder(folder), quick=quick)
        for part in parts.split(","):
            getattr(measured, part)()
    return progress.results()


class _Model:
    """All parts of one model."""

    def __init__(
        self, progress: Progress, model: str, device: str, recordings: list[Recording], *, quick: bool
    ) -> None:
        self._progress, self._device, self._quick = progress, device, quick
        self._name, self._path = (Path(model).stem if Path(model).is_file() else model), find(model)
        self._model = model
        self._clips = clips_of(recordings)[: 3 if quick else None]
        self._windows: list[Samples] = [window for one in recordings for window in one.windows(WINDOW_S)]
        self._turn_s = 0.5 if quick else TURN_S

    def text(self) -> None:
        self._take(
            "text", TEXT_S, lambda: compare_text(self._path, self._device, self._clips, min(8, available_cores()))
        )

    def one_shot(self) -> None:
        rounds, seconds = (5, 1.0) if self._quick else (ROUNDS, ONE_SHOT_S)
        self._take(
            "one_shot", LOADING_S + seconds, lambda: one_shot(self._path, self._device, self._windows, rounds, seconds)
        )

    def states(self) -> None:
        self._busy("states", [Way(self._device, workers=count) for count in self._some(STATES)])

    def threads(self) -> None:
        self._busy("threads", [Way(self._device, threads=count) for count in self._some(THREADS)])

    def processes(self) -> None:
        self._busy("processes", [Way(self._device, processes=count) for count in self._some(PROCESSES)])

    def replicas(self) -> None:
        self._busy("replicas", [Way(self._device, replicas=count) for count in self._some(REPLICAS)])

    def mps(self) -> None:
        """Child processes, and where this version has none daemons, under MPS."""
        for count in self._some(UNDER_MPS):
            for way in (Way(self._device, processes=count), Way(self._device, replicas=count)):
                self._busy("mps", [way], self._under_mps)

    def streams(self) -> None:
        """With as many states as do most, and with as many child processes."""
        for kind in ("states", "processes"):
            name = f"{self._name} {kind} "
            rows = [row for part, row in self._progress.parts.items() if part.startswith(name)]
            if not rows:
                continue
            best = max(rows, key=lambda row: row["windows_s"])
            way = Way(self._device, best["workers"], best["threads"], best["processes"])
            guess = int(best["streams"] * HEADROOM)
            seconds = 1.0 if self._quick else min(STREAMS_S, self._progress.left_s - LOAD_S)
            self._take(f"streams {kind}", LOAD_S + STEP_S, partial(self._streams, way, guess, seconds))

    def _streams(self, way: Way, guess: int, seconds: float) -> Results:
        skipped: list[str] = []
        path, pcm = model_and_speech(self._model, skipped)
        return streams_in_time(path, way, pcm, guess, seconds) | {"skipped": skipped}

    def _some(self, counts: tuple[int, ...]) -> tuple[int, ...]:
        """No more than there are cores: each needs one for what is done before and after the device."""
        fit = tuple(count for count in counts if count <= max(2, available_cores())) or counts[:1]
        return fit[: 2 if self._quick else None]

    def _busy(self, kind: str, ways: list[Way], measure: Callable[[Way], Results] | None = None) -> None:
        for way in ways:
            count = max(way.workers, way.threads, way.processes, way.replicas)
            shared = f"{kind} replicas" if kind == "mps" and way.replicas > 1 else kind
            needs_s = self._turn_s + LOADING_S + count / 2
            self._take(f"{shared} {count}", needs_s, partial(measure or self._alone, way))

    def _alone(self, way: Way) -> Results:
        return busy(self._path, way, self._windows, self._turn_s)

    def _under_mps(self, way: Way) -> Results:
        with mps():
            return self._alone(way)

    def _take(self, part: str, needs_s: float, measure: Callable[[], Results]) -> None:
        self._progress.take(f"{self._name} {part}", needs_s, measure)


if __name__ == "__main__":
    run("gpu", measure, add_options)
