"""The daemon's model beside the real plug-in, where there is no driver: it runs on the CPU, says why, and transcribes the same."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.plug_in import cached_libraries, cached_plug_in, copied_wheel, use
from tests.support.waiting import PATIENCE_S
from transcriber.config import Settings
from transcriber.engine.warm_up import self_test_speech
from transcriber.engine.whisper.model import load_model
from transcriber.gpu.install import install
from transcriber.models.catalog import DEMO_MODEL

TRANSCRIBE = """
import json, logging
from transcriber.config import load_settings
from transcriber.engine.warm_up import self_test_speech
from transcriber.engine.whisper.model import load_checked_model
from transcriber.models.catalog import DEMO_MODEL

logging.basicConfig(format="%(levelname)s %(message)s")
model = load_checked_model(DEMO_MODEL, load_settings())
print(json.dumps([model.transcribe(self_test_speech(), "en", lambda: False).text, model.device.name, model.device.reason]))
model.close()
"""
REASON = "failed to initialize CUDA: CUDA driver version is insufficient for CUDA runtime version"

pytestmark = pytest.mark.skipif(Path("/proc/driver/nvidia").exists(), reason="here is a driver of NVIDIA's")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    plug_in, libraries = cached_plug_in(), cached_libraries()
    made = copied_wheel(tmp_path_factory.mktemp("fallback"))
    (made / "nvidia").symlink_to(libraries)
    with pytest.MonkeyPatch.context() as patch:
        use(made, patch)
        install(str(plug_in))
    return made


@pytest.fixture(scope="module")
def text():
    """Of the wheel without a plug-in."""
    model = load_model(DEMO_MODEL, Settings(whisper_device="cpu"))
    yield model.transcribe(self_test_speech(), "en", lambda: False).text
    model.close()


@pytest.mark.parametrize(
    ("setting", "reason", "logged"),
    [("auto", "", ""), ("cuda", REASON, f"WARNING WHISPER_DEVICE=cuda: whisper runs on the CPU: {REASON}\n")],
)
def test_without_a_driver_the_reason_of_ggml_is_given_and_the_text_is_the_same(site, text, setting, reason, logged):
    env = os.environ | {"PYTHONPATH": f"{site}:{Path(__file__).parents[3]}", "WHISPER_DEVICE": setting}

    done = subprocess.run(
        [sys.executable, "-c", TRANSCRIBE], env=env, capture_output=True, text=True, timeout=PATIENCE_S, check=True
    )

    assert json.loads(done.stdout) == [text, "cpu", reason]
    assert text
    assert done.stderr == logged
