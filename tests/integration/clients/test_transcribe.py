"""``transcriber transcribe``: requests, jobs through the store, what goes wrong, and where the text goes."""

import asyncio
import json
import os
import signal
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import nats
import pytest
from nats.aio.msg import Msg

from tests.support.client_commands import command, output
from tests.support.clip_requests import clip, noise
from tests.support.daemon import Daemon
from tests.support.durable_streams import provisioned
from tests.support.scripted_file_service import RESULTS, scripted_file_service
from tests.support.small_disk import small_disk
from tests.support.terminal import Terminal
from tests.support.waiting import settled, until
from transcriber.clients import jobs_api as job_client
from transcriber.clients.transcribe import TranscribeOptions, transcribe_files
from transcriber.config import load_settings
from transcriber.errors import RequestError
from transcriber.schema.file_jobs import Submission, file_name
from transcriber.testing.broker import EmbeddedBroker

PLEASE = Submission(object="-")


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    with EmbeddedBroker(store=tmp_path_factory.mktemp("store")) as broker:
        yield broker


@pytest.fixture
def settings(broker):
    return load_settings(nats_url=broker.url)


@pytest.fixture
async def client(broker):
    client = await nats.connect(broker.url)
    yield client
    await client.close()


@pytest.fixture
def wav(tmp_path):
    path = tmp_path / "talk.wav"
    path.write_bytes(clip(7))
    return path


def refused(code, **more):
    return {"Nats-Service-Error": "because", "Nats-Service-Error-Code": str(code)} | more


@asynccontextmanager
async def answering(client, *answers):
    """Whoever answers requests: each with the next of ``answers``, payload or headers; the last again and again."""
    asked: list[Msg] = []

    async def answer(message):
        said = answers[min(len(asked), len(answers) - 1)]
        asked.append(message)
        if isinstance(said, dict):
            await client.publish(message.reply, b"", headers=said)
        elif said is not None:
            await client.publish(message.reply, said)

    subscription = await client.subscribe("transcriber.transcribe", cb=answer)
    await settled(client)
    yield asked
    await subscription.unsubscribe()


async def done(office, submission):
    await office.finish(submission.job)


async def nothing(office, submission):
    """A daemon that has died."""


async def test_a_small_file_is_one_request(settings, client, wav, capsysbinary):
    asking = TranscribeOptions(Submission(object="-", language="de", task="translate", prompt="Ada\nLovelace ü"), "srt")
    async with answering(client, b"1\n...\n") as asked:
        status = await transcribe_files(settings, [wav], None, asking)

    assert status == 0
    assert capsysbinary.readouterr() == (b"1\n...\n", b"")
    (message,) = asked
    assert message.data == wav.read_bytes()
    assert message.headers == {
        "Response-Format": "srt", "Language": "de", "Task": "translate", "Prompt": "Ada Lovelace ü",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("form", "said", "shown"),
    [
        ("text", b"one\n", b"==> talk.wav <==\none\n==> more.wav <==\none\n"),
        ("text", b"", b"==> talk.wav <==\n==> more.wav <==\n"),
        ("json", b'{"text": "one"}', b'{"text": "one"}\n' * 2),
    ],
)
async def test_several_files_come_in_order_one_after_the_other(
    settings, client, wav, monkeypatch, capsysbinary, form, said, shown
):
    monkeypatch.chdir(wav.parent)
    wav.with_name("more.wav").write_bytes(clip(8))
    async with answering(client, said) as asked:
        await transcribe_files(settings, [Path("talk.wav"), Path("more.wav")], None, TranscribeOptions(PLEASE, form))

    assert capsysbinary.readouterr().out == shown
    assert [message.data for message in asked] == [clip(7), clip(8)]


async def test_a_text_with_something_missing_is_written_and_the_status_says_so(settings, client, wav, capsysbinary):
    async def answer(message):
        gaps = '[{"start": 5, "end": 7.5, "reason": "lost_input"}, {"start": 61, "end": 61, "reason": "bad_input"}]'
        await client.publish(message.reply, b"one\n", headers={"Gaps": gaps})

    await client.subscribe("transcriber.transcribe", cb=answer)
    await settled(client)
    status = await transcribe_files(settings, [wav], None, TranscribeOptions(PLEASE))

    line = f"transcriber: {wav}: not transcribed: 00:05-00:07 lost_input, 01:01-01:01 bad_input\n"
    assert (status, capsysbinary.readouterr()) == (1, (b"one\n", line.encode()))


async def test_results_go_to_a_directory_under_the_files_names(settings, client, wav, tmp_path, capsysbinary):
    wav.with_name("more.mp3").write_bytes(clip(8))
    async with answering(client, b"WEBVTT\n\n"):
        out = tmp_path / "out"
        await transcribe_files(settings, [wav, wav.with_name("more.mp3")], out, TranscribeOptions(PLEASE, "vtt"))

    assert {path.name: path.read_bytes() for path in out.iterdir()} == {
        "talk.vtt": b"WEBVTT\n\n",
        "more.vtt": b"WEBVTT\n\n",
    }
    assert capsysbinary.readouterr() == (b"", b"")


async def test_a_result_that_cannot_be_written_whole_leaves_what_was_there(settings, client, wav, tmp_path, capsys):
    place = tmp_path / "text.txt"
    place.write_text("before")
    full = tmp_path / "full.txt"
    full.symlink_to("/dev/full")
    async with answering(client, b"x" * 100_000):
        statuses = [await transcribe_files(settings, [wav], path, TranscribeOptions(PLEASE)) for path in (full, place)]

    assert statuses == [1, 0]
    assert capsys.readouterr().err == f"transcriber: {wav}: {full}: cannot be written: No space left on device\n"
    assert place.read_bytes() == b"x" * 100_000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full.txt", "talk.wav", "text.txt"]


def read_a_little(place):
    with place.open("rb") as pipe:
        assert pipe.read(1)


async def test_a_pipe_that_nobody_reads_any_more_is_one_line(settings, client, wav, tmp_path, capsys):
    place = tmp_path / "pipe"
    os.mkfifo(place)
    async with answering(client, b"x" * 500_000):
        reading = asyncio.create_task(asyncio.to_thread(read_a_little, place))
        status = await transcribe_files(settings, [wav], place, TranscribeOptions(PLEASE))
        await reading

    assert (status, capsys.readouterr().err) == (1, f"transcriber: {wav}: {place}: cannot be written: Broken pipe\n")


async def test_a_full_disk_leaves_no_half_result_and_keeps_what_was_there(settings, client, wav, tmp_path, capsys):
    with small_disk(tmp_path, "256k") as disk:
        (disk / "old.txt").write_text("before")
        async with answering(client, b"x" * 500_000):
            statuses = [
                await transcribe_files(settings, [wav], disk / name, TranscribeOptions(PLEASE))
                for name in ("old.txt", "new.txt")
            ]
        left = {path.name: path.read_text() for path in disk.iterdir()}

    assert statuses == [1, 1]
    assert left == {"old.txt": "before"}
    said = capsys.readouterr().err.splitlines()
    assert [line.endswith("cannot be written: No space left on device") for line in said] == [True, True]


async def test_a_full_disk_behind_stdout_is_one_line(broker, client, wav):
    with open("/dev/full", "wb") as full:  # noqa: ASYNC230, PTH123 - a device
        async with answering(client, b"one\n"):
            status, _, said = await output(command(broker, "transcribe", wav, stdout=full))

    assert (status, said) == (1, "transcriber: cannot be written: No space left on device\n")


async def test_what_goes_wrong_with_one_file_is_one_line_and_the_others_are_done(settings, client, wav, capsysbinary):
    missing = wav.with_name("missing.wav")
    async with answering(client, refused(400, **{"Nats-Service-Error": "be\x1bcause"}), b"one\n"):
        status = await transcribe_files(settings, [wav, missing, wav.parent, wav], None, TranscribeOptions(PLEASE))

    out, err = capsysbinary.readouterr()
    assert status == 1
    assert out.decode() == f"==> {wav} <==\none\n"
    assert err.decode().splitlines() == [
        f"transcriber: {wav}: be cause",
        f"transcriber: {missing}: {missing}: No such file or directory",
        f"transcriber: {wav.parent}: {wav.parent}: Is a directory",
    ]


async def test_a_full_queue_is_asked_again_when_it_says(settings, client, wav, capsysbinary):
    full = refused(429, **{"Retry-After": "1"})
    loop = asyncio.get_running_loop()
    async with answering(client, full, refused(503), b"one\n") as asked:
        began_s = loop.time()
        status = await transcribe_files(settings, [wav], None, TranscribeOptions(PLEASE))
        took_s = loop.time() - began_s
    async with answering(client, full, refused(429, **{"Retry-After": "3600"})) as asked_in_vain:
        failed = await transcribe_files(settings, [wav], None, TranscribeOptions(PLEASE))

    assert (status, failed) == (0, 1)
    assert len(asked) == 3
    assert took_s >= 1.5
    assert len(asked_in_vain) == 2
    assert capsysbinary.readouterr() == (b"one\n", f"transcriber: {wav}: because\n".encode())


async def test_nobody_there_or_nobody_who_answers_is_said(settings, client, wav, capsys):
    nobody = await transcribe_files(settings, [wav], None, TranscribeOptions(PLEASE))
    async with answering(client, None):
        silent = await transcribe_files(settings, [wav], None, TranscribeOptions(PLEASE, timeout_s=0.3))

    assert (nobody, silent) == (1, 1)
    assert capsys.readouterr().err.splitlines() == [
        f"transcriber: {wav}: no daemon answers on transcriber.transcribe (SERVICE=1)",
        f"transcriber: {wav}: no answer on transcriber.transcribe within 0.3 s",
    ]


async def test_a_job_that_could_not_read_all_gives_its_text_and_a_status(broker, settings, wav, capsysbinary):
    async def work(office, submission):
        await office.finish(submission.job, error="it ends after 5.0 s of 9.0 s")

    async with scripted_file_service(broker, settings, work):
        status = await transcribe_files(settings, [wav], None, TranscribeOptions(PLEASE, store=True))

    said = f"transcriber: {wav}: it ends after 5.0 s of 9.0 s\n"
    assert (status, capsysbinary.readouterr()) == (1, (RESULTS["txt"].encode(), said.encode()))


async def test_a_file_too_large_for_a_request_goes_through_the_store(broker, settings, client, tmp_path, capsysbinary):
    path = tmp_path / "large.wav"
    path.write_bytes(noise(40))
    stored = []

    async def work(office, submission):
        stored.append(await office.stored(submission.object))
        await office.progress(submission.job, "running", 10, 40)
        await office.finish(submission.job)
        await office.progress(submission.job, "done", 40, 40)

    async with answering(client, b"no") as asked, scripted_file_service(broker, settings, work) as office:
        asking = TranscribeOptions(Submission(object="-", language="en", prompt="Ada", keep=True, speakers="voices"))
        status = await transcribe_files(settings, [path], None, asking)

    assert status == 0
    assert asked == []
    assert stored == [noise(40)]
    assert capsysbinary.readouterr() == (RESULTS["txt"].encode(), b"")
    (submission,) = office.submissions
    assert file_name(submission.object) == "large.wav" != submission.object
    assert "@" in submission.by
    expected = {"language": "en", "task": "transcribe", "prompt": "Ada", "keep": True, "speakers": "voices"}
    assert submission.model_dump(exclude={"job", "object", "by"}) == expected


@pytest.mark.parametrize("form", ["text", "json", "verbose_json", "srt", "vtt"])
async def test_a_file_too_long_for_a_request_goes_through_the_store(broker, settings, client, wav, tmp_path, form):
    place = tmp_path / "out"
    async with answering(client, refused(413)) as asked, scripted_file_service(broker, settings, done) as office:
        status = await transcribe_files(settings, [wav], place, TranscribeOptions(PLEASE, form))

        assert status == 0
        assert len(asked) == len(office.submissions) == 1
        assert await office.stored(office.submissions[0].object) == wav.read_bytes()
    expected = RESULTS | {"text": RESULTS["txt"], "verbose_json": RESULTS["json"], "json": '{"text": "one two"}'}
    assert place.read_text() == expected[form]


async def test_stdin_of_any_length_is_sent_without_knowing_how_long_it_is(broker, settings, client):
    async with answering(client, b"small\n") as asked, scripted_file_service(broker, settings, done) as office:
        small = await output(command(broker, "transcribe", "-"), clip(7))
        large = await output(command(broker, "transcribe", "-"), noise(100))

        assert small == (0, "small\n", "")
        assert large == (0, "one two\n", "")
        assert [message.data for message in asked] == [clip(7)]
        (submission,) = office.submissions
        assert await office.stored(submission.object) == noise(100)
        assert file_name(submission.object) == "stdin"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"state": "failed", "error": "there is no audio in it"}, "failed: there is no audio in it"),
        ({"state": "cancelled"}, "cancelled"),
    ],
)
async def test_a_job_that_ends_badly_says_why(broker, settings, wav, capsys, changes, said):
    async def work(office, submission):
        await office.change(submission.job, **changes)

    async with scripted_file_service(broker, settings, work) as office:
        status = await transcribe_files(settings, [wav], None, TranscribeOptions(PLEASE, store=True))

    assert status == 1
    assert capsys.readouterr() == ("", f"transcriber: {wav}: {office.submissions[0].job} {said}\n")


async def test_progress_that_stops_does_not_hang_the_command(broker, settings, wav, capsysbinary):
    """The daemon dies; the next one's messages are lost: the record has the state."""

    async def work(office, submission):
        await office.progress(submission.job, "running", 1, 2)
        await asyncio.sleep(2.5)
        await office.finish(submission.job)

    async with scripted_file_service(broker, settings, work):
        status = await transcribe_files(settings, [wav], None, TranscribeOptions(PLEASE, store=True, timeout_s=30))

    assert (status, capsysbinary.readouterr().out) == (0, b"one two\n")


async def test_the_last_progress_may_come_before_the_record(broker, settings, wav, capsysbinary):
    async def work(office, submission):
        await office.progress(submission.job, "done", 2, 2)
        await asyncio.sleep(0.3)
        await office.finish(submission.job)

    async with scripted_file_service(broker, settings, work):
        status = await transcribe_files(settings, [wav], None, TranscribeOptions(PLEASE, store=True, timeout_s=30))

    assert (status, capsysbinary.readouterr().out) == (0, b"one two\n")


async def test_a_job_that_takes_too_long_continues(broker, settings, wav, capsys):
    async with scripted_file_service(broker, settings, nothing) as office:
        status = await transcribe_files(settings, [wav], None, TranscribeOptions(PLEASE, store=True, timeout_s=0.5))

        job = office.submissions[0].job
        assert status == 1
        assert f"{wav}: not done within 0.5 s; {job} continues" in capsys.readouterr().err
        assert (await office.jobs.record(job)).state == "queued"


async def test_a_refused_submission_leaves_nothing_in_the_store(broker, settings, wav, capsys):
    async with scripted_file_service(broker, settings, nothing) as office:
        before = await office.file_names()
        office.refusal = RequestError(413, "too large for this house")
        status = await transcribe_files(settings, [wav], None, TranscribeOptions(PLEASE, store=True))
        (name,) = set(await office.file_names()) - set(before)

        assert status == 1
        assert capsys.readouterr().err == f"transcriber: {wav}: too large for this house\n"
        meta = await office.jetstream.message("OBJ_AUDIO_FILES", last_by_subj=name)
        assert json.loads(meta.payload)["deleted"] is True


async def test_a_submission_that_may_have_been_taken_leaves_its_file_in_the_store(
    broker, settings, wav, capsys, monkeypatch
):
    """A retry that runs out of time is no refusal: the job may be queued, and its record not stored yet."""
    monkeypatch.setattr(job_client, "ASK_S", 1)
    async with scripted_file_service(broker, settings, nothing) as office:
        before = await office.file_names()
        office.refusal = RequestError(503, "ask again")
        status = await transcribe_files(settings, [wav], None, TranscribeOptions(PLEASE, store=True))
        after = await office.file_names()

    assert status == 1
    assert "ask again; it may have been accepted: transcriber jobs job=" in capsys.readouterr().err
    assert len(after) == len(before) + 1


async def test_a_result_that_is_gone_is_said(broker, settings, wav, capsys):
    async def work(office, submission):
        await office.change(submission.job, state="done")

    async with scripted_file_service(broker, settings, work) as office:
        status = await transcribe_files(settings, [wav], None, TranscribeOptions(PLEASE, store=True))

    job = office.submissions[0].job
    assert status == 1
    assert (
        capsys.readouterr().err
        == f"transcriber: {wav}: there is no {job}.txt in the bucket TRANSCRIPTS, or no longer\n"
    )


async def test_where_no_files_are_taken_nothing_is_stored(broker, settings, client, wav, tmp_path, capsys):
    await provisioned(broker, files=True)
    large = tmp_path / "large.wav"
    large.write_bytes(noise(40))
    async with answering(client, refused(413)):
        statuses = [
            await transcribe_files(settings, [path], None, TranscribeOptions(PLEASE, store=store))
            for path, store in ((wav, False), (large, False), (wav, True))
        ]

    assert statuses == [1, 1, 1]
    nobody = "no daemon answers on transcriber.submit (FILES=1)"
    assert capsys.readouterr().err.splitlines() == [
        f"transcriber: {wav}: too long for a request, and {nobody}",
        f"transcriber: {large}: too large for a request, and {nobody}",
        f"transcriber: {wav}: {nobody}",
    ]


async def test_without_buckets_or_without_jetstream_it_says_what_to_do(tmp_path, wav, capsys):
    async def taken(message):
        await message.respond(b"")

    said = []
    for store in (None, tmp_path / "store"):
        with EmbeddedBroker(store=store) as bare:
            client = await nats.connect(bare.url)
            await client.subscribe("transcriber.submit", cb=taken)
            await settled(client)
            settings = load_settings(nats_url=bare.url)
            assert await transcribe_files(settings, [wav], None, TranscribeOptions(PLEASE, store=True)) == 1
            said.append(capsys.readouterr().err)
            await client.close()

    hint = "files need JetStream, FILES=1 and `transcriber provision --files`\n"
    assert [line.endswith(hint) for line in said] == [True, True]
    assert "no JetStream" in said[0]
    assert "there is no bucket AUDIO_FILES" in said[1]


async def test_a_full_store_is_said_and_no_advice_given(tmp_path, capsys):
    path = tmp_path / "large.wav"
    path.write_bytes(noise(40))
    with EmbeddedBroker(store=tmp_path / "store") as small:
        settings = load_settings(nats_url=small.url, files_max_bytes=2**20)
        async with scripted_file_service(small, settings, nothing, files_max_bytes=2**20):
            status = await transcribe_files(settings, [path], None, TranscribeOptions(PLEASE, store=True))

    assert (status, capsys.readouterr().err) == (1, f"transcriber: {path}: maximum bytes exceeded\n")


async def test_detached_jobs_are_named_and_nobody_waits(broker, settings, wav):
    async with scripted_file_service(broker, settings, nothing) as office:
        one = await output(command(broker, "transcribe", wav, "--detach"))
        two = await output(command(broker, "transcribe", wav, wav, "--detach", "--urgent", "--speakers", "channels"))

    first, *others = office.submissions
    assert one == (0, f"{first.job}\n", "")
    assert two == (0, "".join(f"{submission.job}  {wav}\n" for submission in others), "")
    assert [submission.speakers for submission in office.submissions] == [None, "channels", "channels"]
    assert office.subjects == [
        *["transcriber.submit"] * 2,
        *["transcriber.submit.urgent"] * 4,
    ]  # each is asked about first


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_ctrl_c_leaves_the_job_and_says_how_to_stop_it(broker, settings, wav, number):
    async with scripted_file_service(broker, settings, nothing) as office:
        with command(broker, "transcribe", wav, "--store") as process:
            await until(lambda: office.submissions, "the submission")
            job = office.submissions[0].job
            await asyncio.sleep(0.2)  # the answer may be on its way: what is said is the same
            process.send_signal(number)
            status, out, err = await output(process)

        assert (status, out) == (130, "")
        assert err == (
            f"transcriber: {wav}: {job} continues; `transcriber jobs --cancel {job}` stops it, "
            f"`transcriber jobs --get {job}` fetches its text\n"
        )
        assert (await office.jobs.record(job)).state == "queued"


async def test_ctrl_c_while_a_file_is_stored_leaves_nothing_in_the_store(broker, settings):
    async with scripted_file_service(broker, settings, nothing) as office:
        before = await office.messages()
        with command(broker, "transcribe", "-", "--store") as process:
            await asyncio.to_thread(process.stdin.write, noise(40))
            while await office.messages() == before:  # noqa: ASYNC110 - there is no event
                await asyncio.sleep(0.01)
            process.send_signal(signal.SIGINT)
            status, out, err = await output(process)

        assert (status, out, err) == (130, "", "")
        assert office.submissions == []
        assert await office.messages() == before


async def test_a_reader_who_leaves_ends_it_quietly(broker, client, wav):
    async with answering(client, b"x" * 900_000):
        with command(broker, "transcribe", wav, wav) as process:
            process.stdout.close()
            await asyncio.to_thread(process.wait, 30)

            assert process.stderr.read() == b""
            assert process.returncode == 0


async def test_a_terminal_sees_how_far_it_is(broker, settings, wav):
    go_on = asyncio.Event()

    async def work(office, submission):
        while not go_on.is_set():
            await office.progress(submission.job, "running", 75, 150, eta=60)
            await asyncio.sleep(0.05)
        await office.finish(submission.job)
        await office.progress(submission.job, "done", 150, 150)

    async with scripted_file_service(broker, settings, work):
        with Terminal() as screen:
            line = "transcribe", wav, "--store"
            with command(broker, *line, stderr=screen.end, env=screen.environment) as process:
                screen.started()
                await screen.read(b"talk.wav: 01:15 of 02:30, 01:00 left")
                go_on.set()
                out = await asyncio.to_thread(process.stdout.read)
                assert await asyncio.to_thread(process.wait, 30) == 0

    assert out == b"one two\n"


async def test_a_log_has_no_bar_whatever_the_environment_says_of_colours(broker, settings, wav):
    async with scripted_file_service(broker, settings, done):
        line = "transcribe", wav, "--store"
        assert await output(command(broker, *line, env=os.environ | {"FORCE_COLOR": "1"})) == (0, "one two\n", "")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--language", "klingon"], "--language='klingon'"),
        (["--prompt", "x" * 1001], "--prompt='xxx"),
        (["--timeout", "0"], "must be seconds, more than 0"),
        (["--detach", "-o", "x"], "not allowed with argument"),
        (["--speakers", "nobody"], "invalid choice"),
    ],
)
async def test_wrong_usage_is_status_2(broker, wav, flags, said):
    status, out, err = await output(command(broker, "transcribe", wav, *flags))

    assert (status, out) == (2, "")
    assert said in err


async def test_a_broker_out_of_reach_is_one_clear_line(wav):
    nowhere = SimpleNamespace(url="nats://127.0.0.1:1")
    status, _, err = await output(command(nowhere, "transcribe", wav, "--nats-connect-timeout-secs", "0.2"))

    assert status == 3
    assert err.startswith("transcriber: NATS_URL=nats://127.0.0.1:1: ")
    assert err.count("\n") == 1


async def test_text_that_is_held_back_is_a_line_on_stderr(broker, tmp_path, wav):
    loop = tmp_path / "loop.wav"
    loop.write_bytes(clip(555))
    async with Daemon(broker.url, tmp_path):
        text = await output(command(broker, "transcribe", loop, wav))
        to_json = await output(command(broker, "transcribe", loop, "--format", "json"))

    line = f"transcriber: {loop}: text held back: 00:00-00:01 repetition\n"
    assert text == (0, f"==> {loop} <==\n==> {wav} <==\n7\n", line)
    assert json.loads(to_json[1])["suppressed"] == [{"start": 0.0, "end": 1.0, "reason": "repetition"}]
    assert to_json[2] == line


@pytest.mark.parametrize("said", ["?", "{}", '[{"start": 0}]'])
async def test_a_header_that_cannot_be_read_costs_no_text(settings, client, wav, capsysbinary, said):
    async def answer(message):
        await client.publish(message.reply, b"one\n", headers={"Suppressed": said})

    subscription = await client.subscribe("transcriber.transcribe", cb=answer)
    await settled(client)
    status = await transcribe_files(settings, [wav], None, TranscribeOptions(PLEASE))
    await subscription.unsubscribe()

    assert status == 0
    assert capsysbinary.readouterr() == (b"one\n", b"")


async def test_a_real_daemon_answers_a_file_of_each_kind_of_error_and_form(broker, tmp_path, wav):
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF and nothing")
    async with Daemon(broker.url, tmp_path):
        text = await output(command(broker, "transcribe", wav, broken, "--language", "de"))
        verbose = await output(command(broker, "transcribe", wav, "--format", "verbose_json"))

    status, out, err = text
    assert (status, out) == (1, f"==> {wav} <==\n7\n")
    assert err.startswith(f"transcriber: {broken}: ")
    assert err.count("\n") == 1
    assert json.loads(verbose[1])["text"] == "7"
