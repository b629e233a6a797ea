import shutil
import subprocess

import pytest

from transcriber.engine.whisper import kernels
from transcriber.engine.whisper.kernels import load_kernels
from transcriber.errors import ModelError


@pytest.fixture
def scored(tmp_path, monkeypatch):
    """A folder with sets of kernels that are nothing but a score, and a GPU's plug-in; and what is loaded of it."""
    if not (compiler := shutil.which("cc")):
        pytest.skip("no C compiler (cc)")
    for name, score in {"cpu-old": 1, "cpu-best": 5, "cpu-alien": 0, "cpu-good": 3, "cuda": 9}.items():
        code = f"int ggml_backend_score(void) {{ return {score}; }}"
        command = [compiler, "-shared", "-x", "c", "-", "-o", tmp_path / f"libggml-{name}.so"]
        subprocess.run(command, input=code, text=True, check=True)
    loaded: list[str] = []

    def load_backend(path):
        loaded.append(path.name)
        return True

    monkeypatch.setattr(kernels, "load_backend", load_backend)
    return tmp_path, loaded


@pytest.mark.parametrize(("chosen", "name"), [("auto", "best"), ("old", "old")])
def test_the_best_set_is_loaded_or_the_one_that_is_named_and_no_plug_in_of_a_gpu(scored, chosen, name):
    folder, loaded = scored

    load_kernels(folder, chosen)

    assert loaded == [f"libggml-cpu-{name}.so"]


def test_a_set_that_does_not_run_here_is_one_line(scored):
    with pytest.raises(ModelError, match="the kernels alien do not run on this processor"):
        load_kernels(scored[0], "alien")
