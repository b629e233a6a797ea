"""Keys, tickets, limits and origins."""

import pytest
from starlette.requests import HTTPConnection

from transcriber.config import load_settings
from transcriber.errors import ConfigError
from transcriber.gateway.api_error import ApiError
from transcriber.gateway.keys import Key, load_keys, new_key

KEY, ENTRY = new_key("news")
RADIO = ENTRY.replace('streams = ["*"]', 'streams = ["radio-*"]')


def connection(query="", **headers):
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return HTTPConnection({"type": "http", "headers": raw, "query_string": query.encode(), "path": "/"})


@pytest.fixture
def keys_of(tmp_path):
    def load(text, **settings):
        path = tmp_path / "keys.toml"
        path.write_text(text)
        return load_keys(load_settings(gateway_keys_file=path, **settings))

    return load


def status(refused):
    return refused.value.status


def test_a_key_has_its_scopes_and_streams(keys_of):
    keys = keys_of(RADIO)

    key = keys.authorise(connection(authorization=f"Bearer {KEY}"), "publish", "radio-7")

    assert (key.name, key.submitter) == ("news", "gateway:news")
    for scope, stream, token, expected in (
        ("admin", None, KEY, 403),
        ("listen", "tv", KEY, 403),
        ("listen", None, KEY[:-1], 401),
        ("listen", None, "", 401),
    ):
        with pytest.raises(ApiError) as refused:
            keys.authorise(connection(authorization=f"Bearer {token}"), scope, stream)
        assert status(refused) == expected


def test_a_ticket_is_a_part_of_its_key_on_every_replica(keys_of):
    one, other = keys_of(RADIO), keys_of(RADIO)
    key = one.identify(connection(authorization=f"Bearer {KEY}"))

    ticket = one.ticket(key, ["listen"], ["radio-7"])

    for by_ticket in (
        connection(f"ticket={ticket}"),
        connection(sec_websocket_protocol=f"audio, ticket.{ticket}"),
    ):
        assert other.authorise(by_ticket, "listen", "radio-7") == Key("news", frozenset({"listen"}), ("radio-7",))
        for scope, stream in (("publish", "radio-7"), ("listen", "radio-8")):
            with pytest.raises(ApiError) as refused:
                other.authorise(by_ticket, scope, stream)
            assert status(refused) == 403
    with pytest.raises(ApiError) as replaced:
        keys_of(new_key("news")[1]).authorise(connection(f"ticket={ticket}"), "listen")
    assert status(replaced) == 401


def test_a_ticket_is_never_more_than_its_key(keys_of):
    keys = keys_of(RADIO)
    key = keys.identify(connection(authorization=f"Bearer {KEY}"))

    for scopes, streams, param in ((["admin"], ["radio-1"], "scopes"), (["listen"], ["*"], "streams")):
        with pytest.raises(ApiError) as refused:
            keys.ticket(key, scopes, streams)
        assert (status(refused), refused.value.param) == (403, param)


def test_limits_are_each_keys_own(keys_of):
    keys = keys_of(ENTRY + "requests_per_minute = 2\nconcurrent = 1\n")
    first = connection(authorization=f"Bearer {KEY}")
    keys.identify(first)
    keys.identify(first)  # the same request counts once

    with pytest.raises(ApiError) as busy:
        keys.identify(connection(authorization=f"Bearer {KEY}"))
    first.scope["state"]["release"]()
    second = connection(authorization=f"Bearer {KEY}")
    keys.identify(second)
    second.scope["state"]["release"]()
    with pytest.raises(ApiError) as spent:
        keys.identify(connection(authorization=f"Bearer {KEY}"))

    assert (status(busy), busy.value.headers["Retry-After"]) == (429, "1")
    assert (status(spent), spent.value.headers["Retry-After"]) == (429, "30")


def test_pages_of_others_are_refused(keys_of):
    keys = keys_of(ENTRY, gateway_origins="https://captions.example")
    token = f"Bearer {KEY}"

    for origin in ("https://captions.example", "http://gateway.lan:8000"):
        keys.identify(connection(authorization=token, host="gateway.lan:8000", origin=origin))
    for origin in ("https://evil.example", "null", "http://gateway.lan", "http://["):
        with pytest.raises(ApiError) as refused:
            keys.identify(connection(authorization=token, host="gateway.lan:8000", origin=origin))
        assert (status(refused), refused.value.code) == (403, "foreign_origin")


def test_without_keys_a_page_cannot_make_up_a_name_of_ours():
    keys = load_keys(load_settings())

    assert "admin" in keys.authorise(connection(host="localhost:8000", origin="http://localhost:8000"), "listen").scopes
    with pytest.raises(ApiError) as refused:
        keys.authorise(connection(host="evil.example:8000", origin="http://evil.example:8000"), "listen")
    assert refused.value.code == "foreign_host"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "keys"),
        ("[keys.a", "keys.toml"),
        (ENTRY.replace('"listen"', '"lisen"'), "scopes"),
        (ENTRY.replace("sha256", "sha1"), "sha256"),
        (ENTRY + "per_minute = 1\n", "per_minute"),
        (ENTRY.replace("[keys.news]", '[keys."a b"]'), "keys"),
        (ENTRY + ENTRY.replace("keys.news", "keys.radio"), "news and radio are the same key"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_clear_line(keys_of, text, why):
    with pytest.raises(ConfigError, match=why) as refused:
        keys_of(text)

    assert "\n" not in str(refused.value)


def test_a_keys_file_that_is_missing_and_a_name_that_cannot_be(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        load_keys(load_settings(gateway_keys_file=tmp_path / "none.toml"))
    with pytest.raises(ConfigError, match="--new-key"):
        new_key("a\nb")
