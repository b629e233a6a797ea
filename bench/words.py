"""Words through the real daemon: how many are wrong and where, how late they come, and how many nobody said.

In: a model, and recordings with what is said in them: for the demo model readings and dialogues in voices that it never heard
(Debian's espeak-ng and flite; the bundled recordings where they are missing), for any other ``bench.lib.speech.corpora``, or a user's own
(``bench.lib.recordings`` says how they lie). They go over NATS, clean, in noise, with music, and as a telephone sends them, to
daemons that cut their windows in different ways; and once more in real time, for the delays.

Out: word error rates beside the best that the model can do with the whole recording, with 95 % intervals over recordings;
words changed, lost, invented and doubled, at the cuts and elsewhere; words said twice or cut in half there, and sentences that
end there but do not; from the end of a word to its text; and words an hour where nobody speaks. ``--table`` prints Markdown.
``--hours 4`` is only about errors that are seldom: so much speech, with the default settings. With the demo model some twenty
minutes on two quiet cores, with base several times that; ``--variants`` and ``--parts`` make it less.
"""

import asyncio
import time
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.false_text import false_text, sounds
from bench.lib.daemon import MeasuredDaemon
from bench.lib.playing import LINEAR, Player, player
from bench.lib.recordings import Recording, some_of
from bench.lib.report import Results, note, run
from bench.lib.speech.conditions import Corpus, conditions_of, in_conditions
from bench.lib.speech.corpora import long_form
from bench.lib.speech.material import spoken_to
from bench.lib.words import table as words_table
from bench.lib.words.delays import delay_figures
from bench.lib.words.normal import Split, split_for
from bench.lib.words.reference import reference, ways
from bench.lib.words.scoring import Errors, score
from bench.lib.words.variants import CUTS, DEFAULT, GATES, QUICK_VARIANTS, VARIANTS
from transcriber.config import load_settings
from transcriber.models.catalog import model_name
from transcriber.models.find import find_named_model
from transcriber.testing.broker import EmbeddedBroker
from transcriber.testing.wer import words

PARTS = ("reference", "words", "delays", "false_text")

ALWAYS = {"SPEECH_GATE": "1", "SPEAKERS": "mix"}
WITHOUT_PARTIALS, WITH_PARTIALS = {"PARTIAL_INTERVAL_SECS": "0"}, {"PARTIAL_INTERVAL_SECS": "1.0"}
AT_ONCE = 4
"""Streams that are played together; delays of an idle machine are those of one."""
LOAD, MAX_SPEED = 0.8, 20.0
"""Share of the worker's time that playing may ask for, by its speed at the start; and the most at which we play."""

QUICK_RECORDINGS, QUICK_S = 2, 30.0
DELAYED_RECORDINGS, DELAYED_S, QUICK_DELAYED_S = 4, 60.0, 12.0
"""What is played in real time, of each corpus."""

FALSE_TEXT_S, QUICK_FALSE_TEXT_S = 600.0, 30.0
"""Of each kind of sound."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What all parts share.

    Attributes:
        split: how words are compared.
        speed: at which to play; None for what the model can take.
        seconds: what each part took.
    """

    url: str
    model: Path
    language: str
    speed: float | None
    quick: bool
    at_once: int = AT_ONCE
    split: Split = words
    skipped: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    def daemon(self, *settings: dict[str, str]) -> MeasuredDaemon:
        named = {name: value for some in (ALWAYS, WITHOUT_PARTIALS, *settings) for name, value in some.items()}
        named |= {"WHISPER_MODEL_PATH": str(self.model), "WHISPER_LANGUAGE": self.language}
        return MeasuredDaemon(self.url, None, **named)

    def speed_for(self, ready: Player, recordings: list[Recording]) -> float:
        at_once = min(self.at_once, len(recordings))
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
    parser.add_argument("--corpus", type=Path, metavar="DIR", help="recordings with their texts, instead of ours")
    parser.add_argument("--language", default="en", metavar="CODE")
    parser.add_argument(
        "--speed",
        type=float,
        metavar="X",
        help="times real time; default: what the model can take. Delays are always at 1",
    )
    parser.add_argument("--variants", default="", metavar="NAME,...", help=f"of {', '.join(VARIANTS)}; default: all")
    parser.add_argument("--parts", default=",".join(PARTS), metavar="NAME,...", help="default: %(default)s")
    parser.add_argument(
        "--at-once",
        type=int,
        default=AT_ONCE,
        metavar="N",
        help="streams that are played together; default: %(default)s",
    )
    parser.add_argument("--clean", action="store_true", help="without noise, music and telephone")
    parser.add_argument("--minutes", type=float, default=0.0, metavar="X", help="of each corpus; default: all of it")
    parser.add_argument(
        "--hours", type=float, default=0.0, metavar="X", help="rates over so much speech, and nothing else"
    )
    parser.add_argument("--table", action="store_true", help="print Markdown before the JSON")


def measure(
    quick: bool,
    model: str,
    corpus: Path | None,
    language: str,
    speed: float | None,
    variants: str,
    parts: str,
    at_once: int,
    clean: bool,
    minutes: float,
    hours: float,
    table: bool,
) -> Results:
    path, split = find_named_model(load_settings(), model), split_for(model)
    with EmbeddedBroker() as broker:
        bench = Bench(broker.url, path, language, speed, quick, at_once, split)
        if hours:
            results = asyncio.run(_rates(bench, {"long_form": long_form(hours)}))
        else:
            spoken = spoken_to(model, corpus, minutes, bench.skipped)
            if quick:
                spoken = {
                    name: [one.opening(QUICK_S) for one in some_of(all_, QUICK_RECORDINGS)]
                    for name, all_ in spoken.items()
                }
            chosen = variants.split(",") if variants else list(QUICK_VARIANTS if quick else VARIANTS)
            conditions = None if clean or quick else conditions_of(model)
            results = asyncio.run(_measure(bench, spoken, conditions, chosen, parts.split(",")))
    if table:
        print(words_table.markdown(results))
    return results


async def _measure(
    bench: Bench,
    spoken: dict[str, list[Recording]],
    conditions: tuple[Mapping[str, tuple[str, float]], int] | None,
    variants: Sequence[str],
    parts: Sequence[str],
) -> Results:
    corpora = {name: Corpus(recordings) for name, recordings in spoken.items()}
    if conditions:
        corpora = in_conditions(spoken, *conditions, bench.skipped)
    best: dict[str, Errors] = {}
    results = about(bench, corpora)
    if "reference" in parts:
        best, results["reference"] = beside(corpora, bench)
    if "words" in parts:
        for name in variants:
            with bench.timed(f"words, {name}"):
                results["words"][name] = await words_wrong(bench, corpora, best, VARIANTS[name])
    if "delays" in parts:
        for name in filter(CUTS.__contains__, variants[-1:] if bench.quick else variants):
            with bench.timed(f"delays, {name}"):
                results["delays"][name] = await delays(bench, spoken, CUTS[name])
    if "false_text" in parts:
        recordings = sounds(QUICK_FALSE_TEXT_S if bench.quick else FALSE_TEXT_S, bench.skipped)
        for name, settings in GATES.items():
            with bench.timed(f"false text, {name}"), bench.daemon(settings) as daemon:
                async with player(daemon, bench.url) as ready:
                    speed = bench.speed_for(ready, recordings)
                    results["false_text"][name] = await false_text(ready, recordings, speed, bench.at_once)
    return results


async def _rates(bench: Bench, spoken: dict[str, list[Recording]]) -> Results:
    """With the default settings, and nothing beside it."""
    corpora = {name: Corpus(recordings) for name, recordings in spoken.items()}
    results = about(bench, corpora)
    with bench.timed(f"words, {DEFAULT}"):
        results["words"][DEFAULT] = await words_wrong(bench, corpora, {}, VARIANTS[DEFAULT])
    return results


def beside(corpora: dict[str, Corpus], bench: Bench) -> tuple[dict[str, Errors], Results]:
    """The best of each corpus, and its figures."""
    best: dict[str, Errors] = {}
    figures: dict[str, Results] = {}
    with bench.timed("reference"):
        hearing = ways(bench.model, bench.language)
        for name, corpus in corpora.items():
            # The way that is better where it is quiet is used where it is not.
            way = figures[corpus.clean]["better"] if corpus.clean else None
            tried = {way: hearing[way]} if way else hearing
            best[name], figures[name] = reference(tried, corpus.recordings, corpus.wire, bench.split)
    return best, figures


def about(bench: Bench, corpora: dict[str, Corpus]) -> Results:
    """Results that wait for their figures."""
    return {
        "model": model_name(bench.model),
        "at_once": bench.at_once,
        "window_s": load_settings().buffer_duration_secs,
        "recordings": {name: len(one.recordings) for name, one in corpora.items()},
        "minutes": {name: round(sum(r.duration_s for r in one.recordings) / 60, 1) for name, one in corpora.items()},
        "reference": {},
        "words": {},
        "delays": {},
        "false_text": {},
        "skipped": bench.skipped,
        "seconds": bench.seconds,
    }


async def words_wrong(
    bench: Bench, corpora: dict[str, Corpus], best: dict[str, Errors], settings: dict[str, str]
) -> Results:
    """By corpus: errors of one way to cut, beside the best."""
    out: Results = {}
    with bench.daemon(settings) as daemon:
        async with player(daemon, bench.url) as ready:
            for name, corpus in corpora.items():
                speed, played = await ready.play_without_loss(
                    corpus.recordings, corpus.wire, bench.speed_for(ready, corpus.recordings), bench.at_once
                )
                gaps = sum(len(one.gaps) for one in played)
                out[name] = {"speed": round(speed, 1), "gaps": gaps} | score(played, best.get(name), bench.split)
    return out


async def delays(bench: Bench, spoken: dict[str, list[Recording]], settings: dict[str, str]) -> Results:
    """By corpus, where the words have times: in real time, with partials."""
    length_s = QUICK_DELAYED_S if bench.quick else DELAYED_S
    timed = {name: [one.opening(length_s) for one in some if one.words is not None] for name, some in spoken.items()}
    chosen = {name: some_of(some, DELAYED_RECORDINGS) for name, some in timed.items() if some}
    with bench.daemon(settings, WITH_PARTIALS) as daemon:
        async with player(daemon, bench.url) as ready:
            everything = [one for some in chosen.values() for one in some]
            _, played = await ready.play_without_loss(everything, LINEAR, 1.0, bench.at_once)
    came = iter(played)
    return {name: delay_figures([next(came) for _ in some]) for name, some in chosen.items()}


if __name__ == "__main__":
    run("words", measure, add_options)
