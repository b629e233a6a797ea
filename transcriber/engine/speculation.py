"""What is heard before it is known that speech has ended.

In: partials of windows as they end if nobody speaks again. Out: the answers to the finals that ask the same.

Speech has ended after a silence of which the window has only the first half. In the second half whisper hears the window already; if
nobody spoke again its text is there at once, and it is the text that whisper would give now: the same samples, asked in the same way.
"""

import numpy as np

from transcriber.engine.job import Job
from transcriber.engine.transcript import Transcript


class SpeculativeAnswer:
    """The latest answer that was given ahead. Worker thread only."""

    def __init__(self) -> None:
        self._asked: tuple[Job, tuple[object, ...]] | None = None
        self._answer: Transcript | None = None

    def begin(self, job: Job) -> None:
        """``job`` is heard ahead now: what its answer depends on is what is known now."""
        self._asked, self._answer = (job, job.inputs), None

    def store(self, answer: Transcript) -> None:
        """The answer to it."""
        self._answer = answer

    def take(self, job: Job) -> Transcript | None:
        """The answer, if ``job`` asks the same. It is given once."""
        if self._answer is None or self._asked is None:
            return None
        asked, question = self._asked
        if question != job.inputs or not np.array_equal(asked.samples, job.samples):
            return None
        answer, self._answer, self._asked = self._answer, None, None
        return answer
