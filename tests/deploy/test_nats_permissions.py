"""The least-privilege configuration in k8s/nats, loaded by a real nats-server and tried user by user."""

import asyncio
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import httpx
import nats
import nkeys
import pytest
import trustme
from nats.aio.client import Client
from websockets.asyncio.client import connect

from tests.support.audio import level, speak
from tests.support.clip_requests import ask, clip, text
from tests.support.daemon import Daemon
from tests.support.gateway import GatewayProcess
from tests.support.waiting import PATIENCE_S, settled, until
from transcriber.bus.client_session import connected
from transcriber.bus.jetstream.client import JetStream
from transcriber.bus.jetstream.file_streams import FILES_BUCKET, RESULTS_BUCKET
from transcriber.bus.jetstream.provision import (
    check_consumer,
    check_files,
    check_streams,
    ensure_consumer,
    ensure_streams,
    provision,
)
from transcriber.bus.object_store.bucket import Bucket
from transcriber.bus.object_store.reader import ObjectReader
from transcriber.clients.admin_command import swap_model
from transcriber.config import load_settings
from transcriber.errors import BrokerError
from transcriber.files.job_store import JobStore
from transcriber.files.work_queue import WorkQueue
from transcriber.purge.command import Options, purge
from transcriber.purge.target import parse_target
from transcriber.schema.file_jobs import Answer, Submission
from transcriber.schema.messages import ANY_MESSAGE, End, Final
from transcriber.testing.broker import EmbeddedBroker

CONFIG = Path(__file__).parents[2] / "k8s/nats/nats.conf"

FILES = ("OBJ_AUDIO_FILES", "OBJ_TRANSCRIPTS", "JOBS", "JOB_RECORDS")
"""The streams that files need beside TRANSCRIPTS."""

JOB_CONSUMERS = {"transcriber": "transcriber.jobs.*", "transcriber-urgent": "transcriber.jobs.urgent.*"}

LISTED = ("AUDIO", "TRANSCRIPTS", "OBJ_AUDIO_FILES", "OBJ_TRANSCRIPTS")
"""The streams of which a purge lists messages."""


def listing(stream):
    """By a consumer of its own."""
    return {
        f"$JS.API.CONSUMER.{call}"
        for call in (
            f"CREATE.{stream}.purge.x",
            f"MSG.NEXT.{stream}.purge",
            f"DELETE.{stream}.purge",
            f"INFO.{stream}.purge",
        )
    }


AUDIT = {
    f"transcriber.audit.{event}" for event in ("submitted", "cancelled", "purged", "swapped", "configured", "read")
}

FIGURES = "transcriber.streams.pod-1"

CONFIG_READ = {f"$JS.API.{call}.KV_TRANSCRIBER_CONFIG" for call in ("STREAM.INFO", "STREAM.MSG.GET", "DIRECT.GET")}
CONFIG_KEY = "$KV.TRANSCRIBER_CONFIG.global.log_level"

ADMIN = {"transcriber.admin", "transcriber.admin.pod-1"}

OF_A_DAEMON = {
    "transcriber.metrics.pod-1",
    FIGURES,
    "transcriber.audit.swapped",
    "$JS.API.STREAM.INFO.AUDIT",
    *CONFIG_READ,
}
"""What each may publish, whatever it transcribes."""

PUBLISH = {
    "PUBLISHER_RADIO_7": {"audio.radio-7"},
    "READER": set(),
    "ASKER": {"transcriber.transcribe"},
    "DAEMON_RADIO_7": {"transcripts.radio-7.final", "transcripts.radio-7.end", *OF_A_DAEMON},
    "DAEMON_ALL": {
        "transcripts.radio-7.final",
        "transcripts.radio-7.end",
        "transcripts.parliament.final",
        "transcripts.job=1.final",
        "transcripts.job=1.progress",
        *OF_A_DAEMON,
    },
    "DURABLE_RADIO_7": {
        "transcripts.radio-7.final",
        "transcripts.radio-7.end",
        *OF_A_DAEMON,
        "$JS.API.STREAM.INFO.AUDIO",
        "$JS.API.STREAM.INFO.TRANSCRIPTS",
        "$JS.API.STREAM.MSG.GET.AUDIO",
        "$JS.API.STREAM.MSG.GET.TRANSCRIPTS",
        "$JS.API.CONSUMER.INFO.AUDIO.transcriber-radio-7",
        "$JS.API.CONSUMER.MSG.NEXT.AUDIO.transcriber-radio-7",
        "$JS.API.CONSUMER.RESET.AUDIO.transcriber-radio-7",
        "$JS.API.CONSUMER.UNPIN.AUDIO.transcriber-radio-7",
        "$JS.ACK.AUDIO.transcriber-radio-7.1.1.1.1.1",
    },
    "DURABLE_ALL": {
        "transcripts.radio-7.final",
        "transcripts.radio-7.end",
        "transcripts.parliament.final",
        "transcripts.job=1.final",
        "transcripts.job=1.progress",
        *OF_A_DAEMON,
        "$JS.API.STREAM.INFO.AUDIO",
        "$JS.API.STREAM.INFO.TRANSCRIPTS",
        "$JS.API.STREAM.MSG.GET.AUDIO",
        "$JS.API.STREAM.MSG.GET.TRANSCRIPTS",
        "$JS.API.CONSUMER.CREATE.AUDIO.transcriber-radio-7.audio.radio-7",
        *(listing("AUDIO") - {"$JS.API.CONSUMER.DELETE.AUDIO.purge"}),  # as of any stream's consumer
        *(
            f"$JS.API.CONSUMER.{call}.AUDIO.transcriber-{stream}"
            for call in ("INFO", "MSG.NEXT", "RESET", "UNPIN")
            for stream in ("radio-7", "parliament")
        ),
        "$JS.ACK.AUDIO.transcriber-radio-7.1.1.1.1.1",
        "$JS.ACK.AUDIO.transcriber-parliament.1.1.1.1.1",
    },
    "DAEMON_FILES": {
        "transcripts.radio-7.final",
        "transcripts.radio-7.end",
        "transcripts.parliament.final",
        "transcripts.job=1.final",
        "transcripts.job=1.progress",
        *OF_A_DAEMON,
        "transcriber.jobs.job=1",
        "transcriber.jobs.urgent.job=1",
        "transcriber.records.job=1",
        "transcriber.audit.submitted",
        "transcriber.audit.cancelled",
        "$O.AUDIO_FILES.M.eA==",
        "$O.TRANSCRIPTS.C.1",
        "$O.TRANSCRIPTS.M.eA==",
        *(f"$JS.API.STREAM.INFO.{name}" for name in ("TRANSCRIPTS", *FILES)),
        *(f"$JS.API.STREAM.MSG.GET.{name}" for name in ("TRANSCRIPTS", *FILES)),
        "$JS.API.DIRECT.GET.TRANSCRIPTS",
        "$JS.API.DIRECT.GET.OBJ_AUDIO_FILES",
        "$JS.API.STREAM.PURGE.OBJ_AUDIO_FILES",
        "$JS.API.STREAM.PURGE.OBJ_TRANSCRIPTS",
        *(f"$JS.API.CONSUMER.{call}.JOBS.{name}" for call in ("INFO", "MSG.NEXT") for name in JOB_CONSUMERS),
        *(f"$JS.ACK.JOBS.{name}.1.1.1.1.1" for name in JOB_CONSUMERS),
    },
    "SUBMITTER": {
        "transcriber.submit",
        "transcriber.cancel",
        "$O.AUDIO_FILES.C.1",
        "$O.AUDIO_FILES.M.eA==",
        "$JS.API.STREAM.MSG.GET.OBJ_AUDIO_FILES",
        "$JS.API.STREAM.MSG.GET.JOB_RECORDS",
        "$JS.API.STREAM.MSG.GET.OBJ_TRANSCRIPTS",
        "$JS.API.DIRECT.GET.JOB_RECORDS",
        "$JS.API.DIRECT.GET.OBJ_TRANSCRIPTS",
    },
    "PROVISIONER": {
        *(
            f"$JS.API.STREAM.{call}.{name}"
            for call in ("INFO", "CREATE", "UPDATE")
            for name in ("AUDIO", "TRANSCRIPTS", "AUDIT", "KV_TRANSCRIBER_CONFIG", *FILES)
        ),
        *(f"$JS.API.CONSUMER.CREATE.JOBS.{name}.{subject}" for name, subject in JOB_CONSUMERS.items()),
        *(f"$JS.API.CONSUMER.INFO.JOBS.{name}" for name in JOB_CONSUMERS),
        "$JS.API.CONSUMER.CREATE.AUDIO.transcriber-radio-7.audio.radio-7",
        "$JS.API.CONSUMER.INFO.AUDIO.purge",
        "$JS.API.CONSUMER.CREATE.AUDIO.purge.x",  # as of any stream's consumer
        "$JS.API.CONSUMER.INFO.AUDIO.transcriber-radio-7",
        "$JS.API.CONSUMER.INFO.AUDIO.transcriber-parliament",
    },
    "GATEWAY": {
        *(f"audio.{stream}" for stream in ("radio-7", "parliament", "none")),
        *(f"transcriber.{name}" for name in ("transcribe", "submit.urgent", "cancel", "streams")),
        "$SRV.INFO.transcriber",
        "transcriber.audit.read",
        "$JS.API.STREAM.INFO.AUDIT",
        "$O.AUDIO_FILES.C.1",
        "$O.AUDIO_FILES.M.eA==",
        "$JS.API.STREAM.LIST",
        "$JS.API.STREAM.PURGE.OBJ_AUDIO_FILES",
        *(f"$JS.API.STREAM.MSG.GET.{name}" for name in ("AUDIO", "TRANSCRIPTS", *FILES) if name != "JOBS"),
        *(f"$JS.API.DIRECT.GET.{name}" for name in ("TRANSCRIPTS", "JOB_RECORDS", "OBJ_TRANSCRIPTS")),
    },
    "PURGER": {
        *(f"audio.{stream}" for stream in ("radio-7", "parliament", "none")),
        "transcriber.records.job=1",
        "transcriber.audit.purged",
        *(f"$JS.API.STREAM.INFO.{name}" for name in LISTED),
        *(f"$JS.API.STREAM.MSG.GET.{name}" for name in ("TRANSCRIPTS", *FILES)),
        *(f"$JS.API.STREAM.MSG.DELETE.{name}" for name in ("AUDIO", "TRANSCRIPTS", *FILES)),
        "$JS.API.DIRECT.GET.JOB_RECORDS",
        *(f"$JS.API.CONSUMER.INFO.AUDIO.transcriber-{stream}" for stream in ("radio-7", "parliament")),
        *(subject for name in LISTED for subject in listing(name)),
    },
    "ADMIN": ADMIN,
    "AUDITOR": {
        *(f"$JS.API.STREAM.{call}.AUDIT" for call in ("INFO", "MSG.GET")),
        *listing("AUDIT"),
    },
    "CONFIGURATOR": {CONFIG_KEY, *CONFIG_READ, "transcriber.audit.configured", "transcriber.admin"},
    "METRICS_READER": set(),
}
"""Of ``SUBJECTS``, those a user may publish to; all others are denied."""

TRANSCRIPTS = {
    "transcripts.radio-7.final",
    "transcripts.radio-7.end",
    "transcripts.parliament.final",
    "transcripts.job=1.final",
    "transcripts.radio-7",
}
PROGRESS = "transcripts.job=1.progress"
METRICS = {"transcriber.metrics.pod-1", "transcriber.metrics.pod-1.more"}

SERVICE = {"$SRV.PING", "$SRV.INFO.transcriber", "$SRV.>", "transcriber.streams", "transcriber.admin.*"} | ADMIN
"""What the library that answers requests needs, whose requests come to a queue group only; and what every daemon answers."""

QUEUES = {
    **{
        name: {("transcriber.transcribe", "q")}
        for name in ("DAEMON_RADIO_7", "DAEMON_ALL", "DURABLE_RADIO_7", "DURABLE_ALL")
    },
    "DAEMON_FILES": {(f"transcriber.{verb}", "q") for verb in ("transcribe", "submit", "submit.urgent", "cancel")},
}
"""Subjects and groups in which a user may be one of many who answer."""

SUBSCRIBE = {
    "PUBLISHER_RADIO_7": {"_INBOX_publisher-radio-7.1"},
    "READER": {"_INBOX_reader.1", "transcripts.*.*", "transcripts.*.progress", "transcripts.>", PROGRESS} | TRANSCRIPTS,
    "ASKER": {"_INBOX_asker.1"},
    "DAEMON_RADIO_7": {"_INBOX_daemon-radio-7.1", "audio.radio-7"} | SERVICE,
    # nats-server takes the > for one token and grants it; nobody may publish on the deeper subjects it opens.
    "DAEMON_ALL": {"_INBOX_daemon-all.1", "audio.*", "audio.radio-7", "audio.parliament", "audio.none", "audio.>"}
    | SERVICE,
    "DURABLE_RADIO_7": {"_INBOX_durable-radio-7.1"} | SERVICE,
    "DURABLE_ALL": {"_INBOX_durable-all.1"} | SERVICE,
    "DAEMON_FILES": {"_INBOX_daemon-files.1", "audio.none"} | SERVICE,
    "SUBMITTER": {"_INBOX_submitter.1", "transcripts.*.progress", PROGRESS},
    "PROVISIONER": {"_INBOX_provisioner.1"},
    # As above, of >.
    "GATEWAY": {"_INBOX_gateway.1", "transcripts.*.*", "transcripts.*.progress", PROGRESS}
    | (TRANSCRIPTS - {"transcripts.radio-7"})
    | {"transcriber.metrics.*", "transcriber.metrics.>", "transcriber.metrics.pod-1", "transcriber.streams.*", FIGURES},
    "PURGER": {"_INBOX_purger.1"},
    "ADMIN": {"_INBOX_admin.1"},
    "AUDITOR": {"_INBOX_auditor.1", "transcriber.audit.*", "transcriber.audit.>", *AUDIT},
    "CONFIGURATOR": {"_INBOX_configurator.1"},
    "METRICS_READER": {
        "_INBOX_metrics-reader.1",
        "transcriber.metrics.*",
        "transcriber.metrics.>",
        "transcriber.streams.*",
        FIGURES,
    }
    | METRICS,
}
"""Of ``SUBJECTS`` and ``PATTERNS``, those a user may subscribe to; all others are denied."""

JETSTREAM = {
    *(
        f"$JS.API.STREAM.{call}.{name}"
        for call in ("INFO", "CREATE", "UPDATE", "DELETE", "PURGE", "MSG.GET", "MSG.DELETE")
        for name in ("AUDIO", "TRANSCRIPTS", *FILES, "AUDIT", "KV_TRANSCRIBER_CONFIG", "OTHERS")
    ),
    *(subject for name in (*LISTED, "AUDIT", "OTHERS") for subject in listing(name)),
    *(
        f"$JS.API.CONSUMER.{call}.{name}.transcriber-{stream}"
        for call in ("INFO", "DELETE", "MSG.NEXT", "RESET", "UNPIN", "PAUSE")
        for name in ("AUDIO", "TRANSCRIPTS")
        for stream in ("radio-7", "parliament")
    ),
    "$JS.API.CONSUMER.CREATE.AUDIO.transcriber-radio-7.audio.radio-7",
    "$JS.API.CONSUMER.CREATE.TRANSCRIPTS.reader.transcripts.>",
    *(f"$JS.API.DIRECT.GET.{name}" for name in ("AUDIO", "TRANSCRIPTS", *FILES, "KV_TRANSCRIBER_CONFIG")),
    CONFIG_KEY,
    *(
        f"$JS.API.CONSUMER.{call}.JOBS.{name}"
        for call in ("INFO", "DELETE", "MSG.NEXT", "PAUSE")
        for name in JOB_CONSUMERS
    ),
    *(f"$JS.API.CONSUMER.CREATE.JOBS.{name}.{subject}" for name, subject in JOB_CONSUMERS.items()),
    *(f"$JS.ACK.JOBS.{name}.1.1.1.1.1" for name in JOB_CONSUMERS),
    *(f"$O.{bucket}.{part}" for bucket in ("AUDIO_FILES", "TRANSCRIPTS", "OTHERS") for part in ("C.1", "M.eA==")),
    "$JS.API.INFO",
    "$JS.API.STREAM.LIST",
    "$SRV.INFO.transcriber",
    "$JS.ACK.AUDIO.transcriber-radio-7.1.1.1.1.1",
    "$JS.ACK.AUDIO.transcriber-parliament.1.1.1.1.1",
    "$JS.ACK.TRANSCRIPTS.reader.1.1.1.1.1",
}

SUBJECTS = {
    "audio.radio-7",
    "audio.parliament",
    "audio.none",
    "audio.radio-7.more",
    *TRANSCRIPTS,
    *METRICS,
    *AUDIT,
    "transcriber.streams",
    FIGURES,
    *ADMIN,
    PROGRESS,
    *(f"transcriber.{name}" for name in ("transcribe", "submit", "submit.urgent", "cancel")),
    *(f"transcriber.{name}.job=1" for name in ("jobs", "jobs.urgent", "records")),
    "_INBOX.1",
    "_INBOX_asker.1",
    "_INBOX_daemon-files.1",
    "_INBOX_submitter.1",
    "_INBOX_gateway.1",
    "_INBOX_publisher-radio-7.1",
    "_INBOX_reader.1",
    "_INBOX_daemon-radio-7.1",
    "_INBOX_daemon-all.1",
    "_INBOX_durable-radio-7.1",
    "_INBOX_durable-all.1",
    "_INBOX_provisioner.1",
    "_INBOX_metrics-reader.1",
    "_INBOX_purger.1",
    "_INBOX_auditor.1",
    "_INBOX_configurator.1",
    "_INBOX_admin.1",
    *JETSTREAM,
    "$SRV.PING",
    "$SYS.REQ.SERVER.PING",
    "news",
}
PATTERNS = {">", "$O.>", "*.*", "audio.*", "audio.>", "*.radio-7", "transcripts.*.*", "transcripts.*.progress", "transcripts.>",
            "transcriber.metrics.*", "transcriber.metrics.>", "transcriber.streams.*", "transcriber.audit.*", "transcriber.audit.>", "transcriber.admin.*", "transcriber.>", "_INBOX.>", "$JS.>", "$SRV.>", "$SYS.>"}  # fmt: skip


def new_seed():
    return nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    """A new key pair for each user: the file with its seed; the public half is in the environment, for the broker."""
    folder = tmp_path_factory.mktemp("seeds")
    with pytest.MonkeyPatch.context() as environment:
        for user in PUBLISH:
            seed = new_seed()
            (folder / user).write_bytes(seed)
            environment.setenv(user, nkeys.from_seed(bytearray(seed)).public_key.decode())
        yield folder


@pytest.fixture(scope="module")
def guarded(seeds, tmp_path_factory):
    """The broker with the configuration as it lies in the repository."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("NATS_STORE_DIR", str(tmp_path_factory.mktemp("store")))
        with EmbeddedBroker("--config", str(CONFIG)) as broker:
            yield broker


def inbox_of(name):
    return f"_INBOX_{name.lower().replace('_', '-')}"


class User:
    """A connected user, and what the broker denied it: ``publish`` or ``subscription``, and the subject."""

    def __init__(self, broker, seeds, name):
        self._broker, self._seed, self._inbox = broker, str(seeds / name), inbox_of(name)
        self.denied = set()

    async def __aenter__(self):
        self.client = await nats.connect(
            self._broker.url, nkeys_seed=self._seed, inbox_prefix=self._inbox, error_cb=self._on_error
        )
        return self

    async def __aexit__(self, *_):
        await self.client.close()

    async def _on_error(self, error):
        self.denied.update(re.findall(r'permissions violation for (publish|subscription) to "([^"]+)"', str(error)))

    async def denied_of(self, kind, subjects):
        """Those of ``subjects`` that were denied; the client gives the broker's answers in small letters."""
        await settled(self.client)
        return {subject for subject in subjects if (kind, subject.lower()) in self.denied}


def test_tables_name_every_user_of_the_configuration():
    assert set(re.findall(r"nkey: \$(\w+)", CONFIG.read_text())) == set(PUBLISH) == set(SUBSCRIBE)


@pytest.mark.parametrize("name", PUBLISH)
async def test_user_publishes_what_is_listed_and_nothing_else(guarded, seeds, name):
    async with User(guarded, seeds, name) as user:
        for subject in SUBJECTS:
            await user.client.publish(subject, b"")

        denied = await user.denied_of("publish", SUBJECTS)

    assert SUBJECTS - denied == PUBLISH[name]


@pytest.mark.parametrize("name", SUBSCRIBE)
async def test_user_subscribes_to_what_is_listed_and_nothing_else(guarded, seeds, name):
    async with User(guarded, seeds, name) as user:
        for subject in SUBJECTS | PATTERNS:
            await user.client.subscribe(subject)

        denied = await user.denied_of("subscription", SUBJECTS | PATTERNS)

    assert (SUBJECTS | PATTERNS) - denied == SUBSCRIBE[name]


@pytest.mark.parametrize("name", PUBLISH)
async def test_user_is_one_of_the_groups_that_are_listed_and_of_no_other(guarded, seeds, name):
    verbs = "transcribe", "submit", "submit.urgent", "cancel"
    groups = {(f"transcriber.{verb}", group) for verb in verbs for group in ("q", "mine")}
    granted = set()
    for subject, group in groups:
        async with User(guarded, seeds, name) as user:
            await user.client.subscribe(subject, queue=group)
            if not await user.denied_of("subscription", {subject}):
                granted.add((subject, group))

    assert granted == QUEUES.get(name, set())


@pytest.mark.parametrize("seed", [None, new_seed()], ids=["nobody", "a stranger's key"])
async def test_client_that_is_no_user_is_refused(guarded, tmp_path, seed):
    options = {}
    if seed:
        (tmp_path / "seed").write_bytes(seed)
        options["nkeys_seed"] = str(tmp_path / "seed")

    error = await refusal(guarded, **options)

    assert "Authorization Violation" in str(error)


async def refusal(broker, **options):
    """The error with which a client is turned away, or None. The module's connect would leave its socket behind."""
    client = Client()
    try:
        await client.connect(broker.url, allow_reconnect=False, **options)
    except (OSError, nats.errors.Error) as error:
        return error
    finally:
        await client.close()


@pytest.mark.parametrize(
    ("name", "subject"), [("DAEMON_RADIO_7", "audio.radio-7"), ("DAEMON_ALL", "audio.*")], ids=["one stream", "all"]
)
async def test_rights_suffice_for_audio_text_and_metrics(guarded, seeds, tmp_path, name, subject):
    texts: list[bytes] = []
    metrics: list[bytes] = []
    daemon = Daemon(guarded.url, tmp_path, AUDIO_SUBJECT=subject, NATS_NKEY_SEED_FILE=seeds / name)
    async with (
        daemon,
        User(guarded, seeds, "PUBLISHER_RADIO_7") as microphone,
        User(guarded, seeds, "READER") as reader,
        User(guarded, seeds, "METRICS_READER") as dashboard,
    ):
        captions = await reader.client.subscribe("transcripts.radio-7.*", cb=keep(texts))
        figures = await dashboard.client.subscribe("transcriber.metrics.*", cb=keep(metrics))
        await settled(reader.client)
        await settled(dashboard.client)

        await speak(microphone.client, "radio-7", level(321, 48_000), end=1)
        await until(lambda: texts and metrics and isinstance(ANY_MESSAGE.validate_json(texts[-1]), End), "the end")

        await captions.unsubscribe()
        await figures.unsubscribe()
    assert [m.text for m in map(ANY_MESSAGE.validate_json, texts) if isinstance(m, Final)] == ["321"]
    assert "violation" not in daemon.log()


@pytest.fixture
def as_user(guarded, seeds):
    """Settings of a user of the configuration."""

    def settings(name, **given):
        return load_settings(
            nats_url=guarded.url, nats_nkey_seed_file=seeds / name, nats_inbox_prefix=inbox_of(name), **given
        )

    return settings


async def provisioned(settings, *streams):
    said: list[str] = []
    assert await provision(settings, streams, check=False, say=said.append)
    return said


async def test_provisioner_makes_changes_and_checks_and_the_microphone_learns_that_its_audio_is_stored(
    guarded, seeds, as_user
):
    made = await provisioned(as_user("PROVISIONER"), "radio-7", "parliament")
    changed = await provisioned(as_user("PROVISIONER", audio_max_age_secs=60), "radio-7")
    await provisioned(as_user("PROVISIONER"), "radio-7")

    async with User(guarded, seeds, "PUBLISHER_RADIO_7") as microphone:
        stored = await microphone.client.jetstream().publish("audio.radio-7", b"1")

    assert [line.split()[1] for line in made] == [
        "AUDIO",
        "TRANSCRIPTS",
        "transcriber-radio-7",
        "transcriber-parliament",
    ]
    assert changed[0] == "stream AUDIO updated\n"
    assert stored.stream == "AUDIO"
    assert not microphone.denied


async def test_daemon_of_a_stream_looks_after_its_own_alone(guarded, seeds, as_user):
    await provisioned(as_user("PROVISIONER"), "radio-7")
    async with connected(as_user("DURABLE_RADIO_7"), "test") as connection:
        await check_streams(connection, as_user("DURABLE_RADIO_7"))
        await check_consumer(connection, as_user("DURABLE_RADIO_7"), "radio-7")
        with pytest.raises(BrokerError, match=r"publish to \$JS\.API\.CONSUMER\.INFO\.AUDIO\.transcriber-parliament"):
            await check_consumer(connection, as_user("DURABLE_RADIO_7"), "parliament")


@pytest.mark.parametrize("user", ["DURABLE_RADIO_7", "DURABLE_ALL"])
async def test_durable_daemon_lives_dies_and_is_followed_with_no_more_than_it_may(
    guarded, seeds, as_user, tmp_path, user
):
    await provisioned(as_user("PROVISIONER"), "radio-7")
    texts: list[bytes] = []
    env = {
        "DURABLE": 1,
        "AUDIO_SUBJECT": "audio.radio-7" if user == "DURABLE_RADIO_7" else "audio.*",
        "NATS_NKEY_SEED_FILE": seeds / user,
        "NATS_INBOX_PREFIX": inbox_of(user),
        "BUFFER_DURATION_SECS": 0.5,
        "HEARTBEAT_TIMEOUT_SECS": 60,  # between its daemons the stream stops for as long as a start takes
    }
    async with (
        User(guarded, seeds, "PUBLISHER_RADIO_7") as microphone,
        User(guarded, seeds, "READER") as reader,
    ):
        captions = await reader.client.subscribe("transcripts.radio-7.final", cb=keep(texts))
        ends = await reader.client.subscribe("transcripts.radio-7.end", cb=keep(texts))
        await settled(reader.client)
        async with Daemon(guarded.url, tmp_path, **env) as first:
            await speak(microphone.client, "radio-7", level(321, 36_000))
            await until(lambda: texts, "the first text")
            await first.stop(signal.SIGKILL)
        async with Daemon(guarded.url, tmp_path, **env) as second:
            await speak(microphone.client, "radio-7", level(321, 12_000), end=1)
            await until(lambda: isinstance(ANY_MESSAGE.validate_json(texts[-1]), End), "the end")
            status, _ = await second.stop()
        await captions.unsubscribe()
        await ends.unsubscribe()

    finals = [m for m in map(ANY_MESSAGE.validate_json, texts) if isinstance(m, Final)]
    assert [(m.text, m.start_frame, m.frames) for m in finals] == [("321", 0, 24_000), ("321", 24_000, 24_000)]
    assert status == 0
    assert "violation" not in first.log() + second.log()


@pytest.mark.parametrize("name", ["DAEMON_RADIO_7", "DAEMON_ALL", "DURABLE_ALL", "DAEMON_FILES"])
async def test_daemon_answers_requests_of_who_may_ask(guarded, seeds, as_user, tmp_path, name):
    subject = "audio.none" if name == "DAEMON_FILES" else "audio.radio-7"
    env = {"AUDIO_SUBJECT": subject, "NATS_NKEY_SEED_FILE": seeds / name, "NATS_INBOX_PREFIX": inbox_of(name)}
    if name == "DURABLE_ALL":
        await provisioned(as_user("PROVISIONER"), "radio-7")
        env["DURABLE"] = 1
    async with (
        Daemon(guarded.url, tmp_path, **env) as daemon,
        User(guarded, seeds, "ASKER") as asker,
    ):
        said = text(await ask(asker.client, clip(321)))

    assert said == "321"
    assert not asker.denied
    assert not re.search("violation|denies", daemon.log())


async def test_file_goes_its_way_with_no_more_than_each_may(guarded, as_user, caplog):
    made = await provisioned(as_user("PROVISIONER", files=True))
    assert [line.split()[1] for line in made] == ["TRANSCRIPTS", *FILES, *JOB_CONSUMERS]
    daemon, submitter = as_user("DAEMON_FILES", files=True), as_user("SUBMITTER")

    async with connected(daemon, "daemon") as theirs, connected(submitter, "submitter") as ours:
        await check_files(theirs, daemon)
        inputs, results = Bucket(JetStream(theirs), FILES_BUCKET), Bucket(JetStream(ours), RESULTS_BUCKET)
        desk = JobStore(JetStream(theirs), daemon)
        feed = WorkQueue(theirs, desk)
        await feed.start()

        info = await Bucket(JetStream(ours), FILES_BUCKET).put("a.wav", pieces(bytes(300_000)))
        answer = await desk.submit(Submission(object="a.wav"))
        taken = await feed.next_job()
        kept = await desk.record(answer.job)
        assert kept is not None
        reader = ObjectReader(inputs, info)
        assert await reader.read_at(200_000, 10) == bytes(10)
        await reader.close()
        await Bucket(JetStream(theirs), RESULTS_BUCKET).put(f"{answer.job}.txt", pieces(b"text"))
        await desk.update(kept, state="done")
        await inputs.delete("a.wav")
        await taken.done()

        listed = await JobStore(JetStream(ours), submitter).records()
        assert [(k.record.submission.job, k.record.state) for k in listed] == [(answer.job, "done")]
        result = await results.info(f"{answer.job}.txt")
        assert result is not None
        assert await ObjectReader(results, result).read_at(0, 9) == b"text"
        await ours.flush(1)
        await theirs.flush(1)
        assert theirs._denied | ours._denied == set()
    assert "denies" not in caplog.text


async def test_daemon_of_files_has_one_done_with_no_more_than_it_may(guarded, seeds, as_user, tmp_path):
    await provisioned(as_user("PROVISIONER", files=True, audit=True))
    submitter = as_user("SUBMITTER")
    env = {"AUDIT": 1, "NATS_NKEY_SEED_FILE": seeds / "DAEMON_FILES", "NATS_INBOX_PREFIX": inbox_of("DAEMON_FILES")}
    async with (
        Daemon(guarded.url, tmp_path, FILES=1, AUDIO_SUBJECT="audio.none", **env) as daemon,
        connected(submitter, "submitter") as ours,
    ):
        heard: list[bytes] = []
        progress = await ours.client.subscribe("transcripts.*.progress", cb=keep(heard))
        desk = JobStore(JetStream(ours), submitter)
        await Bucket(JetStream(ours), FILES_BUCKET).put("b.wav", pieces(clip(321, 2)))
        answer = await ours.client.request("transcriber.submit", b'{"object": "b.wav"}', timeout=PATIENCE_S)
        job = Answer.model_validate_json(answer.data).job
        async with asyncio.timeout(PATIENCE_S):
            while not ((kept := await desk.record(job)) and kept.record.over):  # noqa: ASYNC110 - no event says so
                await asyncio.sleep(0.05)
        again = await ours.client.request("transcriber.cancel", json.dumps({"job": job}).encode(), timeout=PATIENCE_S)

        assert kept.record.state == Answer.model_validate_json(again.data).state == "done"
        results = Bucket(JetStream(ours), RESULTS_BUCKET)
        result = await results.info(f"{job}.txt")
        assert result is not None
        assert await ObjectReader(results, result).read_at(0, 99) == b"321\n"
        assert await Bucket(JetStream(ours), FILES_BUCKET).info("b.wav") is None
        await until(lambda: heard, "progress")
        await progress.unsubscribe()
        assert ours._denied == set()
        options: dict[str, Any] = {"instance": None, "every": False, "unload_first": False, "by": "ada"}
        assert await swap_model(as_user("ADMIN"), "other", **options) == 0
        async with User(guarded, seeds, "AUDITOR") as auditor:
            entry = json.loads(
                (await auditor.client.jetstream().get_last_msg("AUDIT", "transcriber.audit.swapped")).data
            )
        assert (entry["what"], entry["by"], entry["phase"], entry["known_by"]) == ("other", "ada", "done", "stated")
        with pytest.raises(BrokerError, match=r"denies this user to publish to transcriber\.admin"):
            await swap_model(submitter, "third", **options)
        status, _ = await daemon.stop()
    assert status == 0
    assert not re.search("violation|denies", daemon.log())


@pytest.fixture
async def gateway(guarded, seeds, as_user, tmp_path):
    """A client of a gateway with its rights, beside daemons of durable streams and of files with theirs."""
    await provisioned(as_user("PROVISIONER", files=True), "radio-7")

    def access(name):
        return {"NATS_NKEY_SEED_FILE": seeds / name, "NATS_INBOX_PREFIX": inbox_of(name)}

    for folder in (streams := tmp_path / "streams", files := tmp_path / "files"):
        folder.mkdir()
    durable = {"DURABLE": 1, "BUFFER_DURATION_SECS": 0.5, "SERVICE": 0, **access("DURABLE_ALL")}
    of_files = {"FILES": 1, "AUDIO_SUBJECT": "audio.none", **access("DAEMON_FILES")}
    async with Daemon(guarded.url, streams, **durable), Daemon(guarded.url, files, **of_files):
        with GatewayProcess(guarded.url, **access("GATEWAY")) as running:
            yield running


async def test_gateway_serves_uploads_jobs_and_streams_with_no_more_than_it_may(gateway):
    upload, audio = "/v1/audio/transcriptions", f"{gateway.websocket_url}/v1/streams/radio-7/audio"
    query = "?session=take-1&content_type=audio/x-raw;format=S16LE;rate=48000;channels=1"
    form: dict[str, Any] = {"model": "whisper-1", "response_format": "text"}
    async with httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE_S) as client:
        asked = await client.post(upload, data=form, files={"file": clip(321)})
        job = await client.post(upload, data=form, files={"file": clip(321, 40)})
        broken = await client.post(upload, data=form | {"language": "xx"}, files={"file": clip(321, 40)})
        jobs = (await client.get("/v1/jobs")).json()["jobs"]
        (record,) = [one for one in jobs if one["submission"]["by"] == "gateway:"]  # other tests have other jobs
        result = await client.get(f"/v1/jobs/{record['submission']['job']}/transcript.txt")
        cancelled = await client.delete(f"/v1/jobs/{record['submission']['job']}")
        async with connect(audio + query) as socket:
            await socket.recv()
            await socket.send(level(321, 36_000))
            while json.loads(await socket.recv()).get("frames") != 36_000:
                pass
            streams: list[Any] = []
            async with asyncio.timeout(PATIENCE_S):
                while not streams:  # until the daemon has found the stream
                    streams = (await client.get("/v1/streams")).json()["streams"]
        async with connect(audio + query) as socket:
            resumed = json.loads(await socket.recv())
            await socket.send(level(321, 12_000))
            await socket.send('{"type": "end"}')
        async with connect(f"{gateway.websocket_url}/v1/streams/radio-7/transcript?from=1") as socket:
            heard: list[Any] = []
            while not heard or heard[-1]["type"] != "end":
                heard.append(json.loads(await socket.recv()))
        captions = await client.get("/v1/streams/radio-7/transcript.vtt")
        async with connect(f"{gateway.websocket_url}/v1/realtime?intent=transcription") as socket:
            created = json.loads(await socket.recv())

    assert (asked.text, job.text, result.text) == ("321\n", job.text, job.text)
    assert "321" in job.text
    assert "X-Transcriber-Job" in job.headers
    assert (broken.status_code, record["state"], cancelled.status_code) == (400, "done", 202)
    assert (resumed["resumed"], resumed["position"]) == (True, 36_000)
    assert [one["text"] for one in heard if one["type"] == "final"] == ["321", "321"]
    assert captions.text.count("321") == 2
    assert {one["stream"] for one in streams} == {"radio-7"}
    assert created["type"] == "session.created"
    denied = [line["msg"] for line in gateway.lines if re.search("violation|denies", line["msg"])]
    assert denied == []


async def pieces(data):
    yield data


async def test_a_stream_and_a_job_are_purged_with_no_more_than_it_takes_and_the_auditor_reads_of_it(
    guarded, seeds, as_user, capsys
):
    await provisioned(as_user("PROVISIONER", files=True, audit=True), "radio-7")
    daemon = as_user("DAEMON_FILES", files=True)
    async with (
        connected(daemon, "daemon") as theirs,
        User(guarded, seeds, "PUBLISHER_RADIO_7") as microphone,
        User(guarded, seeds, "AUDITOR") as auditor,
    ):
        await microphone.client.jetstream().publish("audio.radio-7", b"12")
        await JetStream(theirs).store("transcripts.radio-7.final", b"{}", {})
        async with connected(as_user("SUBMITTER"), "submitter") as ours:
            await Bucket(JetStream(ours), FILES_BUCKET).put("c.wav", pieces(b"audio"))
        desk = JobStore(JetStream(theirs), daemon)
        job = (await desk.submit(Submission(object="c.wav"))).job
        await Bucket(JetStream(theirs), RESULTS_BUCKET).put(f"{job}.txt", pieces(b"text"))

        for target in ("radio-7", job):
            assert await purge(as_user("PURGER", audit=True), parse_target(target), Options(yes=True, by="ada")) == 0

        assert (await desk.record(job), await Bucket(JetStream(theirs), FILES_BUCKET).info("c.wav")) == (None, None)
        entries = auditor.client.jetstream()
        last = (await entries.stream_info("AUDIT")).state.last_seq
        found = [json.loads((await entries.get_msg("AUDIT", seq)).data) for seq in range(last - 3, last + 1)]
    assert [(one["stream"], one["job"], one["phase"]) for one in found] == [
        ("radio-7", None, "begun"),
        ("radio-7", None, "done"),
        (None, job, "begun"),
        (None, job, "done"),
    ]
    assert not auditor.denied
    assert re.search(r"job=\w+: \d+ messages, \d+ bytes removed", capsys.readouterr().out)


async def test_daemons_of_all_streams_find_the_streams_and_make_consumers(guarded, seeds, as_user):
    await provisioned(as_user("PROVISIONER"))
    settings = as_user("DURABLE_ALL", durable=True)
    async with connected(settings, "test") as connection:
        await ensure_streams(connection, settings)
        await ensure_consumer(connection, settings, "news")
        await check_consumer(connection, settings, "news")


def keep(payloads):
    async def callback(message):
        payloads.append(message.data)

    return callback


@pytest.fixture
def certificates(tmp_path, monkeypatch):
    """A CA and the broker's certificate, named in the environment as the configuration wants them."""
    ca = trustme.CA()
    certificate = ca.issue_cert("127.0.0.1")
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    certificate.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    certificate.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    monkeypatch.setenv("NATS_STORE_DIR", str(tmp_path / "store"))
    monkeypatch.setenv("NATS_SERVER_CA", str(tmp_path / "ca.pem"))
    monkeypatch.setenv("NATS_SERVER_CERT", str(tmp_path / "cert.pem"))
    monkeypatch.setenv("NATS_SERVER_KEY", str(tmp_path / "key.pem"))
    return ca


def uncommented(config):
    """With the parts that are commented out."""
    return re.sub(r"(?m)^#(?! \S)", "", config)


def test_the_part_of_three_brokers_is_one_that_the_broker_takes(certificates, seeds, tmp_path, monkeypatch):
    monkeypatch.setenv("POD_NAME", "nats-0")
    (tmp_path / "nats.conf").write_text(uncommented(CONFIG.read_text()))

    server = shutil.which("nats-server", path=sysconfig.get_path("scripts"))
    assert server
    command = [server, "-t", "--config", str(tmp_path / "nats.conf")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)

    assert done.returncode == 0, done.stderr


@pytest.fixture
def encrypted(certificates, seeds, tmp_path):
    """The broker with the parts that are commented out, TLS and WebSocket, put in; the latter on a free port."""
    alone = re.sub(r"(?ms)^#server_name.*?^#}\n", "", CONFIG.read_text())
    (tmp_path / "nats.conf").write_text(uncommented(alone).replace("port: 8443", "port: -1"))
    with EmbeddedBroker("--config", str(tmp_path / "nats.conf")) as broker:
        yield broker


async def test_tls_part_takes_clients_with_a_certificate(encrypted, certificates, seeds):
    context = ssl.create_default_context()
    certificates.configure_trust(context)
    certificates.issue_cert("daemon.example").configure_cert(context)

    client = await nats.connect(encrypted.url, tls=context, nkeys_seed=str(seeds / "READER"))

    assert client.is_connected
    await client.close()


async def test_tls_part_refuses_clients_without_a_certificate(encrypted, certificates, seeds):
    context = ssl.create_default_context()
    certificates.configure_trust(context)

    error = await refusal(encrypted, tls=context, nkeys_seed=str(seeds / "READER"))

    # TLS 1.3 reports it to the client after the handshake: the error is of whichever step finds the connection gone.
    assert error is not None
