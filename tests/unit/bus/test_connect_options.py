"""Which broker and credentials are meant: settings, and contexts of the nats tool (ADR-21)."""

import json

import pytest
from hypothesis import given, strategies as st

from tests.support.credentials import new_nkey
from transcriber.bus.connect_options import broker_access
from transcriber.config import load_settings
from transcriber.config.nats_context import NatsContext, parse_context, read_context
from transcriber.errors import ConfigError

FIELDS = sorted(NatsContext.model_fields)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """``nats`` in the user's folder of settings."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "nats/context").mkdir(parents=True)
    return tmp_path / "nats"


def write(folder, name="ours", **fields):
    (folder / f"context/{name}.json").write_text(json.dumps(fields))


def access(**settings):
    return broker_access(load_settings(nats_context="ours", **settings))


def complaint(name="ours"):
    with pytest.raises(ConfigError) as error:
        read_context(name)
    return str(error.value)


def test_a_context_has_the_address_and_the_login(folder):
    write(folder, url="one:4222, tls://two", user="u", password="p", inbox_prefix="_INBOX_u")  # noqa: S106

    found = access()

    assert found.url == "nats://one:4222,tls://two"
    assert found.options.pop("tls")
    assert found.options == {"inbox_prefix": "_INBOX_u", "user": "u", "password": "p"}
    assert found.named == "NATS_CONTEXT=ours, nats://one:4222,tls://two"


def test_where_it_has_no_address_ours_is_meant(folder):
    write(folder, token="t")  # noqa: S106

    assert access().named == "NATS_URL=nats://127.0.0.1:4222"
    assert access().options == {"inbox_prefix": "_INBOX", "token": "t"}


def test_what_is_set_wins_and_credentials_do_so_as_a_whole(folder, tmp_path):
    write(folder, url="nats://theirs", user="u", password="p", inbox_prefix="_INBOX_u")  # noqa: S106
    (tmp_path / "seed").write_text(new_nkey()[0])

    assert access(nats_url="nats://ours").options["user"] == "u"
    assert access(nats_url="nats://ours").named == "NATS_URL=nats://ours"
    assert access(nats_inbox_prefix="_INBOX").options["inbox_prefix"] == "_INBOX"
    assert access(nats_url="nats://me:mine@ours").options == {"inbox_prefix": "_INBOX_u"}
    assert access(nats_url="nats://me:mine@ours").named == "NATS_URL=nats://***@ours"
    assert access(nats_nkey_seed_file=tmp_path / "seed").options == {
        "inbox_prefix": "_INBOX_u",
        "nkeys_seed": str(tmp_path / "seed"),
    }


def test_the_environment_counts_as_set(folder, monkeypatch):
    write(folder, url="nats://theirs")
    monkeypatch.setenv("NATS_URL", "nats://ours")

    assert access().named == "NATS_URL=nats://ours"


def test_the_selected_context_is_meant_only_if_asked_for(folder):
    write(folder, "ngs", url="nats://selected")
    (folder / "context.txt").write_text("ngs\n")

    assert broker_access(load_settings()).url == "nats://127.0.0.1:4222"
    assert read_context("@selected").url == "nats://selected"


@pytest.mark.parametrize("text", [None, "", "../../ngs"])
def test_that_none_is_selected_is_said(folder, text):
    if text is not None:
        (folder / "context.txt").write_text(text)

    assert complaint("@selected").startswith("NATS_CONTEXT=@selected: ")
    assert str(folder / "context.txt") in complaint("@selected")


@pytest.mark.parametrize("name", ["../ours", "/etc/ours", "a\nb"])
def test_a_name_is_no_path(name):
    with pytest.raises(ConfigError, match=r"^NATS_CONTEXT="):
        load_settings(nats_context=name)


def test_files_are_named_as_in_a_shell(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KEYS", str(tmp_path / "keys"))
    write(folder, creds="~/ours.creds", ca="$KEYS/ca.pem")

    found = read_context("ours")

    assert (found.creds, found.ca) == (tmp_path / "ours.creds", tmp_path / "keys/ca.pem")


def test_a_context_without_a_file_is_named(folder):
    assert complaint() == f"NATS_CONTEXT=ours: there is no {folder}/context/ours.json"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"nsc": "nsc://o/a/u"}, "not supported: 'nsc'"),
        ({"jetstream_domain": "hub", "socks_proxy": "x:1"}, "not supported: 'jetstream_domain', 'socks_proxy'"),
        ({"windows_cert_store": "user"}, "not supported: 'windows_cert_store'"),
        ({"something_new": 1}, "not supported: 'something_new'"),
        ({"user": "u", "creds": "c"}, "user and creds exclude each other"),
        ({"user": "u", "token": "t"}, "user and token exclude each other"),
        ({"password": "p"}, "password needs user"),
        ({"user_seed": "S"}, "user_seed needs user_jwt"),
        ({"cert": "c.pem"}, "cert needs key"),
        ({"key": "k.pem"}, "key needs cert"),
        ({"password": "op://vault/x", "user": "u"}, "password: references such as op: are not supported"),
        ({"creds": "data:;base64,AA"}, "creds: references such as data: are not supported"),
        ({"url": "ws://x"}, "url: must be nats://host:port or tls://host:port"),
        ({"inbox_prefix": "a b"}, "inbox_prefix: must be a literal subject"),
        ({"tls_first": "yes"}, "tls_first: input should be a valid boolean"),
        ({"creds": 7}, "creds: must be the path of a file"),
        ({"ca": "~0/ca.pem"}, "ca: nobody here has the name behind ~"),
    ],
)
def test_what_is_not_done_is_an_error(folder, fields, said):
    write(folder, **fields)

    assert complaint().startswith(f"NATS_CONTEXT=ours: {folder}/context/ours.json: {said}")


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("creds", "No such file"),
        ("nkey", "No such file"),
        ("ca", "no such file"),
        ("user_seed", ": no nkey seed in it"),
    ],
)
def test_a_file_or_seed_that_cannot_be_used_is_named_by_its_field(folder, field, said):
    write(folder, **{field: "nowhere"}, **({"user_jwt": "j"} if field == "user_seed" else {}))

    with pytest.raises(ConfigError, match=f"^NATS_CONTEXT=ours: {field}") as error:
        access()

    assert said in str(error.value)
    assert ("nowhere" in str(error.value)) == (field != "user_seed")


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '"text"', "[1]", "\udcff"])
def test_a_file_that_is_no_context_is_an_error(folder, text):
    (folder / "context/ours.json").write_bytes(text.encode(errors="surrogateescape"))

    assert complaint().startswith(f"NATS_CONTEXT=ours: {folder}/context/ours.json is ")


VALUES = st.none() | st.booleans() | st.integers() | st.just("hidden") | st.text(max_size=9)


@given(VALUES | st.lists(VALUES, max_size=2) | st.dictionaries(st.sampled_from([*FIELDS, "nsc"]), VALUES, max_size=4))
def test_whatever_is_in_it_it_is_a_context_or_one_line_without_secrets(said):
    try:
        parse_context(said, "where")
    except ConfigError as error:
        complaint = str(error)
    else:
        return

    assert complaint.startswith("where")
    assert len(complaint.splitlines()) == 1
    assert "hidden" not in complaint
