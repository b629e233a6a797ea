"""``transcriber purge`` beside a daemon that transcribes the file: cancelled first, and nothing of it comes back."""

import json
import os

from tests.support.client_commands import command, output
from tests.support.daemon import Daemon
from tests.support.durable_streams import provisioned
from tests.support.file_jobs import ENV, file_client, stepped_levels, wav
from tests.support.jetstream_broker import on_disk
from tests.support.transcripts import TranscriptListener
from tests.support.waiting import until
from transcriber.schema.audit import AuditEntry
from transcriber.schema.messages import Final


async def test_a_running_job_is_cancelled_and_purged_and_all_of_it_is_in_the_audit(broker, tmp_path):
    await provisioned(broker, audit=True)
    async with file_client(broker) as desk, TranscriptListener(broker.url) as listener:
        async with Daemon(broker.url, tmp_path, **ENV, FAKE_JOB_S=0.2, AUDIT=1):
            before = await desk.submit(wav(stepped_levels(1)), by="grace")
            await desk.over(before)
            audio = wav(stepped_levels(300))
            mark = os.urandom(64)
            job = await desk.submit(audio[:20_000] + mark + audio[20_064:], by="ada")
            await until(lambda: listener.of(Final, job), "some text")
            assert on_disk(tmp_path, mark) == [mark]

            with command(broker, "purge", job, "--yes", "--json", "--audit", "--as", "admin@desk") as process:
                status, out, err = await output(process)

            assert (status, err) == (0, "")
            assert {one["place"] for one in json.loads(out)["removed"]} >= {"file", "text", "record"}
            assert on_disk(tmp_path, mark) == []
            # The daemon has let go of it, and does the next one.
            after = await desk.submit(wav(stepped_levels(1)))
            await desk.over(after)
            await desk.ask("cancel", json.dumps({"job": after}).encode(), {"Requested-By": "grace"})
        js = desk.client.jetstream()
        left = [
            subject
            for info in await js.streams_info()
            for subject in (await js.stream_info(info.config.name, subjects_filter=">")).state.subjects or {}
        ]
        assert [subject for subject in left if job in subject] == []
        assert f"transcripts.{before}.end" in left
        messages = (await js.stream_info("AUDIT")).state.messages
        entries = [AuditEntry.model_validate_json((await js.get_msg("AUDIT", seq + 1)).data) for seq in range(messages)]

    found = [(entry.event, entry.phase, entry.by, entry.job) for entry in entries]
    assert found == [
        ("submitted", None, "grace", before),
        ("submitted", None, "ada", job),
        ("purged", "begun", "admin@desk", job),
        ("purged", "done", "admin@desk", job),
        ("submitted", None, "", after),  # which was done before it was cancelled
    ]
