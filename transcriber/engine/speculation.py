"""Finals transcribed speculatively, before it is known that speech has ended.

In: speculative partials: windows as they end if speech does not resume. Out: the transcripts of the finals with the same inputs.

An endpoint is a silence; in its second half the window is already transcribed. If speech does not resume, the final's text is ready
at once, and it is the text that whisper would give now: from the same samples and the same inputs.
"""

import numpy as np

from transcriber.engine.job import Job
from transcriber.engine.transcript import Transcript


class SpeculativeAnswer:
    """The latest speculative transcript. Worker thread only."""

    def __init__(self) -> None:
        self._pending: tuple[Job, tuple[object, ...]] | None = None
        self._answer: Transcript | None = None

    def begin(self, job: Job) -> None:
        """``job`` is transcribed now: its transcript depends on its inputs as they are now."""
        self._pending, self._answer = (job, job.inputs), None

    def store(self, answer: Transcript) -> None:
        """The transcript of the job that was begun."""
        self._answer = answer

    def take(self, job: Job) -> Transcript | None:
        """The transcript, if ``job`` has the same samples and inputs. It is given once."""
        if self._answer is None or self._pending is None:
            return None
        pending, inputs = self._pending
        if inputs != job.inputs or not np.array_equal(pending.samples, job.samples):
            return None
        answer, self._answer, self._pending = self._answer, None, None
        return answer
