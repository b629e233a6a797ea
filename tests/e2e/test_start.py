"""Whatever is wrong fails before "ready", with one clear line and the right status."""

import json
import socket
import ssl
import subprocess
import sys
from importlib.metadata import version

import nats
import pytest
from hypothesis import given, strategies as st

from tests.support.audio import level, speak
from tests.support.credentials import certificates, credentials, new_nkey, operator_mode
from tests.support.daemon import Daemon, run, run_and_log
from tests.support.ports import free_port
from tests.support.small_disk import small_disk
from tests.support.transcripts import TranscriptListener
from transcriber.build_info import version_line
from transcriber.bus.jetstream.file_streams import file_streams
from transcriber.bus.jetstream.provision import DISK_SHARE, fitted_to_disk, stream_configs
from transcriber.config import Settings
from transcriber.errors import ConfigError
from transcriber.models.catalog import DEMO_MODEL
from transcriber.testing.broker import EmbeddedBroker

WINDOW = 24_000


@pytest.fixture(scope="module", autouse=True)
def broker_of_all():
    """The default for tests that set no broker: errors after the connection are found behind it."""
    with EmbeddedBroker() as broker, pytest.MonkeyPatch.context() as patch:
        patch.setenv("NATS_URL", broker.url)
        yield


@pytest.mark.parametrize(
    ("variable", "value", "allowed"),
    [
        ("BUFFER_DURATION_SECS", "abc", "valid number"),
        ("BUFFER_DURATION_SECS", "0.1", "greater than or equal to 0.5"),
        ("BUFFER_DURATION_SECS", "nan", "less than or equal to 30"),
        ("MAX_LATENCY_SECS", "0", "greater than 0"),
        ("TRANSCRIPTION_QUEUE_CAPACITY", "0", "greater than or equal to 1"),
        ("TARGET_SAMPLE_RATE", "8000", "16000"),
        ("INPUT_FORMAT", "MP3", "'S16LE', 'S24LE', 'S32LE', 'F32LE', 'U8', 'MULAW' or 'ALAW'"),
        ("INPUT_SAMPLE_RATE", "1000", "greater than or equal to 8000"),
        ("AUDIO_SUBJECT", "audio.>", "last token must be * or a stream name"),
        ("AUDIO_SUBJECT", "audio.*.x", "literal prefix"),
        ("AUDIO_SUBJECT", "*", "literal prefix"),
        ("TRANSCRIPT_SUBJECT_PREFIX", "a b", "literal subject"),
        ("NATS_URL", "http://x", "nats://host:port"),
        ("NATS_URL", "nats://u:secret@:99999", "nats://host:port"),
        ("WHISPER_AUDIO_CTX", "320", "multiple of 256"),
        ("WHISPER_AUDIO_CTX", "many", "multiple of 256"),
        ("WHISPER_DEVICE", "cuda:x", "must be auto, cpu, cuda or cuda:N"),
        ("WHISPER_LANGUAGE", "Englisch", "the English name of a language"),
        ("WHISPER_LANGUAGES", "en,xx", "codes such as en,de, or English names of languages; Whisper has no 'xx'"),
        ("WHISPER_WORKERS", "0", "greater than or equal to 1"),
        ("LOG_FORMAT", "xml", "'auto', 'text' or 'json'"),
        ("METRICS_PER_STREAM", "maybe", "valid boolean"),
        ("NATS_INBOX_PREFIX", "_INBOX.>", "literal subject"),
        ("AUDIO_STREAM", "audio.1", "must be a name"),
        ("AUDIO_MAX_AGE_SECS", "0", "greater than or equal to 1"),
        ("TRANSCRIPT_MAX_BYTES", "1000", "greater than or equal to 1048576"),
        ("STREAM_REPLICAS", "2", "1, 3 or 5"),
        ("PARTITIONS", "-1", "greater than or equal to 0"),
        ("MAX_ATTEMPTS", "101", "less than or equal to 100"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_it_and_status_2(variable, value, allowed):
    status, said = run("serve", **{variable: value})

    assert status == 2
    assert len(said.splitlines()) == 1
    assert said.startswith(f"transcriber: {variable}=")
    assert allowed in said
    assert "secret" not in said


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"DURABLE": 1, "BACKFILL": 1}, "DURABLE and BACKFILL exclude each other"),
        ({"DURABLE": 1, "WHISPER_BEAM_SIZE": 2}, "WHISPER_BEAM_SIZE=2 and DURABLE exclude each other"),
        (
            {"WHISPER_PROCESSES": 3, "WHISPER_WORKERS": 2},
            "WHISPER_PROCESSES=3 and WHISPER_WORKERS=2 contradict each other",
        ),
        ({"WHISPER_PROCESSES": "two"}, "WHISPER_PROCESSES='two': must be auto, or a number from 0 to 64"),
        ({"FILES": 1, "WHISPER_BEAM_SIZE": 5}, "WHISPER_BEAM_SIZE=5 and FILES exclude each other"),
        ({"WHISPER_BEAM_SIZE": 9}, "WHISPER_BEAM_SIZE='9'"),
        ({"AUDIO_STREAM": "ONE", "TRANSCRIPT_STREAM": "ONE"}, "AUDIO_STREAM and TRANSCRIPT_STREAM are both 'ONE'"),
        ({"AUDIO_SUBJECT": "transcripts.*"}, "AUDIO_SUBJECT='transcripts.*' lies under TRANSCRIPT_SUBJECT_PREFIX"),
        ({"DURABLE": 1, "PARTITION": 0}, "PARTITION=0 must be less than PARTITIONS=0"),
        ({"DURABLE": 1, "PARTITIONS": 4, "PARTITION": 4}, "PARTITION=4 must be less than PARTITIONS=4"),
        ({"PARTITIONS": 4, "PARTITION": 1}, "PARTITION needs DURABLE=1 or BACKFILL=1"),
        (
            {"DURABLE": 1, "PARTITIONS": 4, "PARTITION": 1, "AUDIO_SUBJECT": "audio.radio-7"},
            "PARTITION and AUDIO_SUBJECT='audio.radio-7' exclude each other",
        ),
    ],
)
def test_settings_that_do_not_fit_together_are_one_line_and_status_2(settings, said):
    status, line = run("serve", **settings)

    assert status == 2
    assert line.startswith(f"transcriber: {said}")
    assert len(line.splitlines()) == 1


def test_a_context_at_which_whisper_loses_words_is_refused_unless_it_is_forced(tmp_path):
    other = tmp_path / "ggml-other.bin"
    other.symlink_to(DEMO_MODEL)
    env = {"WHISPER_MODEL_PATH": other, "BUFFER_DURATION_SECS": 2, "WHISPER_LANGUAGE": "de"}

    status, said = run("serve", **env, WHISPER_AUDIO_CTX="256")
    assert status == 2
    assert said.startswith("transcriber: WHISPER_AUDIO_CTX=256: stock Whisper weights repeat themselves")

    for known in ({"WHISPER_AUDIO_CTX": "force:256"}, {"WHISPER_MODEL_PATH": "", "WHISPER_MODEL": "demo"}):
        status, said = run("serve", **{**env, "WHISPER_AUDIO_CTX": "256", **known})
        assert "WHISPER_LANGUAGE='de'" in said  # so the context was taken


def test_a_flag_beats_the_environment_and_fails_alike():
    status, said = run("serve", "--max-latency-secs", "-1", MAX_LATENCY_SECS=20)

    assert status == 2
    assert said == "transcriber: MAX_LATENCY_SECS='-1': input should be greater than 0"


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"NATS_TLS_CERT": "x.pem"}, "NATS_TLS_CERT and NATS_TLS_KEY go together"),
        ({"NATS_CREDS": "a", "NATS_NKEY_SEED_FILE": "b"}, "exclude each other"),
        ({"WHISPER_AUDIO_CTX": "256", "BUFFER_DURATION_SECS": "10"}, "WHISPER_AUDIO_CTX=256 is shorter than"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "smoke", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, "OTEL_EXPORTER_OTLP_PROTOCOL"),
        ({}, "set WHISPER_MODEL_PATH"),
        ({"WHISPER_MODEL": "huge"}, "WHISPER_MODEL='huge'"),
        ({"WHISPER_LANGUAGE": "fr", "WHISPER_LANGUAGES": "en, de"}, "WHISPER_LANGUAGE='fr' is not in WHISPER_LANGUAGES='en,de'"),
        ({"WHISPER_MODEL": "demo", "WHISPER_LANGUAGES": "en,de"}, "WHISPER_LANGUAGES='en,de': the model demo does not know 'de'"),
        ({"WHISPER_MODEL": "demo", "WHISPER_LANGUAGES": "de"}, "WHISPER_LANGUAGES='de': the model demo does not know 'de'"),
        ({"WHISPER_MODEL": "demo", "WHISPER_LANGUAGE": "de"}, "WHISPER_LANGUAGE='de': the model demo does not know 'de'"),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit_together_are_status_2(env, said):
    status, line = run("serve", **env)

    assert status == 2
    assert said in line
    assert len(line.splitlines()) == 1


@pytest.mark.parametrize("arguments", [["fly"], ["serve", "--no-such-flag"], ["publish"], []])
def test_wrong_usage_is_status_2(arguments):
    status, said = run(*arguments)

    assert status == 2
    assert "usage: transcriber" in said


def broken_models(folder):
    whole = DEMO_MODEL.read_bytes()
    for name, content in {
        "truncated": whole[: len(whole) // 2],
        "nearly": whole[:-1],
        "page": b"<html>Sorry</html>",
        "empty": b"",
        "noise": bytes(range(256)) * 4096,
        "header": whole[:48],
    }.items():
        path = folder / f"{name}.bin"
        path.write_bytes(content)
        yield path
    yield folder / "missing.bin"
    yield folder


def test_a_model_that_cannot_be_used_is_one_line_and_status_3(tmp_path):
    for path in broken_models(tmp_path):
        status, said = run("serve", WHISPER_MODEL_PATH=path)

        assert status == 3, path
        assert len(said.splitlines()) == 1
        assert str(path) in said


def test_a_hub_out_of_reach_is_one_line_and_status_3(tmp_path):
    status, said = run("serve", WHISPER_MODEL="small.en", WHISPER_MODEL_DIR=tmp_path, HTTPS_PROXY="http://127.0.0.1:9")

    assert status == 3
    assert "cannot be downloaded" in said
    assert list(tmp_path.iterdir()) == []


def test_a_port_in_use_is_status_3():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, said = run("serve", WHISPER_MODEL="demo", HEALTH_HOST="127.0.0.1", HEALTH_PORT=port)

    assert status == 3
    assert said == f"transcriber: HEALTH_PORT={port} on 127.0.0.1 cannot be opened: Address already in use"


def test_an_unreachable_broker_is_status_3_and_hides_the_password():
    port = free_port()
    status, said = run("serve", WHISPER_MODEL="demo", NATS_URL=f"nats://me:hunter2@127.0.0.1:{port}")

    assert status == 3
    assert (
        said
        == f"transcriber: NATS_URL=nats://***@127.0.0.1:{port}: no NATS server answers within 1 s: nothing listens there"
    )


@pytest.mark.parametrize("silent", [False, True])
def test_where_nobody_answers_is_said_before_a_model_is_looked_for(silent, tmp_path):
    """Otherwise it would be reported only after minutes of loading a model."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        port = deaf.getsockname()[1] if silent else free_port()
        env = {
            "NATS_URL": f"nats://127.0.0.1:{port}",
            "NATS_CONNECT_TIMEOUT_SECS": 4,
            "WHISPER_MODEL_PATH": tmp_path / "none",
        }
        status, said, logged = run_and_log("serve", **env)

    why = "no answer" if silent else "nothing listens there"
    assert status == 3
    assert said == f"transcriber: NATS_URL=nats://127.0.0.1:{port}: no NATS server answers within 4 s: {why}"
    advice = f"no NATS server answers at nats://127.0.0.1:{port}: {why}; NATS_URL says where one is, and it is tried for 3 s more"
    assert [line["msg"] for line in logged if line["level"] == "WARNING"] == [advice]


@pytest.mark.parametrize("arguments", [["models"], ["models", "--json"], ["models", "pull", "demo"], ["schema"]])
def test_what_a_full_disk_has_no_room_for_is_one_line(arguments):
    with open("/dev/full", "wb") as full:  # noqa: PTH123 - a device
        done = subprocess.run(
            [sys.executable, "-m", "transcriber", *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )

    assert (done.returncode, done.stderr) == (1, "transcriber: cannot be written: No space left on device\n")


def test_a_command_whose_stdout_is_closed_does_what_it_can():
    line = f"exec {sys.executable} -m transcriber models pull demo >&-"

    done = subprocess.run(["/bin/sh", "-c", line], stderr=subprocess.PIPE, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")


def small_broker(folder, max_file_store):
    text = f'jetstream {{ store_dir: "{folder}/store", max_file_store: {max_file_store} }}'
    return EmbeddedBroker(*conf(folder, text))


@pytest.mark.parametrize(
    ("env", "room", "setting"),
    [
        ({"FILES": 1}, 2**31, "FILES_MAX_BYTES=8589934592"),
        ({"FILES": 1}, 2**20, "TRANSCRIPT_MAX_BYTES=1073741824"),
        ({"DURABLE": 1}, 2**20, "AUDIO_MAX_BYTES=1073741824"),
        ({"FILES": 1, "TRANSCRIPT_MAX_BYTES": 2**20, "FILES_MAX_BYTES": 2**20}, 2**23, "67108864 bytes"),
    ],
)
def test_the_error_for_a_broker_without_room_names_the_setting(tmp_path, env, room, setting):
    with small_broker(tmp_path, room) as broker:
        status, said = run("serve", WHISPER_MODEL="demo", NATS_URL=broker.url, PROVISION=1, **env)
        provisioned, output = run("provision", *(["--files"] if "FILES" in env else []), NATS_URL=broker.url, **env)

    assert status == provisioned == 3
    assert "transcriber: the broker has no room for the stream " in said
    assert f": {setting} is more than it has left" in said
    assert setting in output


@given(
    free_bytes=st.integers(0, 2**36) | st.integers(470_000_000, 500_000_000),
    durable=st.booleans(),
    given_=st.dictionaries(
        st.sampled_from(["audio_max_bytes", "transcript_max_bytes", "files_max_bytes"]), st.integers(2**20, 2**34)
    ),
)
def test_an_embedded_broker_is_asked_for_no_more_than_is_free(free_bytes, durable, given_):
    settings = Settings(nats_url="nats://x", durable=durable, files=True, **given_)

    least = dict.fromkeys(("audio_max_bytes", "transcript_max_bytes", "files_max_bytes"), 2**20) | given_
    if reserved(settings.model_copy(update=least)) > free_bytes * DISK_SHARE:
        with pytest.raises(ConfigError, match="FILES_MAX_BYTES say how much, TMPDIR says where"):
            fitted_to_disk(settings, free_bytes)
        return
    fit = fitted_to_disk(settings, free_bytes)

    assert reserved(fit) <= free_bytes * DISK_SHARE
    assert {name: getattr(fit, name) for name in given_} == given_
    if reserved(settings) <= free_bytes * DISK_SHARE:
        assert fit == settings


def reserved(settings):
    audio, text = stream_configs(settings)
    configs = [*([audio] if settings.durable else []), text, *file_streams(settings)]
    return sum(config.max_bytes or 0 for config in configs)


async def test_embedded_files_are_served_where_little_is_free(tmp_path):
    """The settings alone would reserve ten times as much."""
    with small_disk(tmp_path, "1g") as disk:
        async with Daemon("", tmp_path, "--embedded", fake=False, FILES=1, TMPDIR=disk) as daemon:
            limits = daemon.last_line("the disk has room for less")
            client = await nats.connect(daemon.last_line("broker embedded")["url"])
            bucket = await client.jetstream().stream_info("OBJ_AUDIO_FILES")
            await client.close()

    assert bucket.config.max_bytes == limits["FILES_MAX_BYTES"]
    assert 2**28 < (bucket.config.max_bytes or 0) < 2**29


def conf(folder, text):
    path = folder / "nats.conf"
    path.write_text(text)
    return "--config", str(path)


def test_wrong_credentials_are_status_3(tmp_path):
    with EmbeddedBroker(*conf(tmp_path, 'authorization { user: u, password: "right" }')) as broker:
        url = broker.url.replace("//", "//u:wrong@")
        status, said = run("serve", WHISPER_MODEL="demo", NATS_URL=url, NATS_CONNECT_TIMEOUT_SECS=30)

    assert status == 3
    assert "authorization violation" in said.lower()
    assert "wrong" not in said


def test_a_denied_subject_is_status_3(tmp_path):
    users = 'authorization { users: [{ user: u, password: p, permissions: { subscribe: ["audio.mine"] } }] }'
    with EmbeddedBroker(*conf(tmp_path, users)) as broker:
        status, said = run("serve", WHISPER_MODEL="demo", NATS_URL=broker.url.replace("//", "//u:p@"))

    assert status == 3
    assert said == "transcriber: the broker denies this user to subscribe to audio.*"


@pytest.mark.parametrize("variable", ["NATS_CREDS", "NATS_NKEY_SEED_FILE", "NATS_TLS_CA"])
@pytest.mark.parametrize("content", [None, "rubbish"])
def test_a_credentials_file_that_cannot_be_used_is_named(tmp_path, variable, content):
    path = tmp_path / "file"
    if content:
        path.write_text(content)

    status, said = run("serve", WHISPER_MODEL="demo", **{variable: path})

    assert status == 2
    assert said.startswith(f"transcriber: {variable}={path}: ")
    assert len(said.splitlines()) == 1


async def transcribes(url, folder, ears_url=None, tls=None, **env):
    """Whether a daemon with these settings takes audio and gives text."""
    async with (
        Daemon(url, folder, BUFFER_DURATION_SECS=0.5, **env),
        TranscriptListener(ears_url or url, **({"tls": tls} if tls else {})) as listener,
    ):
        await speak(listener.client, "s", level(5, WINDOW), end=1)
        await listener.ends(1)
        return listener.text("s") == "5"


async def test_an_nkey_opens_the_door(tmp_path):
    seed, public = new_nkey()
    (tmp_path / "seed").write_text(seed + "\n")
    users = f"authorization {{ users: [{{ nkey: {public} }}, {{ user: t, password: t }}] }}"
    with EmbeddedBroker(*conf(tmp_path, users)) as broker:
        ears_url = broker.url.replace("//", "//t:t@")

        assert await transcribes(broker.url, tmp_path, ears_url, NATS_NKEY_SEED_FILE=tmp_path / "seed")


async def test_a_credentials_file_opens_the_door_of_a_server_in_operator_mode(tmp_path):
    operator, user_jwt, user_seed = operator_mode(tmp_path)
    (tmp_path / "user.creds").write_text(credentials(user_jwt, user_seed))
    with EmbeddedBroker(*conf(tmp_path, operator)) as broker:
        async with Daemon(broker.url, tmp_path, NATS_CREDS=tmp_path / "user.creds") as daemon:
            ready = daemon.probe("/readyz")[0]
        status, said = run("serve", WHISPER_MODEL="demo", NATS_URL=broker.url)

    assert ready == 200
    assert status == 3
    assert "authorization violation" in said.lower()


async def test_a_context_of_the_nats_tool_opens_the_door_for_daemon_and_clients(tmp_path):
    (tmp_path / "nats/context").mkdir(parents=True)
    with EmbeddedBroker(*conf(tmp_path, 'authorization { user: u, password: "right" }')) as broker:
        context = {"url": broker.url, "user": "u", "password": "right", "description": "ours", "creds": "", "nsc": ""}
        (tmp_path / "nats/context/ours.json").write_text(json.dumps(context))
        ours = {"XDG_CONFIG_HOME": str(tmp_path), "NATS_CONTEXT": "ours", "NATS_URL": ""}
        heard = await transcribes("", tmp_path, broker.url.replace("//", "//u:right@"), **ours)
        (tmp_path / "nats/context/ours.json").write_text(json.dumps(context | {"password": "wrong"}))
        refused = run("listen", "s", **ours)

    assert heard
    assert refused == (3, f"transcriber: NATS_CONTEXT=ours, {broker.url}: 'Authorization Violation'")


async def test_an_embedded_broker_is_reached_whatever_is_set_for_another_one(tmp_path):
    certificates(tmp_path)
    others = {"NATS_CONTEXT": "nowhere", "NATS_TLS_CA": tmp_path / "ca.pem", "NATS_CREDS": "/nowhere"}
    async with Daemon("", tmp_path, "--embedded", fake=False, **others) as daemon:
        assert daemon.probe("/readyz")[0] == 200


@pytest.mark.parametrize("mutual", [False, True])
async def test_tls_and_mtls_open_the_door_and_nothing_else_does(tmp_path, mutual):
    server, settings = certificates(tmp_path)
    ours = {"NATS_TLS_CERT": tmp_path / "client.pem", "NATS_TLS_KEY": tmp_path / "client.key"} if mutual else {}
    context = ssl.create_default_context(cafile=str(settings["NATS_TLS_CA"]))
    if mutual:
        context.load_cert_chain(*ours.values())
    with EmbeddedBroker(*conf(tmp_path, f"tls {{ {server}, verify: {str(mutual).lower()} }}")) as broker:
        url = broker.url.replace("nats://", "tls://")
        heard = await transcribes(url, tmp_path, tls=context, **settings, **ours)
        status, said = run("serve", WHISPER_MODEL="demo", NATS_URL=url)
        without_ours = run("serve", WHISPER_MODEL="demo", NATS_URL=url, **settings)[0] if mutual else 3

    assert heard
    assert status == 3
    assert "certificate" in said.lower()
    assert without_ours == 3


def test_the_version_is_that_of_the_package_and_of_its_commit():
    done = subprocess.run(
        [sys.executable, "-m", "transcriber", "--version"], capture_output=True, text=True, check=True
    )

    assert done.stdout == f"transcriber {version_line()}\n"
    assert version_line().split()[0] == version("nats-transcriber")


@pytest.mark.parametrize("event_loop", ["uvloop", "asyncio"])
async def test_daemon_runs_with_uvloop_where_it_is_installed_and_without_it(
    broker, publisher, listener, tmp_path, event_loop
):
    if event_loop == "asyncio":
        (tmp_path / "uvloop.py").write_text("raise ImportError('not installed')")

    async with Daemon(broker.url, tmp_path, fake=False, PYTHONPATH=tmp_path) as daemon:
        await speak(publisher, "radio-7", level(0, 2 * 48_000), end=1)
        (end,) = await listener.ends(1)

        assert daemon.last_line("ready")["event_loop"] == event_loop
        assert end.silent_s == 2.0
        status, _ = await daemon.stop()

    assert status == 0
    assert "Traceback" not in daemon.log()
