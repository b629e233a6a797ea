"""What the benches make once and keep."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from bench.lib.shapes import made

MAKERS = 4


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "transcriber" / "bench"


def test_of_several_that_need_the_same_one_makes_it():
    makes, all_need = [], Barrier(MAKERS)

    def make(folder):
        makes.append(folder)
        folder.mkdir()
        (folder / "one.wav").write_bytes(b"sound")

    def need(_):
        all_need.wait()
        return made("corpus", make)

    with ThreadPoolExecutor(MAKERS) as pool:
        found = set(pool.map(need, range(MAKERS)))
    assert len(makes) == 1
    assert [[one.name for one in folder.iterdir()] for folder in found] == [["one.wav"]]


@pytest.mark.parametrize("left", ["folder", "file"])
def test_what_a_killed_process_left_half_made_is_made_again(cache, left):
    part = cache / "corpus.part"
    (part if left == "folder" else cache).mkdir(parents=True)
    (part / "one.wav" if left == "folder" else part).write_bytes(b"half")
    folder = made("corpus", lambda path: path.mkdir())
    assert folder.is_dir()
    assert not list(folder.iterdir())
