import pytest
from hypothesis import given, strategies as st

from transcriber.config.sizing import queue_capacity
from transcriber.engine.capacity import MARGIN, Capacity


def formula(rtf):
    return queue_capacity(20.0, 5.0, rtf)


def after(capacity, *rtfs):
    """The places after each of these jobs."""
    places = []
    for rtf in rtfs:
        capacity.update(rtf)
        places.append(capacity.slots)
    return places


def test_capacity_begins_with_what_was_measured_at_the_start():
    assert Capacity(formula, 0.8).slots == 5


def test_a_cpu_hog_is_followed_within_five_jobs():
    capacity = Capacity(formula, 0.2)

    places = after(capacity, *[0.4] * 5)

    assert places[0] == 20
    assert places[-1] == formula(0.4 * MARGIN) == 8


def test_capacity_returns_when_the_hog_is_gone():
    capacity = Capacity(formula, 0.2)
    after(capacity, *[0.4] * 50)

    places = after(capacity, *[0.2] * 7)

    assert places[0] == 8
    assert places[-1] == formula(0.2 * MARGIN) == 17
    assert sorted(places) == places


def test_a_single_slow_job_changes_nothing():
    capacity = Capacity(formula, 0.2)

    assert after(capacity, 0.2, 5.0, 0.2, 0.2, 5.0, 0.2, 0.2, 5.0) == [20] * 8
    assert capacity.changes == 0


def test_a_machine_that_wavers_is_not_followed_to_and_fro():
    capacity = Capacity(formula, 0.2)

    after(capacity, *[0.2, 0.23, 0.18, 0.22, 0.21] * 200)

    assert capacity.changes <= 1


def test_a_capacity_that_was_set_stays():
    capacity = Capacity(lambda _: 3, 0.2)

    assert after(capacity, *[9.0] * 20) == [3] * 20
    assert capacity.changes == 0


@given(start=st.floats(0.001, 3), rtfs=st.lists(st.floats(0.001, 30), max_size=60))
def test_capacity_never_exceeds_the_formula_and_every_change_is_reported(start, rtfs):
    capacity = Capacity(formula, start)
    changes = 0
    for rtf in rtfs:
        before = capacity.slots
        changed = capacity.update(rtf)
        changes += changed
        assert changed == (capacity.slots != before)
        assert 1 <= capacity.slots <= formula(capacity.rtf)
    assert capacity.changes == changes


@given(quiet=st.floats(0.01, 1), slower=st.floats(1.01, 1.14), picks=st.lists(st.booleans(), min_size=50, max_size=200))
def test_between_two_speeds_within_the_margin_capacity_settles(quiet, slower, picks):
    capacity = Capacity(formula, quiet)

    after(capacity, *(quiet * slower if pick else quiet for pick in picks))

    assert capacity.changes <= 1
    assert capacity.rtf == pytest.approx(quiet, rel=0.15)
