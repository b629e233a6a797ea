"""What is known of an embedded gateway without starting it: its log, whom it serves, and what it needs."""

import json
import logging
import sys

import pytest
from hypothesis import given, strategies as st

from transcriber.config import load_settings
from transcriber.errors import ConfigError, StartError
from transcriber.gateway.embedded import EmbeddedGateway, _record, page_origins
from transcriber.logs import _JsonFormatter
from transcriber.testing.broker import websocket_config

EXTRAS = st.dictionaries(
    st.sampled_from(["url", "status", "route", "ms", "key"]), st.text() | st.integers() | st.none() | st.floats(0, 1)
)


@given(
    name=st.sampled_from(["transcriber.gateway.server", "asyncio"]),
    level=st.sampled_from([logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR]),
    text=st.text().map(lambda text: text.replace("%", "")),
    extras=EXTRAS,
    created_s=st.floats(1e9, 2e9),
    trace=st.none() | st.just("Traceback"),
)
def test_what_it_logs_is_logged_here_as_it_was_there(name, level, text, extras, created_s, trace):
    there = logging.makeLogRecord(
        {"name": name, "levelno": level, "levelname": logging.getLevelName(level), "msg": text, "created": created_s}
        | {"stack_info": trace}
        | extras
    )
    line = _JsonFormatter().format(there)

    here = _record(line)

    assert here is not None
    assert json.loads(_JsonFormatter().format(here)) == json.loads(line)
    assert here.levelno == level


@given(st.text() | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(json.dumps))
def test_any_other_line_is_no_log(line):
    assert _record(line) is None


@pytest.mark.parametrize("missing", ["level", "logger", "msg", "ts"])
@pytest.mark.parametrize("wrong", [None, {}, "?"])
def test_a_line_that_lacks_something_is_no_log(missing, wrong):
    whole = {"ts": "2026-11-30T09:00:00.000Z", "level": "INFO", "logger": "x", "msg": "y"}
    assert _record(json.dumps(whole)) is not None

    damaged = {name: value for name, value in whole.items() if name != missing}
    assert _record(json.dumps(damaged)) is None
    if missing in {"level", "ts"}:
        assert _record(json.dumps(damaged | {missing: wrong})) is None


def test_the_extra_that_is_missing_is_named(monkeypatch):
    monkeypatch.delitem(sys.modules, "transcriber.gateway.keys", raising=False)
    monkeypatch.setitem(sys.modules, "itsdangerous", None)

    with (
        pytest.raises(StartError, match=r"^itsdangerous is missing: pip install 'nats-transcriber\[gateway\]'$"),
        EmbeddedGateway("nats://127.0.0.1:9", load_settings()),
    ):
        pass


def test_pages_of_this_machine_and_those_that_are_named_may_connect():
    named = load_settings(gateway_origins="https://a.example,https://b.example", gateway_port="9000")
    every = load_settings(gateway_origins="*", gateway_port="0")

    origins = ["http://localhost:9000", "http://127.0.0.1:9000", "https://a.example", "https://b.example"]
    assert page_origins(named) == origins
    assert json.dumps(origins) in websocket_config(9222, page_origins(named))
    assert "allowed_origins" not in websocket_config(9222, page_origins(every))


def test_a_page_by_tls_has_another_origin(tmp_path):
    secure = load_settings(gateway_port="9000", gateway_tls_cert=tmp_path / "cert", gateway_tls_key=tmp_path / "key")

    assert page_origins(secure) == ["https://localhost:9000", "https://127.0.0.1:9000"]


def test_where_no_page_may_connect_there_is_no_websocket_for_nats_server_takes_no_origins_for_any():
    with pytest.raises(ConfigError, match="GATEWAY_ORIGINS"):
        websocket_config(9222, page_origins(load_settings(gateway_port="0")))
