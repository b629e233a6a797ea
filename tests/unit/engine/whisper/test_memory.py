"""How much memory is free, as the kernel says it."""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from transcriber.config import Settings
from transcriber.engine.job import CPU, Device
from transcriber.engine.whisper import memory
from transcriber.engine.whisper.memory import available_bytes, lack_of_room
from transcriber.models.catalog import DEMO_MODEL

MB = 2**20


@dataclass
class Kernel:
    proc: Path
    groups: Path

    def group(self, name, limit, used_mb, cached_mb):
        folder = self.groups / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text(f"{used_mb * MB}\n")
        (folder / "memory.stat").write_text(
            f"anon 1\ninactive_file {cached_mb // 2 * MB}\nactive_file {cached_mb // 2 * MB}\n"
        )


@pytest.fixture
def kernel(tmp_path):
    (tmp_path / "self").mkdir()
    (tmp_path / "meminfo").write_text(f"MemTotal: 99 kB\nMemAvailable: {900 * 1024} kB\nHugePages_Total: 0\n")
    (tmp_path / "self/cgroup").write_text("0::/pods/ours\n")
    return Kernel(tmp_path, tmp_path / "cgroup")


def test_the_tightest_of_the_machine_and_of_each_control_group_counts(kernel):
    def free_mb():
        return available_bytes(kernel.proc, kernel.groups) / MB

    assert free_mb() == 900
    kernel.group("pods", 800 * MB, used_mb=300, cached_mb=100)
    assert free_mb() == 600
    kernel.group("pods/ours", "max", used_mb=200, cached_mb=0)
    assert free_mb() == 600
    kernel.group("pods/ours", 500 * MB, used_mb=200, cached_mb=50)
    assert free_mb() == 350


def test_a_model_that_does_not_fit_beside_the_present_one_is_refused_in_one_line(monkeypatch):
    settings = Settings(whisper_workers=2)
    monkeypatch.setattr(memory, "available_bytes", lambda: 10**9)
    assert lack_of_room(DEMO_MODEL, settings, CPU) == ""
    monkeypatch.setattr(memory, "available_bytes", lambda: 400 * 10**6)

    line = lack_of_room(DEMO_MODEL, settings, CPU)
    assert re.fullmatch(r"model.bin needs about 5\d\d MB of memory, and 400 MB are free", line)


@pytest.mark.parametrize("processes", [0, 4])
def test_of_a_model_on_a_card_the_host_has_the_weights_once(monkeypatch, processes):
    settings = Settings(whisper_workers=4, whisper_processes=processes)
    for spare, fits in ((0, True), (-1, False)):
        monkeypatch.setattr(memory, "available_bytes", lambda spare=spare: DEMO_MODEL.stat().st_size + spare)
        assert (lack_of_room(DEMO_MODEL, settings, Device("cuda:0", "a card")) == "") == fits
