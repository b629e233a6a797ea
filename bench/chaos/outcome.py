"""What came of a run. In: a verdict, and what happened meanwhile. Out: the same as a line of figures."""

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.chaos.faults import Kind
from bench.chaos.proof import Verdict
from bench.lib.report import Results


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run.

    Attributes:
        command: repeats it.
        lags_s: the metric ``transcriber.lag_s`` of the daemons, with the time of the run.
        folder: where the logs are; they are kept if there were errors.
    """

    name: str
    command: str
    audio_s: float
    verdict: Verdict
    faults: Counter[Kind]
    restarts: int
    wall_s: float
    lags_s: list[tuple[float, float]]
    folder: Path

    @property
    def errors(self) -> list[str]:
        return self.verdict.errors


def summary(outcome: Outcome) -> Results:
    """A line: all but the texts, and the errors."""
    found = asdict(outcome.verdict)
    del found["texts"]
    return found | {
        "name": outcome.name,
        "command": outcome.command,
        "audio_s": round(outcome.audio_s, 1),
        "faults": {str(kind): count for kind, count in outcome.faults.items()},
        "restarts": outcome.restarts,
        "wall_s": round(outcome.wall_s, 1),
        "lag_s_most": max((lag_s for _, lag_s in outcome.lags_s), default=None),
    }
