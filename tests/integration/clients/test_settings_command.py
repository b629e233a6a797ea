"""``transcriber admin set``, ``unset`` and ``show``, with what answers them in a daemon."""

import asyncio
import contextlib
import json
import logging
from typing import Any

import pytest

from tests.support.live_settings import BUCKET, provision_bucket, put
from transcriber.admin.endpoint import AdminEndpoint
from transcriber.bus.client_session import connected
from transcriber.bus.config_bucket import ConfigBucket
from transcriber.bus.jetstream.client import JetStream
from transcriber.bus.jetstream.provision import provision
from transcriber.cli import main
from transcriber.clients.settings_command import change_setting, show_settings
from transcriber.config import load_settings
from transcriber.errors import ConfigError
from transcriber.live_settings.live import LiveSettings
from transcriber.live_settings.watch import BucketSource, SettingsWatch
from transcriber.logs import RateLimited
from transcriber.schema.admin import MAX_SHOWN, LiveSetting, StatusRequest, Swap
from transcriber.schema.audit import MAX_NAME
from transcriber.testing.broker import EmbeddedBroker


@pytest.fixture
def broker(tmp_path):
    with EmbeddedBroker(store=tmp_path / "store") as running:
        yield running


@contextlib.asynccontextmanager
async def daemon(broker, name, listed=None, begin=None, swap=lambda: None, **settings):
    """The part of a daemon that follows live settings and answers admin requests, with ``listed`` instead of what it has.

    ``begin`` begins a swap of its model, ``swap`` is the latest one.
    """
    base = load_settings(nats_url=broker.url, config_bucket=BUCKET, **settings)
    async with connected(base, name) as connection:
        live = LiveSettings(base, name, lambda language: language in {"en", "de"})
        source = BucketSource(ConfigBucket(JetStream(connection), BUCKET))
        watching = SettingsWatch(source, live, RateLimited(logging.getLogger("test")))

        async def nothing(_):
            pass

        def state():
            found = listed() if listed else live.listed()
            return {"model": "fake", "swap": swap(), "settings": found, "revision": live.layers.revision}

        await AdminEndpoint(connection, name, {StatusRequest: nothing}, state).start()
        await watching.begin()
        following = asyncio.create_task(watching.run(begin))
        try:
            yield live
        finally:
            following.cancel()


def settings_of(broker, **settings):
    return load_settings(nats_url=broker.url, config_bucket=BUCKET, **settings)


async def test_a_setting_is_set_shown_and_unset_and_each_change_is_on_record(broker, publisher, capfd):
    await provision_bucket(broker)
    await provision(load_settings(nats_url=broker.url, audit=True), [], check=False, say=lambda _: None)
    here = settings_of(broker, audit=True)
    async with daemon(broker, "pod-1-7") as one, daemon(broker, "pod-2-7", whisper_languages="en") as other:
        assert await change_setting(here, "stream.radio-=.whisper_prompt", "Texel", by="ada") == 0
        assert {live.stream("radio-7").now.whisper_prompt for live in (one, other)} == {"Texel"}
        assert await change_setting(here, "global.whisper_language", "de", by="bob") == 1
        with pytest.raises(
            ConfigError, match=r"^global.speech_threshold: SPEECH_THRESHOLD='7': input should be less than 1"
        ):
            await change_setting(here, "global.speech_threshold", "7", by="bob")
        assert await show_settings(here) == 0
        assert await change_setting(here, "global.whisper_language", None, by="bob") == 0
        assert (one.stream("s").now.whisper_language, other.refused) == ("auto", 0)

    printed, failed = capfd.readouterr()
    assert "stream.radio-=.whisper_prompt: revision 1\n" in printed
    assert "pod-1-7: global.whisper_language = 'de' (revision 2, by bob)\n" in printed
    assert "pod-1-7: stream.radio-=.whisper_prompt = 'Texel' (revision 1, by ada)\n" in printed
    why = "refused: WHISPER_LANGUAGE='de' is not in WHISPER_LANGUAGES='en'"
    assert f"pod-2-7: global.whisper_language = 'de' (revision 2, by bob): {why}\n" in printed
    assert f"transcriber: pod-2-7: {why}\n" in failed
    entries = [json.loads((await publisher.jetstream().get_msg("AUDIT", seq)).data) for seq in (1, 2, 3)]
    assert [(entry["event"], entry["by"], entry["what"]) for entry in entries] == [
        ("configured", "ada", "stream.radio-=.whisper_prompt"),
        ("configured", "bob", "global.whisper_language"),
        ("configured", "bob", "global.whisper_language"),
    ]


async def test_without_a_bucket_or_a_daemon_that_is_what_it_says(broker, publisher, capfd):
    here = settings_of(broker)
    assert await change_setting(here, "global.log_level", "DEBUG", by="") == 1
    assert await show_settings(here) == 1
    await provision_bucket(broker)
    await put(publisher, "global.log_level", "INFO")
    assert await change_setting(here, "global.log_level", "DEBUG", by="") == 0

    printed, failed = capfd.readouterr()
    assert printed == "global.log_level: revision 2\n"
    assert "global.log_level is not changed: " in failed
    nobody = "no daemon answers on transcriber.admin (ADMIN_REQUESTS=1)"
    assert f"transcriber: {nobody}\n" in failed
    assert failed.endswith(f"global.log_level is stored, and nobody says what becomes of it: {nobody}\n")


async def test_a_model_is_waited_for_and_one_that_cannot_be_loaded_is_said(broker, capfd):
    await provision_bucket(broker)
    looks = []

    def begin(name):
        found = Swap(number=1, model=name, by="WHISPER_MODEL", at="2026-01-01T00:00:00Z", state="loading")
        ended: asyncio.Future[Swap] = asyncio.get_running_loop().create_future()

        def swap():
            looks.append(name)
            if ended.done():
                return ended.result()
            if len(looks) == 3:  # from the next look on
                ended.set_result(found.model_copy(update={"state": "failed", "error": "the file is truncated"}))
            return found

        states.append(swap)
        return ended

    states: list[Any] = []
    async with daemon(broker, "pod-1", begin=begin, swap=lambda: states[0]() if states else None):
        assert await change_setting(settings_of(broker), "global.whisper_model", "two", by="") == 1

    assert len(looks) > 3
    assert "transcriber: pod-1: refused: the file is truncated\n" in capfd.readouterr().err


async def test_what_anybody_wrote_under_a_key_is_shown_cut_and_ends_no_daemon(broker, publisher, capfd):
    await provision_bucket(broker)
    headers = {"Changed-By": "y" * (MAX_NAME + 1)}
    await publisher.jetstream().publish(f"$KV.{BUCKET}.global.whisper_prompt", b"x" * 900, headers=headers)
    async with daemon(broker, "pod-1") as live:
        assert live.stream("s").now.whisper_prompt == "x" * 900
        assert await show_settings(settings_of(broker)) == 0

    assert f"= '{'x' * MAX_SHOWN}' (revision 1, by {'y' * MAX_NAME})\n" in capfd.readouterr().out


async def test_an_answer_that_cannot_be_made_or_is_too_large_says_so(broker, capfd):
    await provision_bucket(broker)
    here = settings_of(broker)
    many = tuple(
        LiveSetting(key="global.whisper_prompt", value="x" * MAX_SHOWN, revision=n, by="y" * MAX_NAME)
        for n in range(1000)
    )
    async with daemon(broker, "pod-1", listed=lambda: many):
        assert await change_setting(here, "global.log_level", "DEBUG", by="") == 1
        assert await show_settings(here) == 0
    left_out = "its 1000 live settings are more than one message of the broker's takes"
    printed, failed = capfd.readouterr()
    assert printed == "global.log_level: revision 1\npod-1: model fake, revision 1\n"
    said = f"transcriber: pod-1: it follows, and does not say what it refuses: {left_out}"
    lines = [line for line in failed.splitlines() if line.startswith("transcriber: ")]
    assert lines == [said, f"transcriber: pod-1: {left_out}"]

    async with daemon(broker, "pod-2", listed=lambda: [LiveSetting(key="k", value="", revision=-1, by="")]):
        assert await change_setting(here, "global.log_level", "INFO", by="") == 1
        assert await show_settings(here) == 1
    printed, failed = capfd.readouterr()
    assert printed == "global.log_level: revision 2\n"
    assert failed.count("pod-2: its state cannot be told: its log says why\n") == 2


@pytest.mark.parametrize(
    ("arguments", "status", "line"),
    [
        (["set", "global.log_level", "DEBUG"], 2, "CONFIG_BUCKET is not set"),
        (["unset", "volume", "--config-bucket", "C", "--as", "ada"], 2, "volume: must be global.SETTING"),
        (["show"], 1, "no daemon answers on transcriber.admin"),
    ],
)
def test_the_command_line(broker, capfd, monkeypatch, arguments, status, line):
    monkeypatch.setattr("transcriber.clients.admin_cli.interrupt_on_sigterm", lambda: None)

    assert main(["admin", *arguments, "--nats-url", broker.url]) == status
    assert line in capfd.readouterr().err
