"""One 5 s window beside the peers: same shape, same words, same machine, in turn.

The models are those of ``bench.shapes``: every engine says the same 16 tokens. Each engine has a process of its own; a round
asks every one for the same window of real speech, so that a machine that slows down does so for all.

``--native DIR`` (again and again, ``LABEL=DIR`` names it) adds our own path on another build of pywhispercpp, installed into DIR with
``pip install --target``. ``--table`` prints Markdown, ``--chart FILE`` writes an SVG.
"""

import statistics
from argparse import ArgumentParser
from pathlib import Path

import numpy as np

from bench.chart import Bar, bars
from bench.engines import Engine, FasterWhisper, Ours, Running, Samples, openai_whisper, pywhispercpp_defaults
from bench.report import Results, note, quantiles, run
from bench.roofline import roofline
from bench.shapes import TEXT, TOKENS, WINDOW_S
from transcriber.audio.run import Run
from transcriber.audio.window import Cutting
from transcriber.config import load_settings
from transcriber.demo.speech import SPEECH_FORMAT, load_speech

THREADS = 2
REFERENCES = {
    "ratio_vs_pywhispercpp_default": "pywhispercpp, defaults",
    "ratio_vs_faster_whisper_int8": "faster-whisper int8",
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
    """Our path on one build, at the context ``auto`` (512) and at 256, with either type of weights."""
    return [
        Engine(f"transcriber, {label}, {kind}, context {name}", Ours(kind, ctx), "_pywhispercpp", ours=True, site=site)
        for kind in ("f16", "q8_0")
        for name, ctx in (("512", "auto"), ("256", "256"))
    ]


def engines(natives: dict[str, Path]) -> list[Engine]:
    default = load_settings().threads
    shipped = Engine(
        f"transcriber, wheel, f16, context 512, {default} thr.", Ours(threads=default), "_pywhispercpp", ours=True
    )
    return [*PEERS, *ours("wheel", None), shipped, *(e for label, site in natives.items() for e in ours(label, site))]


def add_options(parser: ArgumentParser) -> None:
    parser.add_argument("--native", action="append", default=[], metavar="[LABEL=]DIR")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--chart", type=Path, metavar="FILE")


def measure(quick: bool, native: list[str], table: bool, chart: Path | None) -> Results:
    named = [(text if "=" in text else f"native={text}").split("=", 1) for text in native]
    known = engines({label: Path(folder).resolve() for label, folder in named})
    results = _compare(known, ["tiny.en"] if quick else ["tiny.en", "base.en"], 3 if quick else 15)
    if table:
        print(_table(results))
    if chart:
        chart.write_text(_chart(results))
    return results


def _compare(known: list[Engine], shapes: list[str], rounds: int) -> Results:
    """Every engine in turn, round after round."""
    windows = list(speech_windows())
    missing = [engine.label for engine in known if not engine.installed]
    out: Results = {
        "threads": THREADS,
        "window_s": WINDOW_S,
        "tokens": TOKENS,
        "rounds": rounds,
        "not_installed": missing,
    }
    for shape in shapes:
        running = [Running(engine, shape, THREADS, windows) for engine in known if engine.installed]
        times_ms: dict[str, list[float]] = {one.engine.label: [] for one in running}
        for number in range(rounds):
            for one in running:
                times_ms[one.engine.label].append(one.ask(number % len(windows)))
            note(f"peers: {shape}: round {number + 1} of {rounds}")
        for one in running:
            one.close()
        out[shape] = _figures(running, times_ms)
    out["roofline"] = roofline(THREADS)
    return out


def _figures(running: list[Running], times_ms: dict[str, list[float]]) -> Results:
    """Medians and ratios by engine; a ratio is the median over the rounds of their time over this one's."""
    rows = {}
    for one in running:
        mine = times_ms[one.engine.label]
        row: Results = {"ours": one.engine.ours, "same_text": one.text.strip() == TEXT}
        row |= quantiles(mine, median_ms=0.5, p95_ms=0.95)
        for name, reference in REFERENCES.items():
            if reference in times_ms:
                row[name] = round(statistics.median(a / b for a, b in zip(times_ms[reference], mine, strict=True)), 2)
        rows[one.engine.label] = row
    return rows


def speech_windows() -> list[Samples]:
    """Windows of the bundled recordings, as the daemon cuts them."""
    run = Run(SPEECH_FORMAT, Cutting(WINDOW_S), None)
    cuts = [cut.samples for recording in load_speech() for _, cut in run.push(recording.pcm, eager=True)]
    return [np.ascontiguousarray(samples) for samples in cuts]


def _table(results: Results) -> str:
    """For README."""
    lines = []
    for shape, rows in results.items():
        if not isinstance(rows, dict) or shape == "roofline":
            continue
        lines += [
            f"| {shape}, {THREADS} threads | ms a window | x pywhispercpp | x faster-whisper int8 |",
            "|---|---|---|---|",
        ]
        for label, row in rows.items():
            ratios = (str(row.get(name, "")) for name in REFERENCES)
            name = f"**{label}**" if row["ours"] else label
            lines.append(f"| {name} | {row['median_ms']:.0f} | {' | '.join(ratios)} |")
        floors = {c: results["roofline"][f"{shape} at {c}"]["floor_ms"]["f16"] for c in (512, 256)}
        lines += [f"| floor (sgemm and memory), context {c} | {ms:.0f} | | |" for c, ms in floors.items()] + [""]
    return "\n".join(lines)


def _chart(results: Results) -> str:
    rows = [
        Bar(f"{shape} shape", label, row["median_ms"], row["ours"])
        for shape, by_engine in results.items()
        if isinstance(by_engine, dict) and shape != "roofline"
        for label, row in by_engine.items()
    ]
    return bars(f"One {WINDOW_S} s window, {TOKENS} tokens, {THREADS} threads: median time", "ms", rows)


if __name__ == "__main__":
    run("peers", measure, add_options)
