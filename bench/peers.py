"""Clips of up to 5 s beside the peers: real weights, real speech, same machine, in turn.

In: models whose weights the package index carries, and sentences, as many together as fit into 5 s: readings in a natural voice,
and people. Every engine has a process of its own; each clip goes to one after the other, so that a machine that slows down
does so for all. Out: by model and engine the time of a clip, how much of the peers' time that is, and the words that are wrong.

``--native DIR`` (again and again, ``LABEL=DIR`` names it) adds our own path on another build of pywhispercpp, installed into DIR with
``pip install --target``. ``--table`` prints Markdown, ``--chart FILE`` writes an SVG, and its figures beside it.
"""

import statistics
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.contexts import Piece, clips
from bench.lib.chart import Bar, save_bars
from bench.lib.peers.engines import Engine, FasterWhisper, Ours, Running, openai_whisper, pywhispercpp_defaults
from bench.lib.peers.roofline import roofline
from bench.lib.report import Results, interval, note, quantiles, run
from bench.lib.speech.corpora import real_corpora
from bench.lib.words.normal import whisper_words, word_errors

THREADS = 2
CLIPS, QUICK_CLIPS = 60, 3
CORPORA = ("readings", "people")
REFERENCES = {
    "ratio_vs_pywhispercpp_default": "pywhispercpp, defaults",
    "ratio_vs_faster_whisper_int8": "faster-whisper int8",
    "ratio_vs_faster_whisper_int8_beam_1": "faster-whisper int8, beam 1",
}
PEERS = [
    Engine("openai-whisper, defaults", openai_whisper, "whisper"),
    Engine("pywhispercpp, defaults", pywhispercpp_defaults, "pywhispercpp"),
    Engine("faster-whisper float32", FasterWhisper("float32"), "faster_whisper"),
    Engine("faster-whisper float32, beam 1", FasterWhisper("float32", 1), "faster_whisper"),
    Engine("faster-whisper int8", FasterWhisper("int8"), "faster_whisper"),
    Engine("faster-whisper int8, beam 1", FasterWhisper("int8", 1), "faster_whisper"),
]


def ours(label: str, site: Path | None) -> list[Engine]:
    """Our path on one build, with either type of weights."""
    return [
        Engine(f"transcriber, {label}, {kind}", Ours(kind), "_pywhispercpp", ours=True, site=site)
        for kind in ("f16", "q8_0")
    ]


def add_options(parser: ArgumentParser) -> None:
    parser.add_argument("--models", default="tiny.en,base", help="names that the package index carries")
    parser.add_argument("--clips", type=int, default=CLIPS, help="how many each engine transcribes")
    parser.add_argument("--native", action="append", default=[], metavar="[LABEL=]DIR")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--chart", type=Path, metavar="FILE")


def measure(quick: bool, models: str, clips: int, native: list[str], table: bool, chart: Path | None) -> Results:
    named = [(text if "=" in text else f"native={text}").split("=", 1) for text in native]
    natives = {label: Path(folder).resolve() for label, folder in named}
    known = [*PEERS, *ours("wheel", None), *(one for label, site in natives.items() for one in ours(label, site))]
    names = models.split(",")[:1] if quick else models.split(",")
    results = _compare(known, names, QUICK_CLIPS if quick else clips)
    if table:
        print(_table(results))
    if chart:
        save_bars(chart, f"A clip of up to 5 s, {THREADS} threads: median time", "ms", _bars(results))
    return results


def spoken_clips(count: int, skipped: list[str]) -> list[Piece]:
    """From all over the corpora, those of people, which are the last, among them."""
    corpora = real_corpora(skipped)
    pieces = [piece for name in CORPORA for piece in clips(corpora.get(name, []))]
    return [pieces[int(at)] for at in np.linspace(0, len(pieces) - 1, min(count, len(pieces)))]


def _compare(known: list[Engine], models: Sequence[str], count: int) -> Results:
    """Every engine in turn, clip after clip."""
    skipped: list[str] = []
    pieces = spoken_clips(count, skipped)
    samples = [np.ascontiguousarray(piece.samples) for piece in pieces]
    out: Results = {
        "threads": THREADS,
        "clips": len(pieces),
        "median_clip_s": quantiles([len(one) / 16_000 for one in samples], median=0.5)["median"],
        "not_installed": [engine.label for engine in known if not engine.installed],
        "skipped": skipped,
        "models": {},
    }
    for model in models:
        running = [Running(engine, model, THREADS, samples) for engine in known if engine.installed]
        answers: dict[str, list[tuple[float, str]]] = {one.engine.label: [] for one in running}
        for number in range(len(pieces)):
            for one in running:
                answers[one.engine.label].append(one.ask(number))
            note(f"peers: {model}: clip {number + 1} of {len(pieces)}")
        for one in running:
            one.close()
        out["models"][model] = {
            one.engine.label: {"ours": one.engine.ours} | _figures(one.engine.label, answers, pieces) for one in running
        }
    out["roofline"] = roofline(THREADS)
    return out


def _figures(label: str, answers: dict[str, list[tuple[float, str]]], pieces: Sequence[Piece]) -> Results:
    """Of one engine; a ratio is the median over the clips of another's time over this one's."""
    split = whisper_words()
    times_ms = [time_ms for time_ms, _ in answers[label]]
    said = np.array([len(split(piece.said or "")) for piece in pieces])
    wrong = [
        word_errors(split, piece.said or "", text) for piece, (_, text) in zip(pieces, answers[label], strict=True)
    ]
    row: Results = quantiles(times_ms, median_ms=0.5, p95_ms=0.95)
    for name, reference in REFERENCES.items():
        if reference in answers:
            pairs = zip(answers[reference], times_ms, strict=True)
            row[name] = round(statistics.median(theirs_ms / ms for (theirs_ms, _), ms in pairs), 2)
    return row | {
        "words": int(said.sum()),
        "wer_percent": round(100 * sum(wrong) / int(said.sum()), 2),
        "interval_95": interval(np.array(wrong), said),
    }


def _table(results: Results) -> str:
    """For README."""
    lines = []
    for model, rows in results["models"].items():
        lines += [
            f"| {model}, {THREADS} threads | ms a clip | words wrong | x pywhispercpp | x faster-whisper int8, beam 5 | beam 1 |",
            "|---|---|---|---|---|---|",
        ]
        for label, row in rows.items():
            ratios = (str(row.get(name, "")) for name in REFERENCES)
            name = f"**{label}**" if row["ours"] else label
            lines.append(f"| {name} | {row['median_ms']:.0f} | {row['wer_percent']} % | {' | '.join(ratios)} |")
    return "\n".join(lines)


def _bars(results: Results) -> list[Bar]:
    return [
        Bar(model, label, row["median_ms"], row["ours"])
        for model, by_engine in results["models"].items()
        for label, row in by_engine.items()
    ]


if __name__ == "__main__":
    run("peers", measure, add_options)
