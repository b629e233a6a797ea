"""Words through the real daemon: how many are wrong and where, how late they come, and how many nobody said.

In: a model, and recordings with what is said in them: readings and dialogues in voices that the demo model never heard
(Debian's espeak-ng and flite; the bundled recordings where they are missing), or a user's own (``bench.recordings`` says how
they lie). They go over NATS, clean, in noise, and as a telephone sends them, to daemons that cut their windows in different
ways; and once more in real time, for the delays.

Out: word error rates beside the best that the model can do with the whole recording, with 95 % intervals over recordings;
words changed, lost, invented and doubled, at the cuts and elsewhere; from the end of a word to its text; and words an hour
where nobody speaks. ``--table`` prints Markdown. With the demo model some twenty minutes on two quiet cores.
"""

import asyncio
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench import words_table
from bench.daemon import MeasuredDaemon
from bench.delays import delay_figures
from bench.false_text import false_text, sounds
from bench.noise import ALL_KINDS, mixed
from bench.playing import LINEAR, TELEPHONE, Player, Wire, player
from bench.readings import dialogues, readings
from bench.recordings import BUNDLED, SEED, Recording, read_folder, some_of
from bench.reference import reference, ways
from bench.report import Results, note, run
from bench.scoring import Errors, score
from transcriber.config import load_settings
from transcriber.demo.broker import EmbeddedBroker
from transcriber.models.catalog import model_name
from transcriber.models.find import find_named_model

CUTS = {
    "fixed": {"BUFFER_CUT": "fixed", "ENDPOINT_SILENCE_SECS": "0"},
    "quiet": {"BUFFER_CUT": "quiet", "ENDPOINT_SILENCE_SECS": "0"},
    "quiet_endpoint": {"BUFFER_CUT": "quiet", "ENDPOINT_SILENCE_SECS": "0.5"},
}
CONTEXTS = {"": {"WHISPER_CONTEXT": "off"}, "_context": {"WHISPER_CONTEXT": "prompt"}}
VARIANTS = {f"{cut}{context}": CUTS[cut] | CONTEXTS[context] for context in CONTEXTS for cut in CUTS}
QUICK_VARIANTS = ("fixed", "quiet_endpoint")

ALWAYS = {"SPEECH_GATE": "1", "SPEAKERS": "mix"}
WITHOUT_PARTIALS, WITH_PARTIALS = {"PARTIAL_INTERVAL_SECS": "0"}, {"PARTIAL_INTERVAL_SECS": "1.0"}
GATES = {name: CUTS["quiet_endpoint"] | {"SPEECH_GATE": on} for name, on in (("gate_on", "1"), ("gate_off", "0"))}

CONDITIONS = {"white_15_db": ("white", 15.0), "babble_20_db": ("babble", 20.0)}
"""At 10 dB of babble the demo model has 59 % of the words wrong: too many to see the cuts."""
AT_ONCE = 4
LOAD, MAX_SPEED = 0.8, 20.0
"""Share of the worker's time that playing may ask for, by its speed at the start; and the most at which we play."""

QUICK_RECORDINGS, QUICK_S = 2, 30.0
DELAYED_RECORDINGS, DELAYED_S, QUICK_DELAYED_S = 4, 60.0, 12.0
"""What is played in real time, of each corpus."""

FALSE_TEXT_S, QUICK_FALSE_TEXT_S = 600.0, 30.0
"""Of each kind of sound."""


class Corpus(NamedTuple):
    """Recordings and how they are sent; ``clean`` is the corpus of which this is a worse copy."""

    recordings: list[Recording]
    wire: Wire = LINEAR
    clean: str | None = None


@dataclass(frozen=True, slots=True)
class Bench:
    """What all parts share.

    Attributes:
        speed: at which to play; None for what the model can take.
        seconds: what each part took.
    """

    url: str
    model: Path
    language: str
    speed: float | None
    quick: bool
    skipped: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    def daemon(self, *settings: dict[str, str]) -> MeasuredDaemon:
        named = {name: value for some in (ALWAYS, WITHOUT_PARTIALS, *settings) for name, value in some.items()}
        named |= {"WHISPER_MODEL_PATH": str(self.model), "WHISPER_LANGUAGE": self.language}
        return MeasuredDaemon(self.url, None, **named)

    def speed_for(self, ready: Player, recordings: list[Recording]) -> float:
        at_once = min(AT_ONCE, len(recordings))
        return self.speed or max(1.0, min(MAX_SPEED, LOAD / ready.rtf / at_once))

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        note(f"words: {part}")
        began_s = time.monotonic()
        yield
        self.seconds[part] = round(time.monotonic() - began_s, 1)
        note(f"words: {part} took {self.seconds[part]:g} s")


def add_options(parser: ArgumentParser) -> None:
    parser.add_argument("--model", default="demo", help="a ggml file, or a name such as base.en, downloaded once")
    parser.add_argument("--corpus", type=Path, metavar="DIR", help="recordings with their texts, instead of the demo's")
    parser.add_argument("--language", default="en", metavar="CODE")
    parser.add_argument(
        "--speed",
        type=float,
        metavar="X",
        help="times real time; default: what the model can take. Delays are always at 1",
    )
    parser.add_argument("--table", action="store_true", help="print Markdown before the JSON")


def measure(quick: bool, model: str, corpus: Path | None, language: str, speed: float | None, table: bool) -> Results:
    path = find_named_model(load_settings(), model)
    with EmbeddedBroker() as broker:
        bench = Bench(broker.url, path, language, speed, quick)
        results = asyncio.run(_measure(bench, corpus))
    if table:
        print(words_table.markdown(results))
    return results


async def _measure(bench: Bench, folder: Path | None) -> Results:
    spoken = {"yours": read_folder(folder)} if folder else demo_corpora(bench.skipped)
    if bench.quick:
        spoken = {
            name: [one.opening(QUICK_S) for one in some_of(all_, QUICK_RECORDINGS)] for name, all_ in spoken.items()
        }
    corpora = in_conditions(spoken, bench)
    best, results = beside(corpora, bench)
    for name in QUICK_VARIANTS if bench.quick else VARIANTS:
        with bench.timed(f"words, {name}"):
            results["words"][name] = await words_wrong(bench, corpora, best, VARIANTS[name])
    for name in QUICK_VARIANTS[-1:] if bench.quick else CUTS:
        with bench.timed(f"delays, {name}"):
            results["delays"][name] = await delays(bench, spoken, CUTS[name])
    recordings = sounds(QUICK_FALSE_TEXT_S if bench.quick else FALSE_TEXT_S, bench.skipped)
    for name, settings in GATES.items():
        with bench.timed(f"false text, {name}"), bench.daemon(settings) as daemon:
            async with player(daemon, bench.url) as ready:
                speed = bench.speed_for(ready, recordings)
                results["false_text"][name] = await false_text(ready, recordings, speed, AT_ONCE)
    return results


def beside(corpora: dict[str, Corpus], bench: Bench) -> tuple[dict[str, Errors], Results]:
    """The best of each corpus, and results that wait for the rest."""
    best: dict[str, Errors] = {}
    figures: dict[str, Results] = {}
    with bench.timed("reference"):
        hearing = ways(bench.model, bench.language)
        for name, corpus in corpora.items():
            # The way that is better where it is quiet is used where it is not.
            way = figures[corpus.clean]["better"] if corpus.clean else None
            tried = {way: hearing[way]} if way else hearing
            best[name], figures[name] = reference(tried, corpus.recordings, corpus.wire)
    return best, {
        "model": model_name(bench.model),
        "window_s": load_settings().buffer_duration_secs,
        "recordings": {name: len(one.recordings) for name, one in corpora.items()},
        "minutes": {name: round(sum(r.duration_s for r in one.recordings) / 60, 1) for name, one in corpora.items()},
        "reference": figures,
        "words": {},
        "delays": {},
        "false_text": {},
        "skipped": bench.skipped,
        "seconds": bench.seconds,
    }


def demo_corpora(skipped: list[str]) -> dict[str, list[Recording]]:
    """Held-out voices, or the bundled recordings where there are no synthesisers."""
    try:
        return {"readings": readings(), "dialogues": dialogues()}
    except OSError as error:
        skipped.append(f"held-out voices: {error}; install espeak-ng and flite")
        return {"bundled": read_folder(BUNDLED)}


def in_conditions(spoken: dict[str, list[Recording]], bench: Bench) -> dict[str, Corpus]:
    """Everything clean, and every other recording of the first corpus in noise and as a telephone sends it."""
    corpora = {name: Corpus(recordings) for name, recordings in spoken.items()}
    if bench.quick:
        return corpora
    name, recordings = next(iter(spoken.items()))
    for condition, (kind, snr_db) in CONDITIONS.items():
        try:
            noisy = [in_noise(one, kind, snr_db, number) for number, one in enumerate(recordings[::2])]
        except OSError as error:
            bench.skipped.append(f"{condition}: {error}; install espeak-ng and flite")
            continue
        corpora[f"{name}_{condition}"] = Corpus(noisy, clean=name)
    return corpora | {f"{name}_telephone": Corpus(recordings[::2], TELEPHONE, name)}


def in_noise(recording: Recording, kind: str, snr_db: float, number: int) -> Recording:
    """The same noise each time, for each ``number`` another one."""
    noise = ALL_KINDS[kind](np.random.default_rng([SEED, number]), len(recording.samples))
    return replace(recording, samples=mixed(recording.samples, noise, snr_db))


async def words_wrong(
    bench: Bench, corpora: dict[str, Corpus], best: dict[str, Errors], settings: dict[str, str]
) -> Results:
    """By corpus: errors of one way to cut, beside the best."""
    out: Results = {}
    with bench.daemon(settings) as daemon:
        async with player(daemon, bench.url) as ready:
            for name, corpus in corpora.items():
                speed, played = await ready.play_without_loss(
                    corpus.recordings, corpus.wire, bench.speed_for(ready, corpus.recordings), AT_ONCE
                )
                gaps = sum(len(one.gaps) for one in played)
                out[name] = {"speed": round(speed, 1), "gaps": gaps} | score(played, best[name])
    return out


async def delays(bench: Bench, spoken: dict[str, list[Recording]], settings: dict[str, str]) -> Results:
    """By corpus, where the words have times: in real time, with partials."""
    length_s = QUICK_DELAYED_S if bench.quick else DELAYED_S
    timed = {name: [one.opening(length_s) for one in some if one.words is not None] for name, some in spoken.items()}
    chosen = {name: some_of(some, DELAYED_RECORDINGS) for name, some in timed.items() if some}
    with bench.daemon(settings, WITH_PARTIALS) as daemon:
        async with player(daemon, bench.url) as ready:
            everything = [one for some in chosen.values() for one in some]
            _, played = await ready.play_without_loss(everything, LINEAR, 1.0, AT_ONCE)
    came = iter(played)
    return {name: delay_figures([next(came) for _ in some]) for name, some in chosen.items()}


if __name__ == "__main__":
    run("words", measure, add_options)
