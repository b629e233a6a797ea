"""Durable mode with a model in a process of its own: whatever that dies of, no window is lost."""

import os
import signal

from tests.e2e.live.test_processes import children
from tests.support.daemon import Daemon
from tests.support.durable_streams import ENV, WINDOW, provisioned, store, store_windows, until_ended, until_stored
from tests.support.transcripts import TranscriptListener
from tests.support.waiting import until


async def test_a_window_whose_process_dies_is_tried_again_and_one_that_kills_each_is_given_up(
    broker, tmp_path, publisher
):
    await provisioned(broker)
    job = tmp_path / "job_s"
    job.write_text("0")
    env = {"FAKE_JOB_FILE": job, "FAKE_ABORT_AT": 300, "MAX_ATTEMPTS": 2, "WHISPER_PROCESSES": 1}
    async with TranscriptListener(broker.url) as listener, Daemon(broker.url, tmp_path, **ENV, **env) as daemon:
        await store_windows(publisher, "s", [1, 300, 3])
        await until_stored(publisher, lambda found: len(found.text) == 2)
        await until(lambda: daemon.log().count("the model is back") == 2)
        job.write_text("3600")
        await store_windows(publisher, "s", [4, 5], first=3)
        await until(lambda: listener.metrics[-1]["transcriber.worker.busy"] > 0.9)
        (pid,) = children(daemon)
        os.kill(pid, signal.SIGKILL)
        job.write_text("0")
        await store(publisher, "s", b"", end=1)
        found = await until_ended(publisher)

    assert daemon.log().count("window retried") == 2
    assert found.text == ["1", "3", "4", "5"]
    assert found.gaps == [("engine_error", WINDOW, WINDOW)]
    found.check(5 * WINDOW)
