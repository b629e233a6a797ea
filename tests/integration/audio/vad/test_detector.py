import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[4]


def test_the_runtime_of_the_network_sends_no_telemetry(tmp_path):
    code = "from transcriber.audio.vad.silero import Silero; Silero()"
    homes = {name: str(tmp_path) for name in ("TMPDIR", "HOME", "XDG_CACHE_HOME")}
    subprocess.run([sys.executable, "-c", code], env=os.environ | homes, check=True, cwd=ROOT)

    assert list(tmp_path.iterdir()) == []  # it stores an id before it sends anything
