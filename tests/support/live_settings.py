"""What tests of live settings share: a bucket, what is put into it, and when a daemon has taken it."""

from tests.support.waiting import until
from transcriber.bus.jetstream.provision import provision
from transcriber.config import load_settings

BUCKET = "TRANSCRIBER_CONFIG"


async def provision_bucket(broker):
    """As ``transcriber provision`` makes it."""
    settings = load_settings(nats_url=broker.url, config_bucket=BUCKET)
    await provision(settings, [], check=False, say=lambda _: None)


async def put(client, key, value):
    """As ``nats kv put``; None deletes. Returns the revision."""
    bucket = await client.jetstream().key_value(BUCKET)
    if value is not None:
        return await bucket.put(key, value.encode())
    await bucket.delete(key)
    return (await client.jetstream().stream_info(f"KV_{BUCKET}")).state.last_seq


def taken(daemon, revision, message="setting changed"):
    """Whether the log has a line of this revision."""
    return any(line["msg"].startswith(message) and line.get("revision") == revision for line in daemon.log_lines())


async def until_taken(place, revision):
    """Wait until the daemon of ``place`` has taken a setting."""
    await until(lambda: taken(place.daemon, revision), f"revision {revision}")
