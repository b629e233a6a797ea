"""Results of ``bench.words`` as the documents have them. In: its figures. Out: Markdown."""

from collections.abc import Iterable, Sequence
from typing import Any

from bench.lib.report import Results

LABELS = {
    "fixed": "fixed cut",
    "quiet": "quiet cut",
    "quiet_endpoint": "quiet cut, endpointing",
    "fixed_context": "fixed cut, context",
    "quiet_context": "quiet cut, context",
    "quiet_endpoint_context": "quiet cut, endpointing, context",
    "in_one_go": "reference: in one go",
    "true_sentences": "reference: true sentences",
    "gate_on": "gate on",
    "gate_off": "gate off",
}


KINDS = {"twice": "said twice", "half": "half words", "lost_near_cuts": "lost near cuts", "invented": "invented"}
"""Of the errors in a thousand words."""


def markdown(results: Results) -> str:
    """All tables that have rows, with a line between."""
    tables = (
        _words(results),
        _cuts(results),
        _seldom(results),
        _delays(results["delays"]),
        _false_text(results["false_text"]),
    )
    return "\n\n".join("\n".join(rows) for rows in tables if len(rows) > 2)


def _words(results: Results) -> list[str]:
    """WER by variant and corpus."""
    corpora = list(results["recordings"])
    ways = sorted({name for found in results["reference"].values() for name in found if name != "better"})
    rows = [[LABELS[way], *(_wer(results["reference"][corpus].get(way)) for corpus in corpora)] for way in ways] + [
        [LABELS[name], *(_wer(found[corpus]) for corpus in corpora)] for name, found in results["words"].items()
    ]
    return _table(["WER", *(corpus.replace("_", " ") for corpus in corpora)], rows)


def _cuts(results: Results) -> list[str]:
    """Of the first corpus, where its words have times."""
    corpus = next(iter(results["recordings"]))
    rows = []
    for name, found in results["words"].items():
        figures, cut = found[corpus], found[corpus].get("at_cuts")
        if cut:
            errors = (cut[kind] for kind in ("lost", "invented", "doubled", "changed"))
            times = f"{_text(figures['median_start_error_s'])} / {_text(figures['median_end_error_s'])} s"
            wrong = (f"{_text(part['wer_percent'])} %" for part in (cut, figures["elsewhere"]))
            rows.append([LABELS[name], figures["cuts"], *errors, *wrong, times])
    heads = [
        corpus,
        "cuts",
        "lost",
        "invented",
        "doubled",
        "changed",
        "WER at cuts",
        "WER elsewhere",
        "start / end off by",
    ]
    return _table(heads, rows)


def _seldom(results: Results) -> list[str]:
    """In a thousand words, by variant and corpus; false ends in percent of the cuts that fall into a sentence."""
    rows = []
    for name, found in results["words"].items():
        for corpus, figures in found.items():
            rates = (figures["per_1000_words"][kind] for kind in KINDS)
            ends = figures["false_ends"]
            rows.append(
                [
                    f"{LABELS[name]}, {corpus.replace('_', ' ')}",
                    figures["words"],
                    *(f"{rate['count']}: {rate['rate']:g} ({_span(rate['interval_95'])})" for rate in rates),
                    f"{ends['false_ends']} of {ends['cuts_in_sentences']}: {_share(ends)}",
                ]
            )
    return _table(["in 1000 words", "words", *KINDS.values(), "false sentence ends"], rows)


def _delays(results: Results) -> list[str]:
    """p50 / p95 in seconds."""
    rows = []
    for name, found in results.items():
        for corpus, figures in found.items():
            spreads = ("word_to_final_ms", "utterance_to_final_ms", "surely_ended_to_final_ms", "word_to_partial_ms")
            seconds = (" / ".join(_seconds(figures[spread][share]) for share in ("p50", "p95")) for spread in spreads)
            back = f"{figures['agreed_words_taken_back']} of {figures['agreed_words']}"
            rows.append([f"{LABELS[name]}, {corpus}", *seconds, back])
    titles = ["word to final", "utterance to final", "before a pause of 0.8 s", "word to partial"]
    return _table(["p50 / p95", *titles, "agreed words taken back"], rows)


def _false_text(results: Results) -> list[str]:
    kinds = list(next(iter(results.values()), ()))
    rows = [
        [
            LABELS[name],
            *(f"{found[kind]['words_per_hour']:g} ({_text(found[kind]['silence_percent'])} %)" for kind in kinds),
        ]
        for name, found in results.items()
    ]
    return _table(["words an hour (kept from whisper)", *(kind.replace("_", " ") for kind in kinds)], rows)


def _wer(figures: Results | None) -> str:
    return "" if figures is None else _share(figures, "wer_percent")


def _share(figures: Results, name: str = "percent") -> str:
    return f"{_text(figures[name])} % ({_span(figures['interval_95'])})"


def _span(interval_95: Sequence[float] | None) -> str:
    return "?" if interval_95 is None else f"{interval_95[0]:.1f} to {interval_95[1]:.1f}"


def _text(figure: float | None) -> str:
    return "?" if figure is None else f"{figure:g}"


def _seconds(delay_ms: float | None) -> str:
    return "?" if delay_ms is None else f"{delay_ms / 1000:.1f} s"


def _table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    lines = (heads, ["---"] * len(heads), *rows)
    return [f"| {' | '.join(map(str, row))} |" for row in lines]
