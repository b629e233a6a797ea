"""The daemon as a real process, by default with the fake model; and a command run to its end."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from bench.lib.daemon import PLAIN
from tests.support.ports import free_port
from tests.support.stopwatch import Stopwatch
from tests.support.waiting import PATIENCE_S, until

ROOT = Path(__file__).parents[2]

PATIENT_STOP = {
    "FAKE_SET": f"transcriber.live.ingest:DRAIN_S={PATIENCE_S} transcriber.bus.micro_service:DRAIN_S={PATIENCE_S} "
    + " ".join(f"transcriber.service:{name}={PATIENCE_S}" for name in ("STOP_S", "FINISH_S", "SENT_S", "FLUSH_S"))
    + f" transcriber.service:OTLP_S={PATIENCE_S / 2}"
}
"""A daemon that gives up nothing at its stop because the machine is busy; where nothing hangs it takes no longer for it."""


class Daemon:
    """A real daemon process; by default with the fake model, or another ``module`` of the tests."""

    def __init__(self, url, folder, *flags, fake=True, module="transcriber.testing.fake_daemon", **env):
        self.port = free_port()
        self.log_path = Path(folder) / f"daemon-{self.port}.log"
        self._command = [sys.executable, "-m", *([module] if fake else ["transcriber", "serve"]), *flags]
        self._env = os.environ | {
            "NATS_URL": url,
            "HEALTH_HOST": "127.0.0.1",
            "HEALTH_PORT": str(self.port),
            "METRICS_NATS_SECS": "0.2",
            "OMP_NUM_THREADS": "1",
        } | (PLAIN if fake else {"WHISPER_MODEL": "demo"})  # fmt: skip
        self._env |= {name: str(value) for name, value in env.items()}
        self.process: Any = None

    async def __aenter__(self):
        self.start()
        try:
            await until(self.ready_or_dead, "readiness")
            assert self.process.poll() is None, self.log()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def start(self):
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                self._command, env=self._env, cwd=ROOT, stdin=subprocess.DEVNULL, stderr=log, stdout=log
            )

    @property
    def resident_mb(self):
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE") / 2**20

    def probe(self, path):
        """Status and body of a probe; (0, {}) while nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)
        except OSError:
            return 0, {}

    def ready_or_dead(self):
        return self.process.poll() is not None or self.probe("/readyz")[0] == 200

    async def stop(self, number=signal.SIGTERM):
        """Send a signal and wait; returns status and seconds, as on a machine with nothing else to do."""
        watch = Stopwatch()
        self.process.send_signal(number)
        return await self.ended(watch), watch.own_s

    async def ended(self, watch=None):
        """Wait for its end, to the last of which ``watch`` looks; returns the status."""
        if watch is None:
            watch = Stopwatch()
        await until(lambda: watch.look() or self.process.poll() is not None, "the daemon's end")
        return self.process.returncode

    def log(self):
        return self.log_path.read_text()

    def log_lines(self):
        lines = []
        for line in self.log().splitlines():
            with contextlib.suppress(ValueError):
                lines.append(json.loads(line))
        return lines

    def last_line(self, message):
        return next(line for line in reversed(self.log_lines()) if line["msg"] == message)

    def rss_mb(self):
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def run(*arguments, **env):
    """Run ``transcriber`` to its end; returns status and stderr without the log."""
    status, said, _ = run_and_log(*arguments, **env)
    return status, said


def run_and_log(*arguments, **env):
    """As ``run``, and the lines of the log."""
    done = subprocess.run(
        [sys.executable, "-m", "transcriber", *arguments],
        env=os.environ | {"HEALTH_PORT": "0", "NATS_CONNECT_TIMEOUT_SECS": "1"} | {k: str(v) for k, v in env.items()},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    lines = done.stderr.splitlines()
    assert "Traceback" not in done.stderr
    logged = [json.loads(line) for line in lines if line.startswith("{")]
    return done.returncode, "\n".join(line for line in lines if not line.startswith("{")), logged
