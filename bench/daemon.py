"""The daemon without its engine: a model that answers at once, so that what is measured is the rest.

``python -m bench.daemon`` is that daemon; ``StubbedDaemon`` is a process of it. All but the model is real.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from transcriber.config import load_settings
from transcriber.demo.daemon import DaemonProcess
from transcriber.demo.tether import tethered
from transcriber.engine.job import Transcript, Word
from transcriber.logs import configure
from transcriber.service import serve

ANSWER = Transcript(
    text=" ".join(["over"] * 12),
    words=tuple(Word("over", 0.4 * n, 0.4 * n + 0.4, 0.9) for n in range(12)),
    language="en",
    avg_logprob=-0.1,
    no_speech_prob=None,
    processing_s=1e-6,
)
"""As long as what is said in five seconds."""


class InstantModel:
    """``SpeechModel`` that does not listen."""

    name = "instant"
    tight = False

    def supports(self, language: str) -> bool:
        return language == "en"

    def transcribe(
        self,
        samples: NDArray[np.float32],
        language: str | None,
        should_abort: Callable[[], bool],
        *,
        full_context: bool = False,
    ) -> Transcript:
        return ANSWER


class StubbedDaemon(DaemonProcess):
    """``python -m bench.daemon`` as long as the ``with`` block lasts; other settings come from the environment."""

    def __init__(self, nats_url: str, cores: set[int] | None = None, **settings: str) -> None:
        """Daemon at the broker ``nats_url``, on ``cores`` only, with ``settings`` named as in the environment."""
        super().__init__(nats_url, "")
        self._environment |= settings
        self._cores = cores

    def start(self) -> None:
        ours = os.sched_getaffinity(0)
        os.sched_setaffinity(0, self._cores or ours)  # inherited, so that it holds for every thread of the daemon
        try:
            self.process = subprocess.Popen(
                tethered(sys.executable, "-m", "bench.daemon"),
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                start_new_session=True,
            )
        finally:
            os.sched_setaffinity(0, ours)

    @property
    def cpu_s(self) -> float:
        """Processor time so far, of all threads."""
        fields = self._proc("stat").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def rss_kb(self) -> int:
        return int(self._proc("statm").split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024

    def _proc(self, name: str) -> str:
        return Path(f"/proc/{self.process.pid}/{name}").read_text()


if __name__ == "__main__":
    settings = load_settings()
    configure(settings.log_level, settings.log_format)
    serve(settings, InstantModel)
