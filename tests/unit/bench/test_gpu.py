"""What ``bench.gpu`` and ``bench.gpu_card`` do beside measuring: refuse, go on, search, cut into parts."""

import json
import os
import subprocess

import pytest
from hypothesis import given, strategies as st

from bench import gpu_card
from bench.lib.gpu.mps import CONTROL, mps
from bench.lib.gpu.pools import ElsewhereError, Way, check_device
from bench.lib.gpu.progress import Progress, UnavailableError
from bench.lib.gpu.streams import FINE, LATE_MS, MOST_STEPS, most, next_count

ABOUT = {"device": "cuda", "commit": "1f2e3d"}


@pytest.mark.parametrize(
    ("asked", "found"), [("cuda", "cuda:0"), ("cuda:1", "cuda:1"), ("cpu", "cpu"), ("cuda", "cuda")]
)
def test_it_measures_where_it_was_asked_to(asked, found):
    check_device(asked, found)


@pytest.mark.parametrize(
    ("asked", "found"), [("cuda", "cpu"), ("cuda:1", "cuda:0"), ("cpu", "cuda:0"), ("cuda", "unknown")]
)
def test_it_refuses_to_measure_what_runs_elsewhere(asked, found):
    with pytest.raises(ElsewhereError, match=f"asked for {asked}, but whisper runs on {found}"):
        check_device(asked, found)


def test_a_run_goes_on_where_the_last_one_ended(tmp_path):
    out, done = tmp_path / "gpu.json", []

    def part(name):
        def measure():
            done.append(name)
            if name == "mps" and len(done) < 4:
                raise UnavailableError("no card")
            return {"windows_s": 7}

        return measure

    first = Progress(out, ABOUT, seconds=60)
    for name in ("text", "mps"):
        first.take(name, 1, part(name))
    first.take("streams", 100, part("streams"))
    kept = json.loads(out.read_text())
    second = Progress(out, ABOUT, seconds=600)
    for name in ("text", "mps", "streams"):
        second.take(name, 100, part(name))

    assert kept["left_out"] == {"mps": "no card", "streams": "no time left"}
    assert done == ["text", "mps", "mps", "streams"]
    assert list(second.parts) == ["text", "streams"]
    assert json.loads(out.read_text()) == second.results()


def test_results_of_another_device_or_commit_are_not_mixed(tmp_path):
    out = tmp_path / "gpu.json"
    Progress(out, ABOUT, seconds=60).take("text", 1, dict)

    with pytest.raises(SystemExit, match="is of another device and commit"):
        Progress(out, {"device": "cpu", "commit": "aaaaaa"}, seconds=60)


def step(streams, *, late):
    return {"streams": streams, "loss_to_come": 0.0, "end_to_end_ms": {"p95": LATE_MS + (1 if late else -1)}}


@given(holds=st.integers(0, 400), guess=st.integers(0, 100))
def test_the_search_for_streams_in_time_ends_and_never_says_more_than_was_seen(holds, guess):
    steps: dict[int, dict[str, object]] = {}

    while count := next_count(steps, guess):
        assert count not in steps
        steps[count] = step(count, late=count > holds)

    found = most([steps[count] for count in sorted(steps)])
    assert len(steps) <= MOST_STEPS
    assert found <= holds
    late = [count for count in steps if count > holds]
    if len(steps) < MOST_STEPS:
        assert min(late) - found <= max(1, FINE * min(late))


def test_a_step_that_loses_or_has_no_text_is_not_in_time():
    lost = step(2, late=False) | {"loss_to_come": 0.1}
    mute = step(2, late=False) | {"end_to_end_ms": {"p95": None}}

    assert [most([step(1, late=False), other]) for other in (lost, mute, step(2, late=False))] == [1, 1, 2]


def test_settings_of_a_way_are_those_of_one_daemon():
    assert Way("cuda", workers=4).environment["WHISPER_WORKERS"] == "4"
    assert Way("cpu", threads=2).environment["WHISPER_DEVICE"] == "cpu"


def test_mps_is_asked_to_quit_and_is_said_to_be_missing_where_it_is(tmp_path, monkeypatch):
    asked = []

    def run(command, **options):
        asked.append((command[1:], options.get("input"), "CUDA_MPS_PIPE_DIRECTORY" in os.environ))
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnavailableError, match="no nvidia-cuda-mps-control here"), mps():
        pass
    (tmp_path / CONTROL).touch(0o755)
    with mps():
        assert asked == [(["-d"], None, True)]

    assert asked[1:] == [([], "quit\n", True)]
    assert "CUDA_MPS_PIPE_DIRECTORY" not in os.environ


def test_parts_are_checked_and_joined_again(tmp_path):
    archive, folder = tmp_path / "all.tar", tmp_path / "parts"
    archive.write_bytes(bytes(range(256)) * 10)
    folder.mkdir()

    parts = gpu_card.split(archive, folder, 1000)

    assert list(parts) == ["part-00", "part-01", "part-02"]
    assert b"".join((folder / name).read_bytes() for name in parts) == archive.read_bytes()


def test_a_part_that_is_missing_or_broken_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_card, "WORK", tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps({"parts": {"part-00": "0" * 64}}))

    with pytest.raises(SystemExit, match="part-00 is missing: add it"):
        gpu_card.unpack()
    (tmp_path / "part-00").write_bytes(b"x")
    with pytest.raises(SystemExit, match="part-00 is broken: add it"):
        gpu_card.unpack()


def test_a_lock_has_its_lines_by_package():
    locked = gpu_card.lines_of(gpu_card.ROOT / "locks/demo.lock")

    assert locked.keys() > {"numpy", "pywhispercpp", *gpu_card.SOURCES}
    assert all("--hash=sha256:" in lines for lines in locked.values())
    assert gpu_card.NVML in gpu_card.lines_of(gpu_card.ROOT / "locks/test.lock")
