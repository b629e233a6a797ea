"""One worker in virtual time, against queues whose losses are known."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from transcriber.audio.window_policy import WindowPolicy
from transcriber.config.sizing import queue_capacity
from transcriber.engine.calibrate import QUANTILES
from transcriber.plan.simulation import Service, WorkerLoad, simulate, together
from transcriber.plan.talk import Talk, windows

ALWAYS = Talk(share=1.0, utterance_s=1e9)
"""Nobody pauses, so that a window comes every five seconds."""
REGULAR = WindowPolicy(window_s=5.0)
LIVE = WindowPolicy(window_s=5.0, quiet_cut=True, endpoint_s=0.5, speech_gate=True, left_context_s=7.5)
MEASURED_S = 300.0


def takes(with_context_s, plain_s=None, file_s=0.0):
    """Each window as long as any other."""
    return Service(
        [with_context_s] * len(QUANTILES), [with_context_s if plain_s is None else plain_s] * len(QUANTILES), file_s
    )


def load(streams, service, policy=REGULAR, talk=ALWAYS, latency_s=10.0, **options):
    def slots_for(rtf):
        return queue_capacity(latency_s, policy.window_s, rtf)

    return WorkerLoad(streams, service, policy, talk, slots_for, latency_s, **options)


@pytest.mark.parametrize("streams", [1, 4, 9])
def test_a_worker_that_is_fast_enough_drops_nothing(streams):
    counted = simulate(load(streams, takes(0.5)), 1, MEASURED_S)

    assert counted.arrived == pytest.approx(streams * MEASURED_S / 5, abs=streams)
    assert counted.dropped == 0
    assert counted.busy_s / counted.counted_s == pytest.approx(streams / 10, abs=0.02)


@pytest.mark.parametrize(("streams", "loss"), [(12, 1 / 6), (20, 1 / 2), (40, 3 / 4)])
def test_what_a_worker_cannot_do_is_dropped_and_no_more(streams, loss):
    counted = simulate(load(streams, takes(0.5)), 1, MEASURED_S)

    assert counted.loss == pytest.approx(loss, abs=0.01)


@given(seed=st.integers(0, 999), mean_s=st.floats(0.1, 2.0), streams=st.integers(1, 40))
@settings(max_examples=12, deadline=None)
def test_no_text_is_later_than_the_queue_allows(seed, mean_s, streams):
    """L_max in the queue, and the window's own time."""
    counted = simulate(load(streams, takes(mean_s)), seed, MEASURED_S)

    assert max(counted.latencies_s) <= max(10.0, mean_s) + 2 * mean_s + 1e-6


@given(
    seed=st.integers(0, 999),
    plain_s=st.floats(0.05, 3.0),
    context=st.floats(1.0, 2.5),
    streams=st.integers(1, 30),
    share=st.floats(0.2, 1.0),
    waits=st.booleans(),
    file_s=st.sampled_from([0.0, 1.0]),
)
@settings(max_examples=25, deadline=None)
def test_every_window_has_its_text_or_was_dropped_or_is_pending(seed, plain_s, context, streams, share, waits, file_s):
    service, talk = takes(context * plain_s, plain_s, file_s), Talk(share, 3.0)

    counted = simulate(load(streams, service, LIVE, talk, waits=waits), seed, MEASURED_S)

    assert counted.arrived == counted.dropped + len(counted.latencies_s) + counted.pending
    assert not (waits and counted.dropped)
    assert counted.busy_s <= counted.counted_s + 4 * max(file_s, context * plain_s)


@given(plain_s=st.floats(0.1, 2.0), context=st.floats(1.0, 2.5), streams=st.integers(1, 30), more=st.integers(1, 10))
@settings(max_examples=12, deadline=None)
def test_more_streams_never_lose_less(plain_s, context, streams, more):
    service = takes(context * plain_s, plain_s)

    few, many = (
        together(simulate(load(count, service, LIVE, Talk()), seed, MEASURED_S) for seed in range(2)).loss
        for count in (streams, streams + more)
    )

    assert many >= few - 0.02


def test_left_context_is_left_out_before_anything_is_dropped():
    calm, pressed = (simulate(load(count, takes(1.0, 0.5)), 1, MEASURED_S) for count in (4, 9))

    assert (calm.shortened, calm.dropped) == (0, 0)
    assert pressed.shortened > 0.5 * pressed.arrived
    assert pressed.dropped == 0


def test_in_durable_mode_nothing_is_dropped_and_left_context_stays_but_text_comes_later_and_later():
    counted = simulate(load(9, takes(1.0, 0.5), waits=True), 1, MEASURED_S)

    assert (counted.dropped, counted.shortened) == (0, 0)
    assert counted.latency_s(0.95) > 10 * 10.0


def test_a_file_gets_its_share_under_load_and_the_rest_where_there_is_none():
    busy, idle = (simulate(load(count, takes(0.5, file_s=1.0)), 1, MEASURED_S) for count in (20, 1))

    assert busy.file_windows == pytest.approx(0.05 * MEASURED_S, rel=0.2)
    assert idle.file_windows == pytest.approx(0.9 * MEASURED_S, rel=0.05)
    assert max(idle.latencies_s) <= 1.0 + 0.5 + 1e-6


def test_the_same_seed_gives_the_same_and_another_one_other_figures():
    first, again, other = (simulate(load(9, takes(0.5), LIVE, Talk()), seed, MEASURED_S) for seed in (1, 1, 2))

    assert first == again
    assert first != other


def due_s(talk, policy, until_s, *, eager=True):
    """Times of the windows of one stream."""
    found: list[float] = []
    for due in windows(talk, policy, np.random.default_rng(1), lambda: eager, 0.0):
        if due.at_s > until_s:
            return np.array(found)
        if due.complete:
            found.append(due.at_s)
    raise AssertionError


def test_where_nobody_pauses_windows_are_full():
    assert due_s(ALWAYS, REGULAR, 101.0).tolist() == [5.0 * n for n in range(1, 21)]


def test_full_windows_are_cut_before_their_end_so_that_there_are_more_of_them():
    times_s = due_s(ALWAYS, LIVE, 10_000.0)

    assert np.diff(times_s).mean() == pytest.approx(5.0 - 1.0, abs=0.05)


def test_pauses_end_windows_where_there_is_time_and_else_windows_fill_up():
    eager, pressed = (due_s(Talk(0.5, 2.0), LIVE, 10_000.0, eager=eager) for eager in (True, False))

    assert len(eager) > 1.2 * len(pressed)


@pytest.mark.parametrize("eager", [True, False])
def test_silence_is_no_window_but_where_the_gate_is_off(eager):
    seldom = Talk(share=0.02, utterance_s=3.0)

    gated = due_s(seldom, LIVE, 10_000.0, eager=eager)
    ungated = due_s(seldom, WindowPolicy(window_s=5.0, endpoint_s=0.5), 10_000.0, eager=eager)

    assert len(gated) < 300
    assert len(ungated) >= 2000
