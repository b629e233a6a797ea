"""Contexts of the nats tool, with a real broker: each way to log in that they have, and TLS."""

import json

import pytest

from tests.support.credentials import certificates, credentials, new_nkey, operator_mode
from transcriber.bus.client_session import connected
from transcriber.config import load_settings
from transcriber.errors import BrokerError, DeniedError
from transcriber.testing.broker import EmbeddedBroker


@pytest.fixture
def context(tmp_path, monkeypatch):
    """Writes the context "ours"; with all fields, as the tool does."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "nats/context").mkdir(parents=True)
    empty = dict.fromkeys(("description", "token", "user", "password", "creds", "nkey", "cert", "key", "ca", "nsc"), "")
    empty |= dict.fromkeys(("jetstream_domain", "inbox_prefix", "user_jwt", "user_seed", "socks_proxy"), "")

    def write(**fields):
        text = json.dumps(empty | {"tls_first": False, "windows_ca_certs_match": None} | fields)
        (tmp_path / "nats/context/ours.json").write_text(text)

    return write


def served(folder, conf):
    path = folder / "nats.conf"
    path.write_text(conf)
    return EmbeddedBroker("--config", str(path))


async def gets_in(**settings):
    """Whether the broker takes us, with the context and these settings."""
    try:
        async with connected(load_settings(nats_context="ours", **settings), "test") as connection:
            return await connection.flush(5)
    except BrokerError as error:
        assert "authorization violation" in str(error).lower()  # noqa: PT017 - or it was something else
        return False


RIGHT = {"user": "u", "password": "right"}
LOGINS = {
    "user": ('user: u, password: "p w"', {"user": "u", "password": "p w"}),
    "token": ("token: secret", {"token": "secret"}),
}


@pytest.mark.parametrize(("conf", "fields"), LOGINS.values(), ids=LOGINS)
async def test_user_and_token(context, tmp_path, conf, fields):
    with served(tmp_path, f"authorization {{ {conf} }}") as broker:
        context(url=broker.url, **fields)
        taken = await gets_in()
        context(url=broker.url)
        without = await gets_in()

    assert (taken, without) == (True, False)


async def test_an_nkey_with_an_inbox_of_its_own(context, tmp_path):
    seed, public = new_nkey()
    (tmp_path / "seed").write_text(seed)
    rights = 'permissions: { subscribe: ["_INBOX_ours.>"] }'
    with served(tmp_path, f"authorization {{ users: [{{ nkey: {public}, {rights} }}] }}") as broker:
        context(url=broker.url, nkey="$XDG_CONFIG_HOME/seed", inbox_prefix="_INBOX_ours")
        async with connected(load_settings(nats_context="ours"), "test") as connection:
            await connection.check_granted(connection.client.new_inbox())
            await connection.subscribe(connection.client.new_inbox(), ignored)
            with pytest.raises(DeniedError):
                await connection.subscribe("_INBOX.1", ignored)


async def ignored(_):
    """What comes is of no interest."""


async def test_credentials_and_jwts(context, tmp_path):
    conf, user_jwt, user_seed = operator_mode(tmp_path)
    (tmp_path / "user.creds").write_text(credentials(user_jwt, user_seed))
    with served(tmp_path, conf) as broker:
        taken = []
        for fields in (
            {"creds": str(tmp_path / "user.creds")},
            {"user_jwt": user_jwt, "user_seed": user_seed},
            {"user_jwt": user_jwt},
        ):
            context(url=broker.url, **fields)
            taken.append(await gets_in())

    assert taken == [True, True, False]  # only a bearer token needs no seed


async def test_a_bearer_token(context, tmp_path):
    conf, user_jwt, _ = operator_mode(tmp_path, bearer_token=True)
    with served(tmp_path, conf) as broker:
        context(url=broker.url, user_jwt=user_jwt)

        assert await gets_in()


@pytest.mark.parametrize("first", [False, True])
async def test_tls_with_a_certificate_after_the_brokers_info_or_before_it(context, tmp_path, first):
    server, _ = certificates(tmp_path)
    with served(tmp_path, f"tls {{ {server}, verify: true, handshake_first: {str(first).lower()} }}") as broker:
        files = {"ca": "ca.pem", "cert": "client.pem", "key": "client.key"}
        context(url=broker.url, tls_first=first, **{name: str(tmp_path / file) for name, file in files.items()})

        assert await gets_in()


async def test_what_is_set_wins_over_the_context(context, tmp_path):
    seed, public = new_nkey()
    (tmp_path / "seed").write_text(seed)
    users = f"users: [{{ user: u, password: right }}, {{ nkey: {public} }}]"
    with served(tmp_path, f"authorization {{ {users} }}") as broker:
        context(url="nats://127.0.0.1:1", **RIGHT)
        address = await gets_in(nats_url=broker.url)
        context(url=broker.url, **RIGHT | {"password": "wrong"})
        key = await gets_in(nats_nkey_seed_file=tmp_path / "seed")
        user = await gets_in(nats_url=broker.url.replace("//", "//u:right@"))
        neither = await gets_in()

    assert (address, key, user, neither) == (True, True, True, False)
