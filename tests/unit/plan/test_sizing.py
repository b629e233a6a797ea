"""Replicas, memory, storage and network, and what is refused."""

import io
import json
import math
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import hypothesis
import pytest
import yaml
from hypothesis import example, given, strategies as st
from rich.console import Console

from transcriber.cli import main
from transcriber.config import load_settings
from transcriber.engine.calibrate import QUANTILES, Measurement
from transcriber.errors import ConfigError
from transcriber.models.find import find_model
from transcriber.plan import simulation, sizing
from transcriber.plan.report import as_kustomization, as_table, as_values
from transcriber.plan.sizing import Wishes, arrangement, plan, read_calibration, replicas_for
from transcriber.plan.talk import Talk

WISHES = Wishes(streams=100, seeds=1)


def row(plain_ms=400.0, workers=1, threads=1, **figures):
    """Of a model that takes twice as long with left context."""
    known = {
        "model": "tiny.en", "audio_ctx": 512, "follows": True, "median_ms": 2 * plain_ms, "p95_ms": 2 * plain_ms,
        "plain_ms": plain_ms, "rtf": 2 * plain_ms / 5000, "queue_capacity": 9, "streams": 12, "shipped": True,
        "left_s": 7.5, "times_ms": (2 * plain_ms,) * len(QUANTILES), "plain_times_ms": (plain_ms,) * len(QUANTILES),
        "ingest_ms": 2.0, "memory_bytes": 200_000_000, "cores": 4,
    }  # fmt: skip
    return Measurement(**(known | {"workers": workers, "threads": threads} | figures))


def settings(**flags):
    return load_settings(max_latency_secs=10.0, **flags)


@pytest.fixture(scope="module", autouse=True)
def short():
    """A simulation of a minute: how long it must be to be exact is another's question."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulation, "MEASURED_S", 60.0)
        patch.setattr(simulation, "MEASURED_WINDOWS", 200)
        yield


@pytest.fixture(scope="module")
def live(short):
    return plan(row(), settings(), WISHES)


@pytest.fixture(scope="module")
def durable(short):
    return plan(row(), settings(durable=True, stream_replicas=3), WISHES)


def test_a_daemon_carries_what_its_worker_has_time_for_and_a_fifth_is_left_free(live):
    by_hand = 5.0 / 0.4

    assert live.most_streams == pytest.approx(
        by_hand, rel=0.25
    )  # windows are cut before they are full, and pauses are none
    assert live.replica_streams <= 0.8 * live.most_streams
    assert live.replicas * live.replica_streams >= 100
    assert live.loss <= WISHES.loss
    assert live.latency_p95_s <= 10.0


def test_in_durable_mode_left_context_stays_so_that_a_daemon_carries_half(live, durable):
    assert durable.most_streams < 0.7 * live.most_streams
    assert durable.loss == 0


def test_two_workers_carry_twice_as_much(live):
    double = plan(row(workers=2), settings(), WISHES)

    assert double.most_streams == 2 * live.most_streams
    assert (double.cores, live.cores) == (3, 2)  # and a part of one for ingest


def test_where_ingest_has_no_core_of_its_own_whisper_is_slower(live):
    beside_it = plan(row(cores=1, ingest_ms=20.0), settings(), WISHES)

    assert beside_it.most_streams < live.most_streams
    assert beside_it.cores == 1


def test_partitions_by_name_need_room_for_the_fullest():
    assert replicas_for(100, 10, by_name=False) == 10
    assert replicas_for(100, 10, by_name=True) > 12
    assert replicas_for(7, 10, by_name=True) == 1


def test_storage_and_network_follow_from_streams_and_ages(durable):
    hour_of_100 = 100 * 96_000 * 3600

    assert durable.audio_bytes == hour_of_100
    assert durable.audio_in == 100 * 96_000
    assert durable.broker_out > 3 * durable.audio_in  # a daemon, and two copies
    assert durable.text_bytes == pytest.approx(100 / 4.3 * 2500 * 7 * 86_400, rel=0.2)


def test_live_nothing_is_stored(live):
    assert (live.audio_bytes, live.text_bytes, live.copies) == (0, 0, 0)


@pytest.mark.parametrize(
    ("figures", "flags", "why"),
    [
        ({"plain_ms": 12_000.0}, {}, "a window of tiny.en takes 12 s here, more than --latency 10"),
        ({"plain_ms": 1e7}, {"durable": True}, "a window of tiny.en takes 2e\\+04 s here, more than --latency 10"),
        ({"plain_ms": 7_000.0}, {}, "one stream is too much: a window of tiny.en takes 7 s here"),
    ],
)
def test_what_cannot_be_had_is_refused_in_one_line(figures, flags, why):
    with pytest.raises(ConfigError, match=why) as refused:
        plan(row(**figures), settings(**flags), WISHES)

    assert "\n" not in str(refused.value)


def test_where_nobody_speaks_the_search_ends(monkeypatch):
    monkeypatch.setattr(sizing, "MOST_STREAMS", 50)

    assert plan(row(), settings(), replace(WISHES, talk=Talk(share=1e-9))).most_streams == 50


@pytest.mark.parametrize(
    ("rows", "flags", "model", "why"),
    [
        ([row()], {}, "base", "--model base: the calibration has tiny.en"),
        ([row(), row(model="base")], {}, None, "--model is missing: the calibration has tiny.en, base"),
        ([], {}, None, "the calibration has no model"),
        ([replace(row(), times_ms=())], {}, None, "is of an older version"),
        ([row()], {"whisper_threads": 3}, None, "WHISPER_WORKERS=1 WHISPER_THREADS=3: not in the calibration"),
        ([row()], {"buffer_duration_secs": 8}, None, "BUFFER_DURATION_SECS is 8, but 5 in the calibration"),
        ([row()], {"left_context_secs": 5}, None, "LEFT_CONTEXT_SECS is 5, but 7.5 in the calibration"),
        ([row()], {"whisper_audio_ctx": 0}, None, "WHISPER_AUDIO_CTX is 0, but 512 in the calibration"),
        ([row()], {"files": True}, None, "FILES=1, but there are none in the calibration"),
    ],
)
def test_a_calibration_that_does_not_fit_is_refused(rows, flags, model, why):
    with pytest.raises(ConfigError, match=why):
        arrangement(rows, settings(**flags), model)


def test_the_arrangement_is_that_of_the_settings_or_the_one_that_carries_most():
    rows = [row(threads=2), row(workers=2, streams=20, shipped=False)]

    assert arrangement(rows, settings(), None) == rows[1]
    assert arrangement(rows, settings(whisper_threads=2), "tiny.en") == rows[0]


def test_of_several_encoder_contexts_that_of_the_settings_is_planned_with():
    rows = [row(), row(audio_ctx=0, follows=False, streams=5, shipped=False)]

    assert arrangement(rows, settings(), None) == rows[0]
    assert arrangement(rows, settings(whisper_audio_ctx=0), None) == rows[1]


def test_a_calibration_is_read_as_it_was_written(tmp_path):
    (written := tmp_path / "calibration.json").write_text(json.dumps([row().as_dict()]))

    assert read_calibration(written) == [row()]


@pytest.mark.parametrize("text", ["", "{}", '[{"model": 1}]', "\0"])
def test_what_is_no_calibration_is_one_line(text, tmp_path):
    (file := tmp_path / "calibration.json").write_text(text)

    with pytest.raises(ConfigError, match="is not what `transcriber calibrate --json` writes"):
        read_calibration(file)


@pytest.mark.parametrize(
    ("figure", "value"),
    [
        ("times_ms", [0.0] * len(QUANTILES)), ("plain_times_ms", [math.nan] * len(QUANTILES)), ("file_ms", -1), ("ingest_ms", math.inf),
        ("rtf", 0), ("rtf", 1e-320), ("workers", 0), ("threads", -1), ("cores", 0), ("memory_bytes", -1), ("model", "a\nb"), ("model", ""), ("audio_ctx", 10**400), ("streams", -1), ("queue_capacity", 10**400),
    ],
)  # fmt: skip
def test_figures_with_which_nothing_can_be_planned_are_named(figure, value, tmp_path):
    (file := tmp_path / "calibration.json").write_text(json.dumps([row().as_dict(), row().as_dict() | {figure: value}]))

    with pytest.raises(ConfigError, match=f"calibrate --json` writes: .*{figure}.* of row 2"):
        read_calibration(file)


NUMBERS = st.integers() | st.floats() | st.just(10**400)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=9,
)
QUANTILES_OF_ANY = st.lists(NUMBERS, min_size=len(QUANTILES), max_size=len(QUANTILES))
WRITTEN = row().as_dict()
CHANGED = st.dictionaries(st.sampled_from(sorted(WRITTEN)), VALUES | NUMBERS | QUANTILES_OF_ANY, max_size=3)
"""What stands in a row in place of what was written."""


@hypothesis.settings(max_examples=50)
@given(st.lists(CHANGED.map(WRITTEN.__or__), max_size=2) | VALUES)
@example("[" * 100_000)
def test_whatever_a_calibration_holds_it_is_read_or_refused_in_one_line(rows):
    with TemporaryDirectory() as folder:
        (file := Path(folder) / "calibration.json").write_text(rows if isinstance(rows, str) else json.dumps(rows))
        try:
            arrangement(read_calibration(file), settings(), None)
        except ConfigError as refused:
            assert str(refused).isprintable()  # noqa: PT017 - it need not be refused


def test_a_calibration_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        read_calibration(tmp_path / "none.json")


def test_the_table_says_all_of_it(live, durable):
    (console := Console(width=120, file=io.StringIO(), record=True)).print(
        as_table(live, settings(), WISHES), as_table(durable, settings(durable=True), WISHES)
    )
    text = console.export_text()

    for expected in ("100 streams of tiny.en, live", "20% are left free", "9.6 MB/s in", "on each of 3 brokers"):
        assert expected in text


@pytest.mark.parametrize(
    ("mode", "flags", "why"),
    [
        ("backfill", {"backfill": True}, "BACKFILL=1: the chart has no partitions for it"),
        ("live", {"files": True}, "FILES=1: the chart has daemons for files alone"),
    ],
)
def test_what_the_chart_has_no_daemons_for_is_refused(mode, flags, why, durable):
    with pytest.raises(ConfigError, match=why):
        as_values(replace(durable, mode=mode), settings(**flags))


def test_daemons_get_what_was_given_and_nothing_of_the_machine_that_plans(live, monkeypatch):
    monkeypatch.setenv("NATS_CREDS", "/home/me/.creds")
    monkeypatch.setenv("WHISPER_MODEL_DIR", "/home/me/models")
    monkeypatch.setenv("WHISPER_BEAM_SIZE", "2")
    values = yaml.safe_load(as_values(live, settings(buffer_cut="fixed", log_level="DEBUG", audio_max_bytes=2**40)))

    assert values["settings"] == {"AUDIO_MAX_BYTES": str(2**40)}
    assert values["streams"]["part-1"]["settings"] == {
        "AUDIO_SUBJECT": "audio.1.*", "BUFFER_CUT": "fixed", "MAX_LATENCY_SECS": "10", "WHISPER_BEAM_SIZE": "2",
        "WHISPER_MODEL_PATH": "/models/ggml-tiny.en.bin", "WHISPER_THREADS": "1", "WHISPER_WORKERS": "1",
    }  # fmt: skip


def test_a_daemon_takes_as_many_streams_as_it_carries_whatever_this_machine_takes(live, monkeypatch):
    monkeypatch.setenv("MAX_STREAMS", "10000")

    values = yaml.safe_load(as_values(replace(live, replica_streams=600), settings()))

    assert values["streams"]["part-1"]["settings"]["MAX_STREAMS"] == "600"


@pytest.mark.parametrize("mode", ["live", "durable"])
def test_a_kustomization_has_the_settings_of_the_plan(mode, live, durable):
    planned = {"live": live, "durable": durable}[mode]

    (overlay,) = yaml.safe_load_all(as_kustomization(planned, settings(durable=mode == "durable")))
    literals = dict(text.split("=", 1) for text in overlay["configMapGenerator"][0]["literals"])
    as_set = load_settings(**{name.lower(): value for name, value in literals.items()})

    assert find_model(as_set) == Path("/models/ggml-tiny.en.bin")
    assert (as_set.whisper_workers, as_set.max_latency_secs) == (1, 10.0)
    assert (as_set.durable, as_set.partitions) == (mode == "durable", planned.partitions)
    assert as_set.audio_max_bytes >= 1.2 * planned.audio_bytes
    assert as_set.transcript_max_bytes >= 1.2 * planned.text_bytes


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--streams", "0"], "must be a number, 1 to 100000"),
        (["--streams", "9", "--speech", "1.5"], "must be more than 0 and at most 1"),
        (["--streams", "9", "--utterance", "never"], "must be a number of seconds"),
        (["--streams", "9", "--utterance", "1e-9"], "must be a number of seconds, at least 0.1"),
        (["--streams", "9", "--json", "--values"], "not allowed with argument"),
    ],
)
def test_wrong_wishes_are_one_line_and_status_2(arguments, why, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["plan", *arguments])

    assert why in capsys.readouterr().err
