"""The log: both forms, masking, and floods that stay short."""

import json
import logging
import sys
from collections.abc import Callable, Iterator
from typing import Literal

import pytest
from hypothesis import given, strategies as st

from transcriber import logs

log = logging.getLogger("transcriber.service")


class Collector(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def stderr(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[[], str]]:
    """What was logged since the last call; logging is as before afterwards."""
    root = logging.getLogger()
    levels = {name: logging.getLogger(name).level for name in (*logs.QUIET, "")}
    handlers = root.handlers[:]
    yield lambda: capsys.readouterr().err
    root.handlers[:] = handlers
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def test_json_is_one_object_a_line_with_the_extra_fields(stderr: Callable[[], str]) -> None:
    logs.configure("INFO", "json")

    log.info("ready after %d s\nor so", 3, extra={"streams": 3, "model": "base.en"})

    (line,) = map(json.loads, stderr().splitlines())
    assert line.pop("ts").endswith("Z")
    assert line == {
        "level": "INFO",
        "logger": "transcriber.service",
        "msg": "ready after 3 s\nor so",
        "streams": 3,
        "model": "base.en",
    }


def test_json_times_are_rfc_3339_in_utc_with_milliseconds(stderr: Callable[[], str]) -> None:
    logs.configure("INFO", "json")
    record = logging.makeLogRecord({"name": "a", "msg": "b", "levelno": logging.INFO, "created": 1_700_000_000.0625})

    logging.getLogger().handle(record)

    assert json.loads(stderr())["ts"] == "2023-11-14T22:13:20.062Z"


def test_an_extra_field_does_not_replace_a_field_of_the_line(stderr: Callable[[], str]) -> None:
    logs.configure("INFO", "json")

    log.warning("careful", extra={"level": "none", "ts": 0})

    line = json.loads(stderr())
    assert line["level"] == "WARNING"
    assert isinstance(line["ts"], str)


def test_json_holds_the_exception_as_one_string(stderr: Callable[[], str]) -> None:
    logs.configure("INFO", "json")

    try:
        _ = 1 / 0
    except ZeroDivisionError:
        log.exception("broken")

    line = json.loads(stderr())
    assert line["msg"] == "broken"
    assert line["exception"].startswith("Traceback")
    assert line["exception"].endswith("ZeroDivisionError: division by zero")


def test_text_is_short_with_extras_as_key_and_value(stderr: Callable[[], str]) -> None:
    logs.configure("INFO", "text")

    log.info("ready", extra={"streams": 3, "model": "tiny en", "empty": ""})

    time, rest = stderr().split(" ", 1)
    assert len(time) == len("12:03:04.567")
    assert rest == 'INFO    service: ready streams=3 model="tiny en" empty=""\n'


def test_text_shows_the_exception_below_its_line(stderr: Callable[[], str]) -> None:
    logs.configure("INFO", "text")

    try:
        _ = 1 / 0
    except ZeroDivisionError:
        log.exception("broken")

    first, *rest = stderr().splitlines()
    assert first.endswith("service: broken")
    assert rest[-1] == "ZeroDivisionError: division by zero"


@given(text=st.text(alphabet=st.characters(codec="utf-8")))
def test_no_text_makes_a_second_line_or_moves_the_cursor(text: str) -> None:
    record = logging.makeLogRecord({"name": "a", "levelname": "INFO", "msg": "%s", "args": (text,), "field": text})

    line = logs._TextFormatter().format(record)

    assert len(line.splitlines()) == 1 or not {"\n", "\r", "\x85"} & set(line)
    assert "\x1b" not in line
    assert "\n" not in line


@given(text=st.text(), name=st.sampled_from(["ts", "level", "stream"]))
def test_any_text_is_one_line_of_json(text: str, name: str) -> None:
    record = logging.makeLogRecord({"name": "a", "levelname": "INFO", "msg": text.replace("%", ""), name: text})

    line = logs._JsonFormatter().format(record)

    assert line.isascii()
    assert "\n" not in line
    assert isinstance(json.loads(line), dict)


@pytest.mark.parametrize(("terminal", "is_json"), [(True, False), (False, True)])
def test_auto_is_json_unless_on_a_terminal(
    stderr: Callable[[], str], monkeypatch: pytest.MonkeyPatch, terminal: bool, is_json: bool
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)

    logs.configure("INFO", "auto")
    log.info("ready")

    assert stderr().startswith("{") is is_json


@pytest.mark.parametrize("fmt", ["json", "text"])
def test_secrets_of_urls_are_masked_in_message_extras_and_exception(
    stderr: Callable[[], str], fmt: Literal["json", "text"]
) -> None:
    logs.configure("INFO", fmt)
    url = "nats://user:hunter2@broker:4222"

    try:
        int(url)
    except ValueError:
        log.exception("cannot reach %s", url, extra={"url": url})

    line = stderr()
    assert "hunter2" not in line
    assert line.count("nats://***@broker:4222") == 3


def test_the_level_is_kept(stderr: Callable[[], str]) -> None:
    logs.configure("WARNING", "text")

    log.info("not this")
    log.warning("this")

    assert [line.split()[-1] for line in stderr().splitlines()] == ["this"]


def test_noisy_libraries_are_quiet_even_when_we_debug(stderr: Callable[[], str]) -> None:
    logs.configure("DEBUG", "text")

    log.debug("ours")
    for name in ("nats.aio.client", "opentelemetry.sdk", "grpc._cython"):
        logging.getLogger(name).info("theirs")

    assert [line.split()[-1] for line in stderr().splitlines()] == ["ours"]


def test_configuring_twice_logs_once(stderr: Callable[[], str]) -> None:
    logs.configure("INFO", "text")
    logs.configure("INFO", "json")

    log.info("ready")

    assert len(stderr().splitlines()) == 1


def test_opentelemetry_gets_one_warning_a_minute(stderr: Callable[[], str]) -> None:
    logs.configure("INFO", "json")
    theirs = logging.getLogger("opentelemetry.exporter")

    for second in (0, 1, 59, 61):
        record = logging.makeLogRecord(
            {
                "name": theirs.name,
                "levelno": logging.ERROR,
                "levelname": "ERROR",
                "msg": f"at {second}",
                "created": 1_700_000_000.0 + second,
                "exc_info": (OSError, OSError("x"), None),
            }
        )
        theirs.handle(record)
    log.warning("ours")

    lines = [json.loads(line) for line in stderr().splitlines()]
    assert [(line["level"], line["msg"]) for line in lines] == [
        ("WARNING", "at 0"),
        ("WARNING", "at 61"),
        ("WARNING", "ours"),
    ]
    assert "exception" not in lines[0]


def test_the_first_of_a_kind_is_logged_at_once_and_the_rest_counted(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    limited = logs.RateLimited(log, clock=clock)

    for i in range(121):
        limited.warning("bad_input", "bad payload %d", i, stream="a")
    clock.now_s += 10
    limited.flush_due()

    assert caplog.messages == ["bad payload 0", "bad_input: and 120 more in 10 s"]
    assert vars(caplog.records[0])["stream"] == "a"
    assert vars(caplog.records[1])["suppressed"] == 120


def test_kinds_do_not_hide_each_other(caplog: pytest.LogCaptureFixture) -> None:
    limited = logs.RateLimited(log, clock=Clock())

    limited.warning("bad_input", "one")
    limited.warning("queue_full", "two")

    assert caplog.messages == ["one", "two"]


def test_a_flood_stays_one_line_a_period(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    limited = logs.RateLimited(log, clock=clock)

    for _ in range(35):
        limited.warning("queue_full", "dropped")
        clock.now_s += 1
    limited.flush()

    assert caplog.messages == [
        "dropped",
        "queue_full: and 9 more in 10 s",
        "queue_full: and 10 more in 10 s",
        "queue_full: and 10 more in 10 s",
        "queue_full: and 5 more in 5 s",
    ]


def test_nothing_is_due_before_the_period_is_over(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    limited = logs.RateLimited(log, clock=clock)
    limited.warning("queue_full", "dropped")
    limited.warning("queue_full", "dropped")

    clock.now_s += 9.9
    limited.flush_due()

    assert caplog.messages == ["dropped"]


def test_after_a_quiet_period_the_next_one_is_logged_at_once(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    limited = logs.RateLimited(log, clock=clock)

    limited.warning("queue_full", "first")
    clock.now_s += 10
    limited.warning("queue_full", "second")

    assert caplog.messages == ["first", "second"]


def test_the_end_brings_out_what_is_pending_and_no_more(caplog: pytest.LogCaptureFixture) -> None:
    limited = logs.RateLimited(log, clock=Clock())
    limited.warning("queue_full", "one")
    limited.warning("queue_full", "two")
    limited.warning("bad_input", "three")

    limited.flush()
    limited.flush()

    assert caplog.messages == ["one", "three", "queue_full: and 1 more in 0 s"]


@given(gaps_s=st.lists(st.floats(0, 25), max_size=60), sweep=st.booleans())
def test_every_warning_is_logged_or_counted(gaps_s: list[float], sweep: bool) -> None:
    collector = Collector()
    logger = logging.getLogger("transcriber.test_logs")
    logger.handlers[:] = [collector]
    clock = Clock()
    limited = logs.RateLimited(logger, clock=clock)

    for gap_s in gaps_s:
        clock.now_s += gap_s
        if sweep:
            limited.flush_due()
        limited.warning("queue_full", "dropped")
    limited.flush()

    assert sum(vars(record).get("suppressed", 1) for record in collector.records) == len(gaps_s)
