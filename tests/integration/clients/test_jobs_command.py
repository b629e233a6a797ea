"""``transcriber jobs``, and ``transcriber listen`` to a job."""

import asyncio
import io
import json
import os
from datetime import UTC, datetime

import pytest

from tests.support.client_commands import command, output
from tests.support.scripted_file_service import RESULTS, pieces, scripted_file_service
from tests.support.terminal import Terminal
from tests.support.waiting import PATIENCE_S
from transcriber.bus.client_session import connected, subscribe
from transcriber.clients.jobs_command import cancel_job, get_result, show_jobs
from transcriber.clients.listen import listen, listen_and_print
from transcriber.config import load_settings
from transcriber.errors import ConfigError, JetStreamError
from transcriber.schema.file_jobs import JobRecord, Submission, new_object_name
from transcriber.schema.messages import HeldBack

FIRST, SECOND, THIRD = "job=1", "job=2", "job=3"


@pytest.fixture
def settings(broker):
    return load_settings(nats_url=broker.url)


async def idle(office, submission):
    """The test works itself."""


@pytest.fixture
async def office(broker, settings):
    """Three jobs: one done, one running, one queued."""
    async with scripted_file_service(broker, settings, idle) as office:
        for job, name in ((FIRST, "one.mp3"), (SECOND, "two\x1b[2J.mp3"), (THIRD, "three.mp3")):
            submission = Submission(job=job, object=new_object_name(name), by="ada@home", language="en")
            await office.files.put(submission.object, pieces(b"bytes"))
            await office.jobs.submit(submission)
        await office.finish(FIRST, done_s=75.0, total_s=75.0)
        await office.change(SECOND, state="running", done_s=60.0, total_s=3600.0, eta_s=125.0, attempts=1)
        yield office


def local(record):
    return record.submitted_at.astimezone().isoformat(" ", "seconds")


async def test_jobs_are_listed_with_the_latest_at_the_end(office, settings, capsys):
    records = [await office.jobs.record(job) for job in (FIRST, SECOND, THIRD)]

    status = await show_jobs(settings, None)

    assert status == 0
    assert [line.split("\t") for line in capsys.readouterr().out.splitlines()] == [
        [FIRST, "done", "one.mp3", "01:15/01:15", "-", "ada@home", local(records[0])],
        [SECOND, "running", "two [2J.mp3", "01:00/1:00:00", "02:05", "ada@home", local(records[1])],
        [THIRD, "queued", "three.mp3", "00:00", "-", "ada@home", local(records[2])],
    ]


async def test_those_of_one_state_and_the_records_as_they_are(office, settings, capsys):
    await show_jobs(settings, None, state="running", as_json=True)
    listed = capsys.readouterr().out
    await show_jobs(settings, SECOND, as_json=True)
    shown = capsys.readouterr().out
    await show_jobs(settings, None, state="failed")

    assert listed == shown
    assert JobRecord.model_validate_json(shown) == await office.jobs.record(SECOND)
    assert capsys.readouterr().out == ""


async def test_one_job_is_shown_with_all_that_is_known(office, settings, capsys):
    record = await office.jobs.record(FIRST)

    status = await show_jobs(settings, FIRST)

    lines = capsys.readouterr().out.splitlines()
    shown = dict(line.split(maxsplit=1) for line in lines)
    assert status == 0
    assert set(shown) == set(Submission.model_fields) | set(JobRecord.model_fields) - {"submission"}
    assert shown["job"] == FIRST
    assert shown["results"] == " ".join(record.results)
    assert shown["submitted_at"] == local(record)
    assert shown["done_s"] == "75.0"
    assert shown["keep"] == "False"
    assert shown["digest"].startswith("SHA-256=")
    assert shown["prompt"] == shown["error"] == shown["eta_s"] == "-"


async def test_what_a_job_held_back_is_shown_and_said_with_its_result(broker, office, settings, capsys):
    held = HeldBack(start=60, end=75, reason="repetition")
    await office.change(FIRST, suppressed=(held,))

    await show_jobs(settings, FIRST)
    shown = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    result = await output(command(broker, "jobs", "--get", FIRST))

    assert shown["suppressed"] == "01:00-01:15 repetition"
    assert result == (0, RESULTS["txt"], f"transcriber: {FIRST}: text held back: 01:00-01:15 repetition\n")


async def test_a_terminal_sees_a_table(broker, office):
    with Terminal() as screen, command(broker, "jobs", stdout=screen.end, env=screen.environment) as process:
        screen.started()
        await screen.read(b"queued")
        assert await asyncio.to_thread(process.wait, 30) == 0
        shown = screen.shown.decode()

    head, *rows = shown.splitlines()
    assert "job" in head
    assert "submitted" in head
    assert [row.split()[:2] for row in rows] == [[FIRST, "done"], [SECOND, "running"], [THIRD, "queued"]]
    assert "\x1b[2J" not in shown


async def test_a_pipe_gets_columns_between_tabs_whatever_the_environment_says_of_colours(broker, office):
    status, out, err = await output(command(broker, "jobs", env=os.environ | {"FORCE_COLOR": "1"}))

    assert (status, err) == (0, "")
    assert [line.split("\t")[:2] for line in out.splitlines()] == [
        [FIRST, "done"],
        [SECOND, "running"],
        [THIRD, "queued"],
    ]


async def test_a_job_is_cancelled(broker, office):
    assert await output(command(broker, "jobs", "--cancel", SECOND)) == (0, f"{SECOND} cancelled\n", "")
    assert (await office.jobs.record(SECOND)).state == "cancelled"
    assert await output(command(broker, "jobs", "--cancel", FIRST)) == (0, f"{FIRST} done\n", "")


@pytest.mark.parametrize("form", ["text", "json", "verbose_json", "srt", "vtt"])
async def test_a_result_is_fetched_in_every_form(office, settings, tmp_path, capsysbinary, form):
    expected = RESULTS | {"text": RESULTS["txt"], "verbose_json": RESULTS["json"], "json": '{"text": "one two"}'}
    suffix = {"text": "txt", "verbose_json": "json"}.get(form, form)

    statuses = [await get_result(settings, FIRST, form, place) for place in (None, tmp_path / "out", tmp_path)]

    assert statuses == [0, 0, 0]
    assert capsysbinary.readouterr().out.decode().rstrip("\n") == expected[form].rstrip("\n")
    assert (tmp_path / "out").read_text() == (tmp_path / f"{FIRST}.{suffix}").read_text() == expected[form]


async def test_what_cannot_be_had_is_one_line_and_status_1(office, settings, capsys):
    await office.change(THIRD, state="failed", error="there is no\naudio in it")

    statuses = [
        await show_jobs(settings, "job=none"),
        await get_result(settings, "job=none", "text", None),
        await get_result(settings, SECOND, "text", None),
        await get_result(settings, THIRD, "text", None),
        await cancel_job(settings, "job=none"),
    ]

    assert statuses == [1] * 5
    assert capsys.readouterr().err.splitlines() == [
        "transcriber: there is no job=none, or no longer",
        "transcriber: there is no job=none, or no longer",
        "transcriber: job=2 running",
        "transcriber: job=3 failed: there is no audio in it",
        "transcriber: there is no job 'job=none'",
    ]


async def test_without_daemon_or_records_it_says_what_is_missing(broker, settings, capsys):
    cancelled = await cancel_job(settings, FIRST)
    listed = await output(command(broker, "jobs"))

    assert cancelled == 1
    assert capsys.readouterr().err == "transcriber: no daemon answers on transcriber.cancel (FILES=1)\n"
    missing = "there is no stream JOB_RECORDS: files need JetStream, FILES=1 and `transcriber provision --files`"
    assert listed == (3, "", f"transcriber: {missing}\n")
    for asking in (show_jobs(settings, FIRST), get_result(settings, FIRST, "text", None)):
        with pytest.raises(JetStreamError, match=missing):
            await asking


@pytest.mark.parametrize("job", ["radio", "job=", "job=a.b", "job=*", "job=" + "x" * 61])
async def test_what_is_no_id_is_refused(settings, job):
    with pytest.raises(ConfigError, match="must be job="):
        await show_jobs(settings, job)
    with pytest.raises(ConfigError, match="must be job="):
        await cancel_job(settings, job)
    with pytest.raises(ConfigError, match="must be"):
        await listen_and_print(settings, job + ".")


def message(kind, **fields):
    common = {
        "schema": 1, "type": kind, "stream": FIRST, "session": "a", "rate": 1000, "start_frame": 0, "frames": 2000,
        "start": 0.0, "duration": 2.0, "received_at": datetime.now(UTC).isoformat(),
        "first_seq": None, "last_seq": None, "lag_s": None, "checkpoint": None,
    }  # fmt: skip
    return kind, json.dumps(common | fields).encode()


def progress(state, error=None):
    return message("progress", session="b", state=state, total=2.0, eta=None, attempt=1, error=error)


def end():
    amounts = {f"{fate}_{unit}": 0 for fate in ("received", "lost", "transcribed", "silent", "dropped")
               for unit in ("frames", "s")}  # fmt: skip
    return message("end", rev=0, segments=0, **amounts)


@pytest.mark.parametrize(
    ("form", "sent", "heard"),
    [
        (
            "text",
            [progress("running"), end(), progress("done")],
            "[00:02] job=1: end: 0.0 s transcribed, 0.0 s silent, 0.0 s dropped, 0.0 s lost\n[00:02] job=1: done\n",
        ),
        ("text", [progress("failed", "no\naudio")], "[00:02] job=1: failed: no audio\n"),
        ("vtt", [progress("running"), end()], "WEBVTT\n\n"),
        ("vtt", [progress("cancelled")], "WEBVTT\n\n"),
    ],
)
async def test_listening_once_to_a_job_ends_with_the_job(settings, form, sent, heard):
    out = io.StringIO()
    async with connected(settings, "test") as connection:
        messages = await subscribe(connection, f"transcripts.{FIRST}.*")
        for kind, data in sent:
            await connection.publish(f"transcripts.{FIRST}.{kind}", data)
        async with asyncio.timeout(PATIENCE_S):
            await listen(messages, out, form=form, once=True)

    assert out.getvalue() == heard


async def test_the_listen_command_takes_a_job(broker, settings):
    with command(broker, "listen", FIRST, "--once", "--format", "json") as process:
        async with connected(settings, "test") as connection:
            while process.poll() is None:
                kind, data = progress("done")
                await connection.publish(f"transcripts.{FIRST}.{kind}", data)
                await asyncio.sleep(0.05)
        out = process.stdout.read()

    assert process.returncode == 0
    assert json.loads(out)["state"] == "done"
