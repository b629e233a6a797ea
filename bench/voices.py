"""Who speaks, by voice: how many labels are wrong, how late they are, and what they cost.

In: dialogues of two to six real and synthetic voices, clean, in noise and over a telephone (``bench.lib.voices``), and with ``--real`` a
telephone call and meetings. Out: the diarization error rate (DER) with a collar of 0 and of 0.25 s on either side, and its parts; speakers
found; words, said while nobody else speaks, that have another's label; each live as first published, after the second pass, and of the whole as a file. Windows until a label
is right; processor time for a second of audio and of speech, on one core; memory.
"""

import statistics
import time
import tracemalloc
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.lib.recordings import Samples
from bench.lib.report import Results, note, run
from bench.lib.voices.annotated import Annotated, Turn, read_archive
from bench.lib.voices.cast import Voice, bundled, cast, people
from bench.lib.voices.dialogues import CONDITIONS, SPEAKERS, Dialogue, dialogues
from bench.lib.voices.labelled import Live, RememberingNetworks, live, resident_mb, whole_file
from bench.lib.voices.scores import COLLARS_S, Errors, Scorer, rates, windows_late, words_wrong
from bench.lib.voices.stretches import overlapped_s
from transcriber.audio.vad.silero import Silero
from transcriber.config import load_settings
from transcriber.diarization.file_labeller import FileLabeller
from transcriber.diarization.live_labeller import LiveLabeller
from transcriber.diarization.networks import SIZE, VoiceNetworks
from transcriber.diarization.pieces import LOCALS
from transcriber.diarization.voices import unit
from transcriber.engine.job import WHISPER_SAMPLE_RATE

SEED, DIALOGUES = 7, 40
QUICK_DIALOGUES, QUICK_LENGTH_S = 2, 20.0
WAYS = ("live", "second pass", "file")
CALL, MEETINGS = "real call", "real meetings"
MANY_S, MANY_SPEAKERS = 10 * 3600, 8
"""A long file."""


@dataclass(frozen=True, slots=True)
class Scored:
    """One dialogue and what became of it.

    Attributes:
        errors: by way and collar.
        speakers: how many were found, by way.
        words: by way.
        late: windows until a label is right, of turns and of speakers.
        live: the session.
        file_s: processor time of the whole file.
    """

    dialogue: Dialogue
    errors: dict[str, dict[float, Errors]]
    speakers: dict[str, int]
    words: dict[str, Counter[str]]
    late: tuple[list[int | None], list[int | None]]
    live: Live
    file_s: float


def add_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--real",
        type=Path,
        metavar="FILE",
        help="source archive of pyannote.audio 4.0.7, which has a call and meetings",
    )
    parser.add_argument("--dialogues", type=int, default=DIALOGUES, metavar="N", help="two minutes each")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument(
        "--answers", type=Path, metavar="FILE", help="what the networks said before, and where to keep it"
    )


def measure(quick: bool, real: Path | None, dialogues: int, seed: int, answers: Path | None) -> Results:
    scorer = Scorer()
    skipped: list[str] = []
    recordings = read_archive(real) if real else []
    voices = [*people(), *bundled()] if quick else cast(recordings, skipped)
    before_mb, started_s = resident_mb(), time.perf_counter()
    networks = RememberingNetworks(VoiceNetworks(), answers)
    loaded = {
        "load_ms": round(1000 * (time.perf_counter() - started_s)),
        "networks_mb": round(resident_mb() - before_mb),
    }
    scored = [scored_as(one, networks, scorer) for one in spoken(quick, voices, recordings, dialogues, seed)]
    results = {
        "material": material(scored, voices) | {"skipped": skipped},
        "cost": loaded | cost(scored) | {"resident_mb": round(resident_mb())},
        "clustered": clustered(MANY_S // 120 if quick else MANY_S),
        "windows_late": lateness(_made(scored)),
        "groups": {name: figures(some) for name, some in groups(scored).items()},
    }
    print(markdown(results))
    return results


def spoken(
    quick: bool, voices: Sequence[Voice], recordings: Sequence[Annotated], number: int, seed: int
) -> Iterable[Dialogue]:
    """The recordings, and so many dialogues."""
    for one in recordings:
        yield Dialogue(one.name, CALL if one.telephone else MEETINGS, one.samples, one.turns, ())
    yield from dialogues(seed, QUICK_DIALOGUES, voices, QUICK_LENGTH_S) if quick else dialogues(seed, number, voices)


def scored_as(dialogue: Dialogue, networks: RememberingNetworks, scorer: Scorer) -> Scored:
    note(f"voices: {dialogue.name}, {len(dialogue.speakers)} speakers, {dialogue.condition}")
    settings = load_settings()
    session = live(
        dialogue.samples, LiveLabeller(networks, settings.most_held_back_s), settings, Silero(), networks.processor_s
    )
    file, file_s = whole_file(dialogue.samples, networks, networks.processor_s)
    networks.keep()
    found = dict(zip(WAYS, (session.first, session.revised, file), strict=True))
    named = {way: scorer.speakers(dialogue.turns, turns) for way, turns in found.items()}
    windows = [(window.start_s, window.end_s) for window in session.windows]
    return Scored(
        dialogue,
        {way: scorer.errors(dialogue.turns, turns, dialogue.duration_s) for way, turns in found.items()},
        {way: len({label for label, _, _ in turns}) for way, turns in found.items()},
        {way: words_wrong(dialogue.words, dialogue.turns, turns, named[way]) for way, turns in found.items()},
        windows_late(dialogue.turns, session.first, windows, named["live"]),
        session,
        file_s,
    )


def groups(scored: Sequence[Scored]) -> dict[str, list[Scored]]:
    """By condition, by number of speakers, and all dialogues together; and what is real."""
    made = _made(scored)
    found = {"all": made}
    for name in (*CONDITIONS, CALL, MEETINGS):
        found[name] = [one for one in scored if one.dialogue.condition == name]
    for number in SPEAKERS:
        found[f"{number} speakers"] = [one for one in made if len(one.dialogue.speakers) == number]
    return {name: some for name, some in found.items() if some}


def figures(scored: Sequence[Scored]) -> Results:
    """By way, of dialogues weighted by what is said in them."""
    results: Results = {"minutes": round(sum(one.dialogue.duration_s for one in scored) / 60, 1)}
    for way in WAYS:
        words = sum((one.words[way] for one in scored), Counter())
        off = [one.speakers[way] - len(one.dialogue.speakers) for one in scored]
        results[way] = {
            **{
                f"collar_{collar_s:g}_s": rates([one.errors[way][collar_s] for one in scored]) for collar_s in COLLARS_S
            },
            "number_of_speakers_right": f"{off.count(0)} of {len(off)}",
            "speakers_too_many_mean": round(statistics.mean(off), 2),
            "words_percent": {
                name: round(100 * words[name] / words["said"], 1) if words["said"] else None
                for name in ("another", "no_label")
            },
        }
    return results


def material(scored: Sequence[Scored], voices: Sequence[Voice]) -> Results:
    made = [one.dialogue for one in _made(scored)]
    speech_s = [_speech_s(one.turns) for one in made]
    return {
        "dialogues": len(made),
        "minutes": round(sum(one.duration_s for one in made) / 60, 1),
        "speech_minutes": round(sum(any_s for any_s, _ in speech_s) / 60, 1),
        "overlap_percent": round(100 * sum(many_s for _, many_s in speech_s) / sum(any_s for any_s, _ in speech_s), 1),
        "words": sum(len(one.words) for one in made),
        "voices": [voice.name for voice in voices],
    }


def cost(scored: Sequence[Scored]) -> Results:
    """Processor time in ms, median over dialogues; and the bytes that a session's voices take."""

    def median(took_s: Callable[[Scored], float], of_s: Callable[[Scored], float]) -> float:
        return round(1000 * statistics.median(took_s(one) / of_s(one) for one in scored), 1)

    took: dict[str, Callable[[Scored], float]] = {
        "live": lambda one: sum(window.labelled_s for window in one.live.windows),
        "second pass": lambda one: one.live.revised_s,
        "file": lambda one: one.file_s,
    }
    windows_s = [window.labelled_s for one in scored for window in one.live.windows]
    return {
        "ms_per_s_of_audio": {way: median(time_s, lambda one: one.dialogue.duration_s) for way, time_s in took.items()},
        "ms_per_s_of_speech": {way: median(time_s, lambda one: _speech_s(one.dialogue.turns)[0]) for way, time_s in took.items()},
        "ms_per_window": {
            "median": round(1000 * statistics.median(windows_s)), "p95": round(1000 * float(np.quantile(windows_s, 0.95)))
        },
        "session_bytes_most": max(sum(len(voice.vector) + 8 for voice in one.live.known) for one in scored),
    }  # fmt: skip


def lateness(scored: Sequence[Scored]) -> Results:
    """Percent of turns and of speakers whose label is right at once, a window later, later, or never as first published."""
    results: Results = {}
    for number, kind in enumerate(("turns", "speakers")):
        late = list(chain.from_iterable(one.late[number] for one in scored))
        count = Counter("never" if one is None else ("at once", "a window later", "later")[min(one, 2)] for one in late)
        results[kind] = {"number": len(late)} | {
            name: round(100 * count[name] / max(1, len(late)), 1)
            for name in ("at once", "a window later", "later", "never")
        }
    return results


class ManyVoices:
    """Stands for the networks, with answers that cost nothing: three speakers in each 10 s."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng, self._said = rng, 0
        self._speakers = _vectors(rng, MANY_SPEAKERS)
        self._activity = np.zeros((589, LOCALS), bool)
        for local in range(LOCALS):
            self._activity[190 * local : 190 * local + 180, local] = True

    def activity(self, samples: Samples) -> NDArray[np.bool_]:
        return self._activity

    def voice(self, samples: Samples) -> Samples:
        self._said += 1
        return unit(2 * self._speakers[self._said % MANY_SPEAKERS] + _vectors(self._rng, 1)[0])


def clustered(number: int) -> Results:
    """Time and memory of telling the voices of a file of so many seconds apart, without those of the networks."""
    labeller = FileLabeller(ManyVoices(np.random.default_rng(SEED)))
    second = np.zeros(WHISPER_SAMPLE_RATE, np.float32)
    tracemalloc.start()
    started_s = time.perf_counter()
    for at_s in range(number):
        labeller.push(second, at_s * WHISPER_SAMPLE_RATE)
    found = labeller.turns()
    took_s = time.perf_counter() - started_s
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return {
        "seconds": number,
        "took_s": round(took_s, 1),
        "peak_mb": round(peak / 1e6, 1),
        "speakers": len({turn.voice for turn in found}),
    }


def markdown(results: Results) -> str:
    rows = [
        "| dialogues | way | DER | miss, false alarm, confusion | DER, collar 0.25 s | speakers right | words of another |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, group in results["groups"].items():
        for way in WAYS:
            one = group[way]
            exact = one["collar_0_s"]
            parts = " + ".join(str(exact[part]) for part in ("missed detection", "false alarm", "confusion"))
            rows.append(
                f"| {name}, {group['minutes']} min | {way} | {exact['der']} % | {parts} | {one['collar_0.25_s']['der']} %"
                f" | {one['number_of_speakers_right']} | {_percent(one['words_percent']['another'])} |"
            )
    return "\n".join(rows)


def _made(scored: Sequence[Scored]) -> list[Scored]:
    return [one for one in scored if one.dialogue.condition in CONDITIONS]


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value} %"


def _speech_s(turns: Sequence[Turn]) -> tuple[float, float]:
    return overlapped_s((start_s, end_s) for _, start_s, end_s in turns)


def _vectors(rng: np.random.Generator, number: int) -> Samples:
    """As unlike each other as voices."""
    return unit(rng.standard_normal((number, SIZE), np.float32))


if __name__ == "__main__":
    run("voices", measure, add_options)
