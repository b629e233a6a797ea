"""``transcriber.testing`` as users import it."""

import subprocess
import sys

import pytest

from tests.support.daemon import ROOT
from tests.support.waiting import PATIENCE_S
from transcriber import testing
from transcriber.errors import ConfigError


def test_importing_it_loads_neither_a_model_nor_a_nats_client():
    code = (
        "import sys, transcriber.testing\n"
        "print(*sorted({'nats', '_pywhispercpp', 'onnxruntime', 'av', 'numpy', 'soundfile'} & set(sys.modules)))\n"
        "print(*sorted(name for name in sys.modules if name.startswith('transcriber.testing.')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=PATIENCE_S
    )

    assert done.stdout == "\n\n"


@pytest.mark.parametrize("name", testing.__all__)
def test_every_public_name_can_be_imported_and_is_listed(name):
    assert getattr(testing, name) is not None
    assert name in dir(testing)


def test_another_name_is_no_attribute():
    with pytest.raises(AttributeError, match=r"module 'transcriber\.testing' has no attribute 'EmbeddedBrokers'"):
        _ = testing.EmbeddedBrokers


def test_without_the_extra_speech_is_one_line_that_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "soundfile", None)

    with pytest.raises(ConfigError, match=r"^soundfile is not installed: pip install 'nats-transcriber\[demo\]'$"):
        testing.load_speech()


def test_daemon_process_takes_settings_as_the_environment_names_them():
    daemon = testing.DaemonProcess("nats://127.0.0.1:9", BUFFER_DURATION_SECS="2")

    assert daemon._environment["BUFFER_DURATION_SECS"] == "2"
    daemon._log.close()
