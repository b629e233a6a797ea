"""Models in processes of their own, which die in every way: a window becomes a gap, and the daemon goes on."""

import contextlib
import os
import signal
from pathlib import Path

from tests.e2e.test_shutdown import Held
from tests.support.audio import level, speak
from tests.support.daemon import Daemon
from tests.support.waiting import PATIENCE_S, until
from transcriber.schema.messages import Final, Gap

RATE = 16_000
WINDOW = RATE // 2
ENV = {"INPUT_SAMPLE_RATE": RATE, "BUFFER_DURATION_SECS": 0.5, "FAKE_JOB_S": 0}
REASONS = (
    "died of SIGABRT: CUDA error: an illegal memory access was encountered",
    "RuntimeError: the fake model crashed, as requested",
    "died of SIGKILL",
    "was killed, as it did not abort a call within 2.0 s",
)
REASONS_ARE_KNOWN = (
    f"transcriber.engine.remote.model:PATIENCE_FACTOR=0 transcriber.engine.remote.process:REAPED_S={PATIENCE_S}"
)
"""However busy the machine is."""
RETRY_S = "transcriber.engine.remote.model:RETRY_S"


def children(daemon):
    """Of a daemon: the processes of its models, the oldest first."""
    found = []
    for thread in Path(f"/proc/{daemon.process.pid}/task").iterdir():
        with contextlib.suppress(OSError):  # it has just ended
            found += [int(child) for child in (thread / "children").read_text().split()]
    return found


def alive(pid):
    return Path(f"/proc/{pid}").exists()


def restarts(listener):
    return listener.metrics[-1]["transcriber.engine.restarts"] if listener.metrics else 0


async def test_a_process_that_dies_costs_its_window_and_no_other_stream_a_frame(broker, tmp_path, publisher, listener):
    deadly: dict[str, int | str] = {"FAKE_ABORT_AT": 13, "FAKE_CRASH_AT": 14, "FAKE_KILL_AT": 15}
    deadly |= {"FAKE_SET": REASONS_ARE_KNOWN}
    async with Daemon(broker.url, tmp_path, **ENV, **deadly, WHISPER_PROCESSES=2, MAX_LATENCY_SECS=10) as daemon:
        assert len(children(daemon)) == 2
        for number, deadly_level in enumerate((13, 14, 15, 666), 1):
            for stream, thousandths in (("a", deadly_level), ("b", 1)):
                await speak(publisher, stream, level(thousandths, WINDOW))
            await until(lambda number=number: restarts(listener) == number)
            for stream in ("a", "b"):
                await speak(publisher, stream, level(2, WINDOW))
            await until(lambda number=number: len(listener.of(Final)) == 3 * number)
        assert daemon.probe("/livez")[0] == 200
        pids = children(daemon)
        for pid in pids:  # as a terminal does
            os.kill(pid, signal.SIGINT)
        for stream in ("a", "b"):
            await speak(publisher, stream, level(3, WINDOW), end=1)
        await listener.ends(2)
        status, took_s = await daemon.stop(signal.SIGINT)

    assert status == 0
    assert took_s <= 2.2
    assert not any(map(alive, pids))
    listener.check_accounts()
    assert (listener.text("a"), listener.text("b")) == ("2 2 2 2 3", "1 2 1 2 1 2 1 2 3")
    gaps = listener.of(Gap)
    assert {(gap.stream, gap.reason, gap.frames) for gap in gaps} == {("a", "engine_error", WINDOW)}
    assert [gap.start_frame for gap in gaps] == [0, 2 * WINDOW, 4 * WINDOW, 6 * WINDOW]
    deaths = [line["msg"] for line in daemon.log_lines() if line["msg"].endswith("; it is started again")]
    assert len(deaths) == 4
    for death, reason in zip(deaths, REASONS, strict=True):
        assert reason in death
    assert REASONS[0] in gaps[0].detail
    assert gaps[3].detail == "took longer than 10.0 s"


async def test_sigterm_drains_what_its_processes_have_in_hand_and_kill_9_leaves_none_of_them(
    broker, tmp_path, publisher, listener
):
    async with Held(broker.url, tmp_path, WHISPER_PROCESSES=1) as daemon:
        daemon.takes(3600)
        await speak(publisher, "s", level(5, 3 * WINDOW))
        await until(lambda: listener.metrics[-1:] and listener.metrics[-1]["transcriber.jobs.enqueued"] == 3)
        pids = children(daemon)
        for pid in (*pids, daemon.process.pid):  # as a service manager does
            for number in (signal.SIGHUP, signal.SIGTERM):
                os.kill(pid, number)
        await until(lambda: any(line["msg"] == "draining" for line in daemon.log_lines()))
        daemon.takes(0)
        status = await daemon.ended()
        await listener.ends(1)

        daemon.start()
        await until(lambda: daemon.probe("/readyz")[0] == 200)
        daemon.takes(3600)
        pids += children(daemon)
        await speak(publisher, "t", level(5, WINDOW))
        await until(lambda: listener.metrics[-1]["transcriber.worker.busy"] > 0.9)
        daemon.process.kill()
        await until(lambda: not any(map(alive, pids)), "the end of its process")

    assert status == 0
    assert len(pids) == 2
    assert listener.text("s") == "5 5 5"
    listener.check_accounts()


async def test_a_process_that_cannot_be_started_again_ends_the_daemon_with_1_and_at_the_start_with_3(
    broker, tmp_path, publisher, listener
):
    load = tmp_path / "load"
    env = {"FAKE_LOAD_FILE": load, "FAKE_SET": f"{RETRY_S}=0.01", "WHISPER_PROCESSES": 1}
    async with Daemon(broker.url, tmp_path, **ENV, **env) as daemon:
        await speak(publisher, "s", level(5, WINDOW))
        await until(lambda: listener.of(Final))
        load.write_text("fake: needs about 5 GB of memory: Cannot allocate memory")
        os.kill(children(daemon)[0], signal.SIGKILL)
        crashed = await daemon.ended()
        (end,) = await listener.ends(1)
        log = daemon.log()
        daemon.start()
        refused = await daemon.ended()

    assert (crashed, refused) == (1, 3)
    assert end.transcribed_frames == WINDOW
    assert log.count("Cannot allocate memory; tried again in") == 4
    assert "RuntimeError: the model cannot be started again: fake: needs about 5 GB of memory" in log
    assert daemon.log().splitlines()[-1] == "fake: needs about 5 GB of memory: Cannot allocate memory"


async def test_a_window_whose_process_cannot_be_started_again_is_one_gap(broker, tmp_path, publisher, listener):
    load = tmp_path / "load"
    env = {"FAKE_LOAD_FILE": load, "FAKE_SET": f"{RETRY_S}=0.01", "WHISPER_PROCESSES": 1, "FAKE_ABORT_AT": 13}
    async with Daemon(broker.url, tmp_path, **ENV, **env) as daemon:
        load.write_text("fake: no memory")
        await speak(publisher, "s", level(13, WINDOW))
        crashed = await daemon.ended()
        (end,) = await listener.ends(1)

    assert crashed == 1
    assert [(gap.start_frame, gap.frames) for gap in listener.of(Gap)] == [(0, WINDOW)]
    assert end.transcribed_frames == 0
    listener.check_accounts()
