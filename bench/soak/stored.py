"""What JetStream keeps: durable sessions, files, clips and uploads. In: a site, chance. Out: each checked; then all of it is purged."""

import asyncio
import contextlib
import io
import json
import time
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from itertools import count
from random import Random

import httpx

from bench.chaos.file_run import RATE, SubmittedFile
from bench.chaos.plan import Plan, Recording, fake_text, from_seed
from bench.chaos.proof import consumer_errors, judge
from bench.chaos.readers import consumers, read_audio, read_back
from bench.chaos.run import publish
from bench.chaos.world import AUDIO, TEXT
from bench.soak.site import MODELS, PATIENCE_S, Site
from transcriber.bus.jetstream.client import JetStream
from transcriber.bus.jetstream.file_streams import FILES_BUCKET
from transcriber.clients.admin_command import swap_model
from transcriber.clients.jobs_api import Jobs
from transcriber.errors import UnansweredError
from transcriber.purge.command import Options, purge
from transcriber.purge.target import parse_target
from transcriber.schema.file_jobs import is_job_id
from transcriber.testing.verify import account_errors

STREAMS = 3
"""Durable streams, the same ones in every round: as many consumers stay at rest."""

FILES = tuple(SubmittedFile(seconds, 7 * seconds, 0.0, seconds % 2 == 0) for seconds in (20, 35, 64))
"""They come again and again, and their results must be the same to the byte."""

PURGES = 5
"""At most, until all is purged."""

UPLOAD, UPLOAD_S = 1, 20.0
"""Of ``FILES``: larger than a message, so that the gateway makes a job of it. After so long a client leaves, and tries again: an
answer that died with the broker never comes."""


def recordings_of(number: int, site: Site, *, quick: bool) -> list[Recording]:
    """Those of a round: of the first seeds whose publishers have ``STREAMS`` streams."""
    plans = (from_seed(seed, site.model, quick=quick) for seed in count(1000 * number))
    plan = next(plan for plan in plans if len(plan.streams) == STREAMS)
    return [_renamed(recording, number, plan) for recording in plan.recordings]


def _renamed(recording: Recording, number: int, plan: Plan) -> Recording:
    """On one of our streams, with ids that no other round has."""
    stream = f"s{sorted(plan.streams).index(recording.stream)}"
    session = recording.session and f"r{number}-{recording.session}"
    payloads = tuple(
        replace(
            payload,
            id=f"r{number}-{payload.id}",
            headers=payload.headers | ({"Audio-Session": session} if session else {}),
        )
        for payload in recording.payloads
    )
    return replace(recording, stream=stream, session=session, payloads=payloads)


async def store(site: Site, recordings: list[Recording]) -> None:
    """Durable sessions, by publishers that try until each payload is stored."""
    site.shelf.recordings = recordings
    publishers: dict[str, list[Recording]] = {}
    for recording in recordings:
        publishers.setdefault(recording.publisher, []).append(recording)
    start_s = time.monotonic()
    await asyncio.gather(*(publish(site.client, own, start_s) for own in publishers.values()))


async def submit(site: Site, rng: Random, _: str, length_s: float) -> None:
    """A file by job, and its results."""
    number = rng.randrange(len(FILES))
    await asyncio.sleep(rng.uniform(0, length_s / 2))
    job = await site.files.submit(FILES[number])
    site.shelf.jobs[job] = number
    record = await site.files.over(job, time.monotonic() + PATIENCE_S)
    if record is None or record.state != "done" or record.error:
        site.tally.errors.append(f"{job} is {record and record.state}: {record and record.error}")
        return
    documents = [_without_model(one) for one in await site.until_done(partial(site.files.documents, job))]
    if documents != site.shelf.results.setdefault(number, documents):
        site.tally.errors.append(f"{job}: the results are not those of the same file before")
    site.tally.count("files", FILES[number].seconds)


def _without_model(document: bytes) -> bytes:
    """The models are the same under other names, and a result has the name."""
    for name in MODELS:
        document = document.replace(name.encode(), b"demo")
    return document


async def submit_in_vain(site: Site, rng: Random, _: str, length_s: float) -> None:
    """A file that nobody can read, or a job that is cancelled."""
    await asyncio.sleep(rng.uniform(0, length_s / 2))
    spoilt = rng.random() < 0.5
    job = await site.files.submit(_Rubbish(20, 0, 0.0, False) if spoilt else FILES[-1])
    site.shelf.jobs[job] = None
    if not spoilt:
        body = json.dumps({"schema": 1, "job": job}).encode()
        await site.until_done(lambda: site.client.request("transcriber.cancel", body, timeout=2))
    record = await site.files.over(job, time.monotonic() + PATIENCE_S)
    if record is None or not record.over:
        site.tally.errors.append(f"{job}, which was to fail, is {record and record.state}")
    site.tally.count("files unread" if spoilt else "files cancelled")


class _Rubbish(SubmittedFile):
    __slots__ = ()

    @property
    def data(self) -> bytes:
        return b"this is no audio" * 1000


async def swap(site: Site, rng: Random, _: str, length_s: float) -> None:
    """All daemons get another model, one after the other; again if the broker died meanwhile."""
    await asyncio.sleep(rng.uniform(0, length_s / 2))
    model = MODELS[site.tally.done.get("model swaps", 0) % len(MODELS)]

    async def attempt() -> None:
        if await swap_model(site.settings, model, instance=None, every=True, unload_first=False, by="soak"):
            raise UnansweredError(model)

    with contextlib.redirect_stdout(io.StringIO()):
        await site.until_done(attempt)
    site.tally.count("model swaps")


async def ask(site: Site, rng: Random, _: str, length_s: float) -> None:
    """Clips by request, some of which are no audio: the text is the same each time, or there is an error."""
    first: str | None = None
    for _number in range(5):
        await asyncio.sleep(rng.uniform(0, length_s / 6))
        data = FILES[0].data
        first = await _asked(site, data, first)
        site.tally.count("clips", FILES[0].seconds)
    await _asked(site, b"this is no audio", None, code="400")
    site.tally.count("clips unread")


async def _asked(site: Site, data: bytes, text: str | None, code: str = "") -> str:
    """Ask until there is an answer, through the broker's death."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with contextlib.suppress(Exception):  # whatever a broker that dies makes of it
                answer = await site.client.request("transcriber.transcribe", data, timeout=10)
                found = (answer.headers or {}).get("Nats-Service-Error-Code", "")
                if found in {"429", "503", "504"} and found != code:
                    continue
                break
            await asyncio.sleep(0.1)
    said = "" if found else json.loads(answer.data)["text"]
    if found != code or (text is not None and said != text):
        site.tally.errors.append(f"a clip is answered {found!r} {said!r} instead of {code!r} {text!r}")
    return str(said)


async def upload(site: Site, rng: Random, name: str, length_s: float) -> None:
    """By HTTP, a clip and what is a job by its size; and somebody who listens meanwhile and leaves."""
    url = site.processes["gateway"].url
    async with httpx.AsyncClient(base_url=url, timeout=UPLOAD_S) as client, asyncio.TaskGroup() as tasks:
        listening = tasks.create_task(_listen(client))
        await asyncio.sleep(rng.uniform(0, length_s / 2))
        for number in (0, UPLOAD):
            await site.until_done(partial(_post, site, client, f"{name}.wav", FILES[number].data))
            site.tally.count("uploads", FILES[number].seconds)
        listening.cancel()


async def _post(site: Site, client: httpx.AsyncClient, name: str, data: bytes) -> None:
    fields, file = {"model": "whisper-1"}, {"file": (name, data)}
    try:
        (await client.post("/v1/audio/transcriptions", files=file, data=fields)).raise_for_status()
    except httpx.HTTPError:
        site.shelf.broken_uploads += 1
        raise


async def _listen(client: httpx.AsyncClient) -> None:
    """To one stream, by events, until cancelled or the broker is gone."""
    with contextlib.suppress(httpx.HTTPError):
        async with client.stream("GET", "/v1/streams/s0/transcript") as answer:
            async for _ in answer.aiter_bytes():
                pass


async def check(site: Site) -> None:
    """Wait until all that was stored is transcribed and acknowledged; compare it with what was published."""
    await _all_ends(site)
    acknowledged = [""]
    deadline_s = time.monotonic() + PATIENCE_S
    while acknowledged and time.monotonic() < deadline_s:
        acknowledged = consumer_errors(await read_audio(site.client), await consumers(site.client))
        await asyncio.sleep(0.1)
    audio, texts = await read_back(site.client)
    of_jobs = [text for text in texts if is_job_id(text.message.stream)]
    of_streams = [text for text in texts if not is_job_id(text.message.stream)]
    verdict = judge(site.shelf.recordings, audio, of_streams, fake_text if site.model == "fake" else None)
    site.tally.errors += acknowledged + verdict.errors
    for recording in site.shelf.recordings:
        site.tally.count("durable sessions", recording.frames / (RATE if site.model == "fake" else 48_000))
    for job, number in site.shelf.jobs.items():
        if number is not None:
            own = [text.message for text in of_jobs if text.message.stream == job]
            site.tally.errors += [f"{job}: {error}" for error in account_errors(own, FILES[number].seconds * RATE)]


async def _all_ends(site: Site) -> None:
    streams = {recording.stream for recording in site.shelf.recordings}
    deadline_s, ends = time.monotonic() + PATIENCE_S, 0
    while ends < len(site.shelf.recordings) and time.monotonic() < deadline_s:
        info = await site.client.jetstream().stream_info(TEXT, subjects_filter="transcripts.*.end")
        ends = sum(
            number for subject, number in (info.state.subjects or {}).items() if subject.split(".")[1] in streams
        )
        await asyncio.sleep(0.1)


async def clear(site: Site, number: int) -> None:
    """Purge all jobs and one stream by the command, again what a busy broker did not answer for; then all the other streams.

    The command removes message by message, and many of them at once would keep the broker from all else.
    """
    said = io.StringIO()
    for _ in range(PURGES):
        said = io.StringIO()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
            for name in sorted(await _stored(site, f"s{number % STREAMS}")):
                await purge(site.settings, parse_target(name), Options(yes=True))
                site.tally.count("purges")
        if not said.getvalue():
            break
    else:
        site.tally.errors.append(f"not all is purged: {said.getvalue()}")
    await _clear_files(site)
    for stream in (AUDIO, TEXT):
        await site.until_done(partial(site.client.jetstream().purge_stream, stream))
    site.shelf.jobs.clear()
    site.shelf.recordings = []


async def _clear_files(site: Site) -> None:
    """What is left of uploads that broke off: whether their jobs were accepted nobody knows, so ``FILE_MAX_AGE_SECS`` removes them.

    And what a broker has again that was killed (nats-server's pull request 7384): it had removed them, in a round before this one.
    """
    jetstream, bucket, since = JetStream(site.connection), f"OBJ_{FILES_BUCKET}", site.shelf.cleared_at
    stored = partial(site.client.jetstream().stream_info, bucket, subjects_filter=">")
    state = (await site.until_done(stored)).state
    files = [subject for subject in state.subjects or {} if subject.startswith(f"$O.{FILES_BUCKET}.M.")]
    times = [await site.until_done(partial(_stored_at, jetstream, bucket, subject)) for subject in files]
    old = [at for at in times if since is not None and at < since]
    left, site.shelf.broken_uploads = site.shelf.broken_uploads, 0
    if len(times) - len(old) > left:
        site.tally.errors.append(f"{len(times) - len(old)} files are left of {left} uploads that broke off")
    site.tally.count("files that the broker removed and has again", times=len(old))
    site.tally.count("files of uploads that broke off", times=len(times) - len(old))
    if state.messages:  # perhaps parts of files alone
        await site.until_done(partial(site.client.jetstream().purge_stream, bucket))
    site.shelf.cleared_at = datetime.now(UTC)


async def _stored_at(jetstream: JetStream, stream: str, subject: str) -> datetime:
    """When the last message of ``subject`` was stored, by the clock of this machine."""
    answer = await jetstream.call(f"STREAM.MSG.GET.{stream}", {"last_by_subj": subject})
    return datetime.fromisoformat(answer["message"]["time"])


async def _stored(site: Site, stream: str) -> set[str]:
    """All jobs, and the stream, of which anything is stored."""
    names = {record.submission.job for record in await Jobs(site.connection, site.settings).records()}
    info = await site.client.jetstream().stream_info(AUDIO, subjects_filter=f"audio.{stream}")
    return names | ({stream} if info.state.subjects else set())
