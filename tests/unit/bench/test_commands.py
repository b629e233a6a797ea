import importlib
import json
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, strategies as st

from bench.capacity import FINE, STEADY, capacity, losses, next_count, queue_growth
from bench.lib.account import Account
from bench.lib.chart import CHARTS, Bar, Line, Panel, bars, drawn_from, lines, save_bars, save_lines
from bench.lib.memory_trend import trend
from bench.lib.paced import NOISE, PAYLOAD_BYTES, Plan, speech
from bench.lib.report import quantiles
from bench.lib.shapes import find
from bench.partials import IN_STEP, Turn
from bench.threads import Arrangement, arrangements, rate
from transcriber.models.catalog import DEMO_MODEL
from transcriber.schema.messages import End, Final, Gap

MESSAGE = {
    "stream": "a", "session": "s", "rate": 48_000, "start_frame": 0, "frames": 0, "start": 0.0, "duration": 0.0,
    "received_at": "2026-01-01T00:00:00Z",
}  # fmt: skip
BENCHES = (
    "capacity", "chaos", "child_process", "contexts", "copies", "durable", "false_text", "files", "fuzz_media", "gate", "gpu", "gpu_card", "guards", "holes", "ingest", "live_settings", "memory", "oneshot", "partials", "peers", "pipeline", "plan", "resampler", "soak", "threads", "turn_ends", "voice_models", "voices", "word_times", "words",
)  # fmt: skip


@pytest.mark.parametrize("name", BENCHES)
def test_a_bench_says_what_it_measures_and_can_be_run(name):
    module = importlib.import_module(f"bench.{name}")

    assert module.__doc__
    assert callable(module.measure)


def test_quantiles_of_nothing_are_not_known():
    assert quantiles([3.0, 1.0, 2.0], median=0.5, most=1.0) == {"median": 2.0, "most": 3.0}
    assert quantiles([], median=0.5) == {"median": None}


def test_faster_streams_have_their_payloads_closer_together():
    plan = Plan("", ("a",), payloads=100, ramp_s=0.0, start_s=7.0, speed=20.0)

    assert plan.due_s[0, :3].tolist() == pytest.approx([7.0, 7.001, 7.002])
    assert plan.stop_s == pytest.approx(7.1)


def test_streams_in_step_have_the_same_times():
    plan = Plan("", ("a", "b", "c", "d"), payloads=10, ramp_s=5.0, start_s=7.0, in_step=2)

    assert plan.due_s[:, 0].tolist() == [7.0, 7.0, 9.5, 9.5]


def test_the_speech_of_the_benches_is_whole_payloads():
    assert len(speech()) % PAYLOAD_BYTES == 0
    assert len(speech()) > 1000 * len(NOISE)


def test_what_was_dropped_and_what_never_came_is_lost():
    frames = {"received": 90, "transcribed": 60, "silent": 10, "dropped": 20, "lost": 5}
    account_of_it = {f"{name}_frames": count for name, count in frames.items()} | {f"{name}_s": 0 for name in frames}
    gap = Gap.model_validate(MESSAGE | {"reason": "queue_full", "speaker": None})
    end = End.model_validate(MESSAGE | {"segments": 1} | account_of_it)

    lost = losses(Account(gaps=[gap, gap], ends=[end]), 100)

    assert (lost["loss"], lost["frames_unaccounted"], lost["gaps"]) == (0.25, 5, {"queue_full": 2})


def waits(stream, *queue_ms):
    """Windows of 5 s of one stream."""
    unknown = dict.fromkeys(
        ("suppressed", "words", "language", "confidence", "avg_logprob", "no_speech_prob", "speaker", "captured_at")
    )
    known = {"stream": stream, "rev": 0, "text": "", "speech_final": False, "model": "demo"}
    return [
        Final.model_validate(
            {**MESSAGE, **unknown, **known, "segment": segment, "start": 5.0 * segment}
            | {"timing": {"queue_ms": ms, "processing_ms": 50, "handover_ms": 0, "end_to_end_ms": ms + 50, "rtf": 0.01}}
        )
        for segment, ms in enumerate(queue_ms)
    ]


def test_a_queue_that_grows_is_seen_before_it_is_full():
    overload = waits("a", 0, 500, 1000, 1500) + waits("b", 300, 800, 1300, 1800)

    growth = queue_growth(overload)

    assert growth == pytest.approx(0.1)
    assert losses(Account(finals=overload), 1)["loss_to_come"] == pytest.approx(0.1 / 1.1, abs=1e-5)


@pytest.mark.parametrize(
    "finals",
    [
        [],
        waits("a", 10),
        waits("a", 10, 900),
        waits("a", 0, 40, 40, 40) + waits("b", 0, 900, 900, 900),
        waits("a", 0, 900, 500, 100),
        waits("a", 0, 30, 900, 200) + waits("b", 0, 700, 20, 800),
    ],
    ids=["no windows", "one", "nothing to compare", "each has its place in the queue", "falling", "by chance"],
)
def test_a_queue_that_does_not_grow_is_no_overload(finals):
    assert queue_growth(finals) == 0.0


def test_what_a_partial_costs_is_seen_in_windows_that_come_to_an_idle_worker():
    names = tuple(f"of-{number}" for number in range(2 * IN_STEP))
    first, second = waits(names[0], 40, 2), waits(names[1], 90, 60)
    behind_others = waits(names[IN_STEP], 30)
    at = [MESSAGE["received_at"], "2026-01-01T00:00:05Z"]
    finals = [
        Final.model_validate(final.model_dump(by_alias=True) | {"received_at": at[final.segment]})
        for final in first + second
    ]
    plan = Plan("", names, payloads=500, ramp_s=5.0, start_s=0.0, in_step=IN_STEP)
    late = Final.model_validate(behind_others[0].model_dump(by_alias=True) | {"received_at": "2026-01-01T00:00:00.1Z"})

    assert Turn(plan, Account(finals=[*finals, late]), [], 0.0).first_waited_ms() == [40, 2]


@given(holds=st.integers(0, 3000), promised=st.floats(0.2, 3000))
def test_the_search_closes_in_on_what_the_machine_holds(holds, promised):
    steps: dict[int, dict[str, float]] = {}

    while count := next_count(steps, promised):
        assert count not in steps
        steps[count] = {"streams": count, "loss_to_come": 0.0 if count <= holds else 0.2}

    found = capacity([steps[count] for count in sorted(steps)])
    assert found["streams_no_loss"] <= holds
    assert holds - found["streams_no_loss"] <= FINE * holds
    assert len(steps) < 60


def test_a_lucky_step_above_one_that_lost_does_not_count():
    rows = [{"streams": n, "loss_to_come": loss} for n, loss in ((10, 0.0), (20, STEADY + 0.001), (30, 0.0), (40, 0.2))]

    found = capacity(rows)

    assert (found["streams_no_loss"], found["streams_one_percent_loss"]) == (10, 30)


@pytest.mark.parametrize(
    ("cores", "ways"),
    [(1, {(1, 1)}), (2, {(1, 1), (1, 2), (2, 1)}), (8, {(1, 1), (1, 7), (1, 8), (2, 4), (4, 2), (8, 1)})],
)
def test_arrangements_fill_the_machine_or_leave_it_a_core(cores, ways):
    found = arrangements(cores)

    assert {(one.workers, one.threads) for one in found} == ways
    assert found[0] == Arrangement(1, 1, spins=1000)
    assert {one.spins for one in found if one[:2] == (1, cores)} == {0, 1000, 300_000}
    assert len(found) == len(set(found))


def test_windows_a_second_of_several_workers_add_up():
    assert rate([[1.0, 2.0, 3.0], [0.5, 1.0, 1.5, 2.0]]) == 3.0


def test_memory_that_is_flat_once_the_daemon_is_warm_has_no_slope():
    growing = {at_s: 50_000 + int(2 * at_s) for at_s in map(float, range(0, 1800, 60))}

    flat = trend({0.0: 10_000, 600.0: 50_000, 1200.0: 50_000, 1800.0: 50_000}, warm_s=600)

    assert flat == {"slope_kb_per_hour": 0.0, "spread_kb": 0, "warm_rss_kb": 50_000}
    assert trend(growing, warm_s=0)["slope_kb_per_hour"] == pytest.approx(7200)


def test_charts_are_drawings_even_where_nothing_was_lost():
    flat, deep = (
        Panel(title, "streams", "%", [Line("demo", [(10, 0.0), (20, 0.0)], "#000000")]) for title in ("a", "b")
    )

    one, two = (ET.fromstring(lines(*panels)) for panels in ([flat], [flat, deep]))  # noqa: S314 - our own

    named = {group.attrib.get("id") for group in two.iter("{http://www.w3.org/2000/svg}g")}
    assert {"a: demo", "b: demo"} <= named
    assert height_pt(two) == 2 * height_pt(one)
    assert {text.text for text in two.iter("{http://www.w3.org/2000/svg}text")} >= {"0", "5", "10", "15", "20"}


def height_pt(drawing):
    return float(drawing.attrib["height"].removesuffix("pt"))


def test_bars_say_their_figures_and_the_same_figures_are_the_same_drawing():
    rows = [
        Bar("tiny", "theirs", 543.7, ours=False),
        Bar("tiny", "ours", 209.2, ours=True),
        Bar("base", "ours", 410, ours=True),
    ]

    drawn = bars("Time", "ms", rows)

    assert drawn == bars("Time", "ms", rows)
    texts = [text.text for text in ET.fromstring(drawn).iter("{http://www.w3.org/2000/svg}text")]  # noqa: S314 - our own
    assert {"Time", "tiny", "base", "theirs", "544 ms", "209 ms", "410 ms"} <= set(texts)


def test_figures_that_were_saved_give_the_drawing_again(tmp_path):
    panel = Panel("Loss", "streams", "%", [Line("demo", [(10, 0.0), (20, 3.5)], "#0a84ff")])

    save_bars(tmp_path / "bars.svg", "Time", "ms", [Bar("tiny", "ours", 209.2, ours=True)])
    save_lines(tmp_path / "lines.svg", panel, panel._replace(title="Latency"))

    for name in ("bars", "lines"):
        figures = json.loads((tmp_path / f"{name}.json").read_text())
        assert drawn_from(figures) == (tmp_path / f"{name}.svg").read_text()


@pytest.mark.parametrize("path", sorted(CHARTS.glob("*.svg")), ids=lambda path: path.stem)
def test_charts_in_the_repository_say_what_the_figures_beside_them_say(path):
    """Text for text: where it stands is matplotlib's."""
    again, kept = (
        [text.text for text in ET.fromstring(drawing).iter("{http://www.w3.org/2000/svg}text")]  # noqa: S314 - our own
        for drawing in (drawn_from(json.loads(path.with_suffix(".json").read_text())), path.read_text())
    )

    assert kept == again


def test_a_model_is_the_bundled_one_or_a_file(tmp_path):
    mine = tmp_path / "mine-q8_0.bin"
    mine.touch()

    assert find("demo") == DEMO_MODEL
    assert find(str(mine)) == mine
