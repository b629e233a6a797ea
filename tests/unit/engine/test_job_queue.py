"""Bounded, fair, never waiting."""

import threading
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from tests.support.waiting import until
from transcriber.config.sizing import queue_capacity
from transcriber.engine.job import FILE_LANES, Job, Lane
from transcriber.engine.job_queue import OTHER_BOUNDS, JobQueue


def job(stream="a", lane=Lane.FINAL):
    return Job(stream, np.zeros(16_000, np.float32), None, lambda *_: None, lane)


def take(queue: JobQueue) -> Job:
    found = queue.get()
    assert found is not None
    return found


def fill(queue, *streams):
    jobs = [job(stream) for stream in streams]
    assert [queue.try_put(j) for j in jobs] == [None] * len(jobs)
    return jobs


@pytest.mark.parametrize(
    ("max_latency_s", "duration_s", "rtf", "capacity"),
    [(10, 5, 0.8, 2), (20, 5, 0.8, 5), (60, 10, 1.0, 6), (20, 5, 8.0, 1), (20, 5, 1e-6, 256), (0.3, 0.1, 1.0, 3)],
)
def test_capacity_is_what_the_latency_allows(max_latency_s, duration_s, rtf, capacity):
    assert queue_capacity(max_latency_s, duration_s, rtf) == capacity


def test_with_one_stream_a_full_queue_refuses_the_arriving_window():
    queue = JobQueue(2)
    fill(queue, "a", "a")
    arriving = job("a")

    assert queue.try_put(arriving) is arriving
    assert queue.depth == 2


def test_a_full_queue_refuses_the_newest_of_the_stream_that_holds_most():
    queue = JobQueue(3)
    _, _, newest = fill(queue, "flood", "flood", "flood")

    assert queue.try_put(job("calm")) is newest


def test_on_a_tie_the_arriving_window_goes():
    queue = JobQueue(2)
    fill(queue, "a", "b")
    arriving = job("c")

    assert queue.try_put(arriving) is arriving


def test_streams_take_turns():
    queue = JobQueue(9)
    fill(queue, "a", "a", "a", "b", "c")

    assert [take(queue).stream for _ in range(5)] == ["a", "b", "c", "a", "a"]


def test_lanes_are_served_by_priority_and_have_their_own_bounds():
    queue = JobQueue(1)
    waiting = [Lane.FILE, Lane.URGENT_FILE, Lane.REQUEST, Lane.FINAL]
    for lane in waiting:
        queue.try_put(job("a", lane))
    crowd = [job("a", Lane.FILE) for _ in range(OTHER_BOUNDS[Lane.FILE])]

    assert queue.try_put(crowd[-1]) is crowd[-1]
    assert queue.depth == 1
    assert [take(queue).lane for _ in waiting] == sorted(waiting)


def test_a_partial_has_no_place_while_the_worker_has_something_else_to_do():
    queue = JobQueue(1)
    guess = job("a", Lane.PARTIAL)

    assert not queue.idle  # the worker does not wait
    assert queue.try_put(guess) is guess


async def test_a_worker_that_waits_takes_a_partial_and_then_is_not_idle():
    queue = JobQueue(1)
    taken: list[Job] = []
    with worker_on(queue, taken):
        await until(lambda: queue.idle, "a worker that waits")
        guess = job("a", Lane.PARTIAL)
        with queue._changed:  # the worker cannot take it before we looked
            accepted = queue.try_put(guess) is None
            busy = not queue.idle
            second = job("b", Lane.PARTIAL)
            refused = queue.try_put(second) is second
        await until(lambda: taken == [guess], "the partial")
        await until(lambda: queue.idle, "a worker that waits again")

    assert (accepted, busy, refused) == (True, True, True)


@pytest.mark.parametrize("lane", [Lane.FINAL, Lane.REQUEST])
async def test_a_partial_is_refused_while_another_job_waits(lane):
    queue = JobQueue(1)
    taken: list[Job] = []
    with worker_on(queue, taken):
        await until(lambda: queue.idle, "a worker that waits")
        guess = job("a", Lane.PARTIAL)
        with queue._changed:
            queue.try_put(job("a", lane))
            refused = queue.try_put(guess) is guess
        await until(lambda: taken, "the job")

    assert refused
    assert [found.lane for found in taken] == [lane]


@pytest.mark.parametrize(
    ("lane", "presses"),
    [(Lane.FINAL, True), (Lane.REQUEST, True), (Lane.PARTIAL, False), (Lane.URGENT_FILE, False), (Lane.FILE, False)],
)
def test_a_partial_gives_way_to_what_is_more_urgent_and_to_nothing_else(lane, presses):
    queue, guess = JobQueue(1), job("a", Lane.PARTIAL)
    assert not queue.must_yield(guess)

    queue._waiting = True
    assert queue.try_put(job("a", lane)) is None

    assert queue.must_yield(guess) == presses


def test_a_partial_gives_way_when_the_queue_is_closed():
    queue = JobQueue(1)
    queue._waiting = True

    queue.close()
    late = job("a", Lane.PARTIAL)

    assert queue.must_yield(late)
    assert queue.try_put(late) is late


@contextmanager
def worker_on(queue, taken):
    """A thread that takes what comes, until the queue is closed."""

    def take_all():
        while found := queue.get():
            taken.append(found)

    thread = threading.Thread(target=take_all)
    thread.start()
    try:
        yield
    finally:
        queue.close()
        thread.join(10)
    assert not thread.is_alive()


def test_a_closed_queue_refuses_but_gives_what_it_holds_and_then_none():
    queue = JobQueue(2)
    (held,) = fill(queue, "a")
    queue.close()
    late = job()

    assert queue.try_put(late) is late
    assert queue.get() is held
    assert queue.get() is None


def test_closing_wakes_a_worker_that_waits():
    queue, got = JobQueue(1), []
    thread = threading.Thread(target=lambda: got.append(queue.get()))
    thread.start()

    queue.close()
    thread.join(10)

    assert got == [None]


def test_clearing_returns_what_was_queued_oldest_first():
    queue = JobQueue(3)
    held = fill(queue, "a", "b", "a")

    assert queue.clear() == held
    assert queue.depth == 0


STEPS = st.lists(st.one_of(st.none(), st.integers(0, 5)), max_size=200)


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 8), STEPS)
def test_nobody_waits_longer_than_the_capacity_whatever_the_others_do(capacity, steps):
    """None takes a job, a number puts one of that stream."""
    queue, taken, put, gone = JobQueue(capacity), 0, {}, set()
    for step in steps:
        if step is not None:
            arriving = job(str(step))
            put[arriving] = taken
            refused = queue.try_put(arriving)
            if refused:
                gone.add(refused)
        elif queue.depth:
            found = take(queue)
            taken += 1
            assert found not in gone
            gone.add(found)
            assert taken - put[found] <= capacity
        assert queue.depth <= capacity

    assert queue.depth == len(put) - len(gone)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 8), STEPS)
def test_a_stream_keeps_its_order(capacity, steps):
    queue = JobQueue(capacity)
    numbers: dict[Job, int] = {}
    last: dict[str, int] = {}
    for step in steps:
        if step is not None:
            arriving = job(str(step))
            numbers[arriving] = len(numbers)
            queue.try_put(arriving)
        elif queue.depth:
            found = take(queue)
            assert numbers[found] > last.get(found.stream, -1)
            last[found.stream] = numbers[found]


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 8), st.integers(1, 20), st.integers(1, 50))
def test_a_flooding_stream_does_not_cost_a_calm_one_its_place(capacity, before, after):
    queue = JobQueue(capacity)
    for _ in range(before):
        queue.try_put(job("flood"))
    calm = job("calm")
    refused = queue.try_put(calm)
    refusals = [queue.try_put(job("flood")) for _ in range(after)]

    assert refused is not calm
    assert calm not in refusals
    assert calm in queue.clear()


class Clock:
    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        return self.now_s


@pytest.mark.parametrize("file_s", [0.2, 1.0, 7.0])
@pytest.mark.parametrize(
    ("lanes", "shares"),
    [
        ({Lane.FINAL, Lane.FILE}, {Lane.FILE: 0.05}),
        ({Lane.FINAL, Lane.URGENT_FILE}, {Lane.URGENT_FILE: 0.05}),
        ({Lane.FINAL, Lane.URGENT_FILE, Lane.FILE}, {Lane.URGENT_FILE: 0.05, Lane.FILE: 0.05}),
        ({Lane.URGENT_FILE, Lane.FILE}, {Lane.FILE: 0.05}),
    ],
    ids=["files", "urgent files", "both", "no streams"],
)
def test_files_get_a_twentieth_of_the_time_however_much_else_there_is(file_s, lanes, shares):
    clock = Clock()
    queue = JobQueue(2, clock)
    spent_s = dict.fromkeys(Lane, 0.0)
    for _ in range(4000):
        for lane in lanes:
            queue.try_put(job(str(lane), lane))
        taken = take(queue)
        took_s = file_s if taken.lane in FILE_LANES else 1.0
        spent_s[taken.lane] += took_s
        clock.now_s += took_s

    for lane, share in shares.items():
        assert spent_s[lane] / sum(spent_s.values()) == pytest.approx(share, abs=0.005)


def test_between_two_files_jobs_no_final_waits_for_more_than_one():
    clock = Clock()
    queue = JobQueue(2, clock)
    order = []
    for _ in range(2000):
        queue.try_put(job("live"))
        for lane in FILE_LANES:
            queue.try_put(job("file", lane))
        order.append(take(queue).lane)
        clock.now_s += 1.0

    assert set(order) == {Lane.FINAL, *FILE_LANES}
    assert not [pair for pair in pairwise(order) if pair[0] in FILE_LANES and pair[1] in FILE_LANES]


def test_a_partial_is_taken_beside_a_file_and_not_beside_anything_else():
    queue = JobQueue(2)
    fill_lane = [job("file", Lane.FILE), job("other", Lane.FILE)]
    queue.try_put(fill_lane[0])
    assert take(queue).lane is Lane.FILE
    queue.try_put(fill_lane[1])

    guess = job("live", Lane.PARTIAL)
    assert queue.idle
    assert queue.try_put(guess) is None
    assert take(queue) is guess
    assert not queue.idle  # it is in hand


def test_a_job_that_nobody_waits_for_any_more_is_taken_out_and_makes_room():
    queue = JobQueue(2)
    first, second = fill(queue, "a", "a")

    assert queue.withdraw(first)
    assert not queue.withdraw(first)
    fill(queue, "b")

    assert take(queue) is second
    assert not queue.withdraw(second)
    assert queue.depth == 1


async def test_a_second_pass_comes_after_all_else_and_then_rests_for_three_times_as_long():
    clock, taken = Clock(), list[Job | None]()
    queue = JobQueue(4, clock)
    passes = [job(stream, Lane.SECOND_PASS) for stream in "ab"]
    for one in (*passes, job(lane=Lane.FILE), job(lane=Lane.FINAL)):
        assert queue.try_put(one) is None

    assert [take(queue).lane for _ in range(3)] == [Lane.FINAL, Lane.FILE, Lane.SECOND_PASS]
    clock.now_s = 2.0
    thread = threading.Thread(target=lambda: taken.append(queue.get()))
    thread.start()
    await until(lambda: queue._waiting, "the other pass to be left where it is")
    final = job()
    assert queue.try_put(final) is None
    await until(lambda: taken)
    thread.join()
    assert taken == [final]
    clock.now_s = 2.0 + 3 * 2.0
    assert take(queue) is passes[1]


def test_what_comes_between_the_end_of_a_job_and_the_next_one_is_not_its_time():
    clock = Clock()
    queue = JobQueue(4, clock)
    for stream in "ab":
        assert queue.try_put(job(stream, Lane.SECOND_PASS)) is None
    take(queue)
    clock.now_s = 2.0
    queue.count_finished()

    clock.now_s = 2.0 + 3 * 2.0  # the second one rests for three times as long as the first one took
    assert take(queue).stream == "b"


def test_a_queue_that_is_closed_makes_no_second_pass():
    queue = JobQueue(4)
    waits = job(lane=Lane.SECOND_PASS)
    assert queue.try_put(waits) is None
    queue.close()

    assert queue.get() is None
    assert queue.clear() == [waits]


def test_beside_a_second_pass_a_partial_finds_a_place_and_a_window_presses():
    queue = JobQueue(4)
    assert queue.try_put(job(lane=Lane.SECOND_PASS)) is None
    second_pass = take(queue)
    assert second_pass.lane is Lane.SECOND_PASS

    assert (queue.idle, queue.must_yield(second_pass)) == (True, False)
    assert queue.try_put(job(lane=Lane.PARTIAL)) is None
    assert queue.try_put(job()) is None
    assert queue.must_yield(second_pass)
