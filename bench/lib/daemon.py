"""Daemons whose cost is watched: the real one, and one without its engine, so that what is measured is the rest.

``python -m bench.lib.daemon`` is the latter: its model answers at once, all else is real.
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from transcriber.config import load_settings
from transcriber.engine.swap import ModelSource
from transcriber.engine.transcript import Transcript, Word
from transcriber.logs import configure
from transcriber.service import serve
from transcriber.testing.broker import EmbeddedBroker
from transcriber.testing.daemon import DaemonProcess

PLAIN = {
    "BUFFER_CUT": "fixed",
    "LEFT_CONTEXT_SECS": "0",
    "SPEECH_GATE": "0",
    "ENDPOINT_SILENCE_SECS": "0",
    "PARTIAL_INTERVAL_SECS": "0",
}
"""Settings under which every stream is cut right where a window is full, and whisper gets each window once and nothing else.
``WindowPolicy(window_s)`` cuts like that. What is measured so depends on the number of windows alone."""

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
    translates = False

    def supports(self, language: str) -> bool:
        return language == "en"

    def close(self) -> None:
        """Nothing to free."""

    def transcribe(
        self,
        samples: NDArray[np.float32],
        language: str | None,
        should_abort: Callable[[], bool],
        *,
        wide: bool = False,
        prompt: str = "",
        translate: bool = False,
        greedy: bool = False,
    ) -> Transcript:
        return ANSWER


@contextmanager
def storing_broker() -> Iterator[EmbeddedBroker]:
    """With JetStream, and nothing in it."""
    with (
        tempfile.TemporaryDirectory(prefix="transcriber-bench-") as folder,
        EmbeddedBroker(store=Path(folder)) as broker,
    ):
        yield broker


class MeasuredDaemon(DaemonProcess):
    """``transcriber serve`` as long as the ``with`` block lasts, with these settings."""

    def __init__(self, nats_url: str, cores: set[int] | None = None, /, **settings: str) -> None:
        """Daemon at the broker ``nats_url``, on ``cores`` only, with ``settings`` named as in the environment."""
        super().__init__(nats_url, "", **settings)
        self._cores = cores

    def start(self) -> None:
        ours = os.sched_getaffinity(0)
        os.sched_setaffinity(0, self._cores or ours)  # inherited, so that it holds for every thread of the daemon
        try:
            super().start()
        finally:
            os.sched_setaffinity(0, ours)

    @property
    def cpu_s(self) -> float:
        """Processor time so far, of all threads."""
        return self._cpu_s("stat")

    @property
    def loop_cpu_s(self) -> float:
        """Processor time so far of the event loop's thread: all but whisper, its spectrograms, and the probes."""
        return self._cpu_s(f"task/{self.process.pid}/stat")

    @property
    def rss_kb(self) -> int:
        return int(self._proc("statm").split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024

    @property
    def peak_rss_kb(self) -> int:
        """The most since the start, or since ``forget_peak``."""
        return int(self._proc("status").partition("VmHWM:")[2].split()[0])

    def forget_peak(self) -> None:
        """Count the peak from now on."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def _cpu_s(self, stat: str) -> float:
        fields = self._proc(stat).rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _proc(self, name: str) -> str:
        return Path(f"/proc/{self.process.pid}/{name}").read_text()


class StubbedDaemon(MeasuredDaemon):
    """The one without its engine."""

    arguments = ("-m", "bench.lib.daemon")


if __name__ == "__main__":
    settings = load_settings()
    configure(settings.log_level, settings.log_format)
    serve(settings, ModelSource(lambda *_: Path("instant"), lambda *_: InstantModel()))
