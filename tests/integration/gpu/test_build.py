"""What a build does with the programs that it runs. The build itself takes too long: .github/workflows/test.yml has it."""

import os
import signal
import subprocess
import sys

from tests.support.waiting import PATIENCE_S

STEP = """
import subprocess
from transcriber.gpu.build import _run

wait = subprocess.Popen.wait
def announced(process, *arguments, **options):  # so that it is waiting when it is interrupted
    print(process.pid, flush=True)
    return wait(process, *arguments, **options)
subprocess.Popen.wait = announced

_run(["sh", "-c", "sleep 1000 & wait"])
"""


def test_an_interrupted_build_leaves_no_compiler_behind():
    with subprocess.Popen([sys.executable, "-c", STEP], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as build:
        assert build.stdout
        group = int(build.stdout.readline())
        os.killpg(group, 0)

        build.send_signal(signal.SIGINT)
        build.communicate(timeout=PATIENCE_S)  # returns when nobody can write to stdout any more, sleep included

        assert build.returncode == -signal.SIGINT
