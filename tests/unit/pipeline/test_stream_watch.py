"""Figures of streams: what is reported of a session, how long after its end, and in which pages."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, strategies as st

from transcriber.audio.format import AudioFormat
from transcriber.audio.frame_account import FrameOutcome
from transcriber.audio.session import Gap, Session
from transcriber.audio.window_policy import WindowPolicy
from transcriber.config import load_settings
from transcriber.pipeline.session_output import SessionOutput
from transcriber.pipeline.stream_watch import FLOOR_DBFS, KEPT_S, StreamWatch, dbfs
from transcriber.schema.stream_figures import MAX_MISSING, StreamFigure, StreamFigures
from transcriber.stream_reports import to_pages

RATE = 48_000
AT = datetime(2026, 11, 30, tzinfo=UTC)
FIGURE = StreamFigure(
    stream="s", session="one", state="started", rate=RATE, received_frames=1, level_dbfs=None, speaking=None,
    last_text_at=None, lag_s=0, lost_s=0,
)  # fmt: skip


class Served:
    def __init__(self):
        self.outputs = {}
        self.session, self.stalled = None, False


class Sink:
    def put(self, build, traceparent, rev=0, channel=0):
        build()


def recording(name="one", **policy):
    fmt = AudioFormat(rate=RATE)
    session = Session(name, fmt, WindowPolicy(window_s=5, **policy), None, max_hole_s=60)
    return session, SessionOutput("s", session, load_settings(), Sink(), Sink())


def pcm(value, frames):
    return np.full(frames, value, "<i2").tobytes()


@pytest.fixture
def watched():
    stream = Served()
    session, output = recording(speech_gate=False)
    stream.outputs[session] = output
    return stream, session, output, StreamWatch({"s": stream})


def test_frames_level_and_losses_are_those_of_the_session(watched):
    _, session, output, watch = watched
    session.feed(pcm(16_384, RATE), offset=0)
    session.feed(pcm(16_384, RATE), offset=RATE // 2)  # half of it has come before
    events = session.feed(pcm(3_277, RATE), offset=4 * RATE)
    session.account.settle(FrameOutcome.TRANSCRIBED, 0, 3 * RATE // 2)
    for gap in events[1:2]:
        session.account.settle(gap.outcome, gap.start_frame, gap.frames)

    (figure,) = watch.look(0)

    assert (figure.stream, figure.session, figure.state, figure.rate) == ("s", "one", "started", RATE)
    assert figure.received_frames == 5 * RATE // 2
    assert figure.lost_s == 2.5
    assert figure.level_dbfs == pytest.approx(-20.0, abs=0.3)
    assert (figure.speaking, figure.last_text_at, figure.lag_s) == (None, None, output.lag_s)


def test_what_is_missing_and_what_comes_next_is_named_by_the_publishers_offsets(watched):
    _, session, output, watch = watched
    session.feed(pcm(1, 2 * RATE), offset=7 * RATE)  # what was before, another daemon had
    session.feed(pcm(1, RATE), offset=9 * RATE)
    for number in range(MAX_MISSING + 1):
        for event in session.feed(pcm(1, RATE), offset=(11 + 2 * number) * RATE):
            if isinstance(event, Gap):
                output.gap(event, AT)
    for reason in ("bad_input", "lost_input"):
        output.gap(Gap(session, 0, 5 * (reason == "bad_input"), reason, ()), AT)

    (figure,) = watch.look(0)

    assert figure.next_offset == (12 + 2 * MAX_MISSING) * RATE
    holes = [((12 + 2 * number) * RATE, RATE) for number in range(MAX_MISSING)]
    assert [(one.offset, one.frames) for one in figure.missing] == holes


def test_without_offsets_what_is_missing_is_named_by_frames_of_the_session(watched):
    _, session, output, watch = watched
    session.feed(pcm(1, RATE))
    output.gap(Gap(session, 12, 5, "slow_consumer", ()), AT)

    (figure,) = watch.look(0)

    assert (figure.next_offset, [(one.offset, one.frames) for one in figure.missing]) == (None, [(12, 5)])


def test_offsets_that_count_no_frames_say_nothing_of_what_comes_next(watched):
    _, session, _, watch = watched
    for number in range(5):
        session.feed(pcm(1, RATE // 10), offset=100 * number)  # milliseconds

    assert watch.look(0)[0].next_offset is None


def test_a_state_lasts_until_the_next_that_is_no_flush(watched):
    _, _, output, watch = watched
    output.status("silent")
    output.status("flushed")

    assert watch.look(0)[0].state == "silent"


def test_a_session_is_ended_when_it_is_closed_and_forgotten_after_a_minute(watched):
    stream, session, _, watch = watched
    session.feed(pcm(1_000, RATE), offset=0)
    watch.look(0)
    session.close()
    session.closed = True

    pending = watch.look(1)
    del stream.outputs[session]
    ended, kept, forgotten = watch.look(2), watch.look(2 + KEPT_S - 1), watch.look(2 + KEPT_S)

    assert pending == ended == kept
    assert (ended[0].state, ended[0].received_frames, ended[0].level_dbfs) == ("ended", RATE, None)
    assert forgotten == ()


def test_a_session_that_another_daemon_takes_over_has_not_ended(watched):
    stream, _, _, watch = watched
    watch.look(0)
    stream.outputs.clear()

    assert watch.look(1) == ()


def test_of_a_stream_the_last_session_that_ended_is_kept_beside_the_open_one(watched):
    stream, session, _, watch = watched
    second, output = recording("two", speech_gate=False)
    third, last = recording("three", speech_gate=False)
    for old, new, new_output in ((session, second, output), (second, third, last)):
        watch.look(0)
        old.closed = True
        del stream.outputs[old]
        stream.outputs[new] = new_output
        watch.look(1)

    assert [(figure.session, figure.state) for figure in watch.look(2)] == [("three", "started"), ("two", "ended")]


def test_lag_counts_from_the_arrival_of_what_was_sent(watched):
    _, session, output, watch = watched
    session.feed(pcm(0, RATE), offset=0)
    (gap,) = session.skip("unreadable")[-1:]
    output.gap(gap, datetime.now(UTC) - timedelta(seconds=7))

    (figure,) = watch.look(0)

    assert 7 <= figure.lag_s < 60
    assert figure.last_text_at is None


@pytest.mark.parametrize(("power", "level"), [(1, 0.0), (0.01, -20.0), (0, FLOOR_DBFS), (1e-30, FLOOR_DBFS)])
def test_levels_have_a_floor(power, level):
    assert dbfs(power) == level


@given(names=st.lists(st.text('a"\\ ', min_size=1, max_size=128), max_size=40), room=st.integers(1_000, 8_000))
def test_pages_fit_and_hold_every_stream_once_and_in_order(names, room):
    figures = [FIGURE.model_copy(update={"session": name}) for name in names]

    pages = to_pages(figures, "host-1", AT, room)

    assert all(len(page) <= room for page in pages)
    read = [StreamFigures.model_validate_json(page) for page in pages]
    assert [figure for page in read for figure in page.streams] == figures
    assert [(page.page, page.pages) for page in read] == [(n, len(pages)) for n in range(len(pages))]
