"""The demo's screen. In: captions, the daemons' metrics, scores. Out: a terminal, or plain lines in a pipe."""

from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from transcriber.schema.messages import Latency, Metrics
from transcriber.text.captions import Line


@dataclass(frozen=True, slots=True)
class Score:
    """The result of one recording.

    Attributes:
        model: the one that transcribed it.
        words: in the reference.
        errors: substitutions, deletions and insertions.
        account: errors of the account of its frames; empty if it is exact.
    """

    name: str
    stream: str
    model: str
    words: int
    errors: int
    account: list[str]


class Screen:
    """Captions scroll; on a terminal the metrics stay below them while the ``with`` block lasts."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        # No auto-refresh: that would be a thread.
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._figures: dict[str, str] = {}

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._live.transient = kind is None  # what was shown stays when it is interrupted
        self._live.stop()

    def line(self, line: Line) -> None:
        self._console.print(Text(line.text, style="dim" if line.dim else ""), soft_wrap=True)

    def figures(self, metrics: Metrics) -> None:
        """Show the newest metrics of each daemon; in a pipe only the last ones are shown, by ``results``."""
        self._figures[metrics.instance] = _figures_line(metrics)
        if self._live.is_started:
            lines = "\n".join(self._figures.values())
            self._live.update(Panel(lines, title="daemons", title_align="left"), refresh=True)

    def results(self, scores: Sequence[Score], latencies_ms: Sequence[float]) -> None:
        """A table of the recordings, and a summary of a few lines."""
        table = Table("recording", "stream", "model", "words", "wrong", "WER", "account")
        for score in scores:
            wer = f"{100 * score.errors / score.words:.1f} %"
            account = "exact" if not score.account else "does not add up"
            table.add_row(score.name, score.stream, score.model, str(score.words), str(score.errors), wer, account)
        self._console.print(table)
        for figures in self._figures.values():
            self.line(Line(figures))
        if latencies_ms:
            middle, longest = sorted(latencies_ms)[len(latencies_ms) // 2], max(latencies_ms)
            self.line(
                Line(f"from the last sample of a window to its text: median {middle:.0f} ms, at most {longest:.0f} ms")
            )
        for model in dict.fromkeys(score.model for score in scores):
            of_it = [score for score in scores if score.model == model]
            words, errors = sum(score.words for score in of_it), sum(score.errors for score in of_it)
            self.line(Line(f"{model}: WER {100 * errors / words:.1f} %: {errors} of {words} words wrong"))


def _figures_line(metrics: Metrics) -> str:
    figures = metrics.metrics

    def number(name: str) -> str:
        value = figures.get(f"transcriber.{name}")
        return f"{value:g}" if isinstance(value, int | float) else "?"

    dropped = figures.get("transcriber.jobs.dropped")
    latency = figures.get("transcriber.end_to_end.latency_ms")
    times = (latency.p50_ms, latency.p95_ms) if isinstance(latency, Latency) else (None, None)
    p50, p95 = (f"{time_ms:.0f} ms" if time_ms is not None else "?" for time_ms in times)
    return (
        f"streams {number('streams.active')} | queue {number('queue.depth')} of {number('queue.capacity')} | "
        f"latency p50 <= {p50}, p95 <= {p95} | "
        f"windows dropped {sum(dropped.values()) if isinstance(dropped, dict) else 0:g}"
    )
