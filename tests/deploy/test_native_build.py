"""The way to a faster build of docs/deployment.md: compiled here as it says, it is found, uses the processor, and says what the wheel says."""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest

from tests.support import requirements
from transcriber.engine.whisper.kernels import processor_flags
from transcriber.models.catalog import DEMO_MODEL
from transcriber.models.conversion.quantize import quantized
from transcriber.testing.speech import load_speech
from transcriber.testing.wer import word_errors, words

ROOT = Path(__file__).parents[2]
FEATURES = {
    "avx2": "AVX2",
    "avx512f": "AVX512",
    "avx512_vnni": "AVX512_VNNI",
    "avx512_bf16": "AVX512_BF16",
    "amx_int8": "AMX_INT8",
}
"""Of the build, by what the kernel calls those of the processor."""

HEAR = """
import json, sys
from pathlib import Path
import numpy as np
from transcriber.config import Settings
from transcriber.engine.whisper import model as whisper
from transcriber.engine.whisper.native_log import native_log

windows = np.load(sys.argv[1])
heard = {}
for path in map(Path, sys.argv[2:]):
    model = whisper.load_model(path, Settings(whisper_threads=2))
    memory = " ".join(line for _, line in native_log.lines if "total size" in line)
    texts = [model.transcribe(window, "en", lambda: False).text for window in windows]
    heard[path.stem] = {"memory": memory, "text": " ".join(texts)}
    model.close()
maps = Path("/proc/self/maps").read_text().split()
libraries = sorted({name for name in maps if "/libggml" in name or "/libwhisper" in name})
print(json.dumps({"features": sorted(whisper.kernel_features()), "libraries": libraries, **heard}))
"""

pytestmark = [pytest.mark.long, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """Of a virtual environment in which the command was run."""
    folder = tmp_path_factory.mktemp("native")
    venv.create(folder / ".venv", with_pip=True)
    command = (ROOT / "docs/deployment.md").read_text().split("## A faster build")[1].split("```")[1]
    subprocess.run(["bash", "-euc", command], cwd=folder, check=True)
    packages = next(folder.glob(".venv/lib/python3*/site-packages"))
    # What else it needs is here already; its own packages come first.
    (packages / "rest.pth").write_text(f"{Path(np.__file__).parent.parent}\n{ROOT}\n")
    return folder / ".venv/bin/python"


@pytest.fixture(scope="module")
def heard(python, tmp_path_factory):
    """What the new build and the wheel transcribe, each in a process of its own that runs in another folder."""
    folder = tmp_path_factory.mktemp("heard")
    (folder / "q8_0.bin").write_bytes(quantized(DEMO_MODEL))
    (folder / "f16.bin").symlink_to(DEMO_MODEL)
    # Every third sample of 48 kHz will do: voices of these recordings have little above 8 kHz.
    speech = np.concatenate([np.frombuffer(each.pcm, "<i2")[::3] for each in load_speech()]).astype(np.float32)
    np.save(folder / "speech.npy", speech[: speech.size // 80_000 * 80_000].reshape(-1, 80_000) / 2**15)
    command = ["-c", HEAR, "speech.npy", "f16.bin", "q8_0.bin"]
    return [
        json.loads(subprocess.run([who, *command], cwd=folder, check=True, capture_output=True).stdout)
        for who in (python, sys.executable)
    ]


def test_its_libraries_are_found_beside_it_from_anywhere(python, heard):
    new, _ = heard

    assert len(new["libraries"]) >= 4
    assert all(name.startswith(os.fspath(python.parent.parent)) for name in new["libraries"])


def test_it_uses_what_the_processor_has(heard):
    new, _ = heard

    wanted = {feature for flag, feature in FEATURES.items() if flag in processor_flags()}
    assert wanted <= set(new["features"])


@pytest.mark.parametrize("kind", ["f16", "q8_0"])
def test_the_native_build_transcribes_what_the_wheel_does(heard, kind):
    new, wheel = (each[kind]["text"] for each in heard)

    assert len(words(wheel)) > 100
    # Other kernels round otherwise, which may tip a word that was a toss-up.
    assert word_errors(wheel, new) <= 0.03 * len(words(wheel))


@requirements.amx
def test_weights_of_8_bits_are_multiplied_by_amx(heard):
    new, _ = heard

    assert "AMX" in new["q8_0"]["memory"]
