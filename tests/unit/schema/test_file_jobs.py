"""The job desk and the feed of jobs, on a real JetStream."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings as hypothesis_settings, strategies as st
from pydantic import ValidationError

from transcriber.files.job_store import StoredRecord
from transcriber.schema.file_jobs import WINDOWS_FOR_AN_ATTEMPT, JobRecord, Submission, most_attempts, new_job_id
from transcriber.schema.messages import JobState

WINDOW_S = 25.0


@given(st.integers(1, 100), st.integers(1, 9), st.data())
@hypothesis_settings(max_examples=100, deadline=None)
def test_file_has_attempts_for_two_deadly_windows_and_for_one_more_wherever_it_has_got_on(tries, more, data):
    """Each kills the daemon that finds it, and then as many as a window has tries."""
    record = JobRecord(
        submission=Submission(object="a"), state="queued", size=1, digest="", submitted_at=datetime.now(UTC)
    )
    deaths, done_s = tries + 1, 0.0
    for number in range(2 + more):
        for _ in range(deaths):
            record = begun(record, done_s)
            assert record.attempts <= most_attempts(tries)
        done_s += WINDOW_S * (data.draw(st.integers(1, 5)) if number < 1 else WINDOWS_FOR_AN_ATTEMPT * deaths)

    assert begun(record, done_s).attempts <= most_attempts(tries)


@given(st.integers(1, 20), st.integers(1, WINDOWS_FOR_AN_ATTEMPT - 1))
@hypothesis_settings(max_examples=50, deadline=None)
def test_file_with_a_deadly_window_after_every_few_is_given_up_after_three_of_them(tries, between):
    record = JobRecord(
        submission=Submission(object="a"), state="queued", size=1, digest="", submitted_at=datetime.now(UTC)
    )
    for number in range(2):
        for _ in range(tries + 1):
            record = begun(record, number * between * WINDOW_S)
    record = begun(record, 2 * between * WINDOW_S)

    assert record.attempts == most_attempts(tries)
    assert begun(record, 2 * between * WINDOW_S).attempts > most_attempts(tries)


def begun(record, done_s):
    return record.model_copy(update={"attempts": record.next_attempt(done_s, WINDOW_S), "from_s": done_s})


STATES: list[JobState] = ["queued", "running", "done", "failed", "cancelled"]


@given(
    st.sampled_from(STATES),
    st.floats(0, 1e6),
    st.datetimes(timezones=st.just(UTC)),
    st.text(max_size=20),
)
@hypothesis_settings(max_examples=50, deadline=None)
def test_record_is_the_same_after_it_was_stored(state, done_s, at, error):
    record = JobRecord(
        submission=Submission(object="a", job=new_job_id()),
        state=state,
        size=1,
        digest="",
        submitted_at=at,
        done_s=done_s,
        error=error,
    )

    assert JobRecord.model_validate_json(record.model_dump_json()) == record
    assert StoredRecord(record, 1) == StoredRecord(JobRecord.model_validate_json(record.model_dump_json()), 1)


EARLIER_FIELDS = {
    *(
        "submission",
        "state",
        "size",
        "digest",
        "submitted_at",
        "started_at",
        "ended_at",
        "attempts",
        "from_s",
        "done_s",
    ),
    *("total_s", "eta_s", "error", "suppressed", "results", "instance"),
}
"""All that a daemon before urgent files knows; it refuses a record with another."""


def test_an_earlier_daemon_can_read_what_is_not_urgent():
    record = JobRecord(
        submission=Submission(object="a"), state="queued", size=1, digest="", submitted_at=datetime.now(UTC)
    )
    urgent = record.model_copy(update={"urgent": True, "traceparent": "00-a"})

    assert set(json.loads(record.stored())) == EARLIER_FIELDS
    assert [JobRecord.model_validate_json(one.stored()) for one in (record, urgent)] == [record, urgent]


def test_fields_of_a_later_version_are_ignored_in_a_record_and_refused_in_a_submission():
    record = JobRecord(
        submission=Submission(object="a"), state="queued", size=1, digest="", submitted_at=datetime.now(UTC)
    )

    assert JobRecord.model_validate(record.model_dump() | {"later": 1}) == record
    with pytest.raises(ValidationError, match="later"):
        Submission.model_validate({"object": "a", "later": 1})
