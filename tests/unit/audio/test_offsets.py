"""Offsets that are a little wrong, and holes too short to matter: windows continue, and the account is exact."""

import random
from itertools import pairwise

import numpy as np
import pytest

from transcriber.audio.format import AudioFormat, SampleFormat
from transcriber.audio.frame_account import FrameOutcome
from transcriber.audio.headers import NO_HEADERS, AudioHeaders
from transcriber.audio.offsets import Offsets, OffsetsSnapshot
from transcriber.audio.session import Gap, Window
from transcriber.audio.stream import Stream
from transcriber.audio.window_policy import WindowPolicy

RATE = 16_000
FORMAT = AudioFormat(rate=RATE)
PAYLOAD = RATE // 50
"""20 ms."""


def stream(fmt=FORMAT, policy=None, network=None):
    return Stream(fmt, policy or WindowPolicy(5.0), network, max_hole_s=600, new_id=lambda: "call")


def events_of(offsets, *, frames=PAYLOAD, fmt=FORMAT, policy=None):
    """What becomes of payloads of ``frames`` frames with these offsets."""
    source = stream(fmt, policy)
    payload = bytes(frames * fmt.frame_bytes)
    events = [event for offset in offsets for event in source.feed(payload, AudioHeaders(offset=offset))]
    return [*events, *source.end()]


def gaps(events):
    return [(event.start_frame, event.frames) for event in events if isinstance(event, Gap)]


def session_of(events):
    """The session, once all of it is settled."""
    for event in events:
        if isinstance(event, Gap):
            event.session.account.settle(event.outcome, event.start_frame, event.frames)
    for event in events:
        if isinstance(event, Window):
            event.session.account.settle(FrameOutcome.TRANSCRIBED, event.start_frame, event.frames)
    session = events[-1].session
    session.closed = True
    assert session.complete
    assert session.clock == session.received + session.account[FrameOutcome.LOST]
    return session


def test_a_payload_that_is_lost_is_reported_to_the_frame_and_the_window_continues():
    kept = [number for number in range(500) if number % 50 != 25]

    events = events_of([number * PAYLOAD for number in kept])

    assert gaps(events) == [(number * PAYLOAD, PAYLOAD) for number in range(25, 500, 50)]
    windows = [event for event in events if isinstance(event, Window)]
    assert [(w.start_frame, w.frames, len(w.cut.samples)) for w in windows] == [
        (0, 5 * RATE, 5 * RATE),
        (5 * RATE, 5 * RATE, 5 * RATE),
    ]
    account = session_of(events).account
    assert (account[FrameOutcome.LOST], account[FrameOutcome.TRANSCRIBED]) == (10 * PAYLOAD, 490 * PAYLOAD)


@pytest.mark.parametrize(("lost", "windows"), [(10, 1), (11, 2)])
def test_a_hole_of_200_ms_is_bridged_and_a_longer_one_ends_the_run(lost, windows):
    events = events_of([number * PAYLOAD for number in range(100) if not 40 <= number < 40 + lost])

    assert gaps(events) == [(40 * PAYLOAD, lost * PAYLOAD)]
    assert sum(isinstance(event, Window) for event in events) == windows
    session_of(events)


@pytest.mark.parametrize("sample", SampleFormat)
def test_a_bridge_is_silence_in_every_format(sample):
    fmt = AudioFormat(sample, 8_000, 2)
    source = stream(fmt)
    source.feed(fmt.silence(1_000), AudioHeaders(offset=0))

    source.feed(fmt.silence(1_000), AudioHeaders(offset=2_000))
    (window,) = (event for event in source.end() if isinstance(event, Window))

    assert (window.frames, np.abs(window.cut.samples).max() < 1e-3) == (3_000, True)


def test_samples_that_are_not_finite_for_a_moment_are_dropped_and_the_window_continues():
    fmt = AudioFormat(SampleFormat.F32LE, RATE)
    source = stream(fmt)
    good, bad = fmt.silence(PAYLOAD), np.full(PAYLOAD, np.nan, "<f4").tobytes()

    events = [e for number in range(100) for e in source.feed(bad if number == 50 else good, NO_HEADERS)] + source.end()

    (gap,) = (event for event in events if isinstance(event, Gap))
    assert (gap.start_frame, gap.frames, gap.reason, gap.outcome) == (
        50 * PAYLOAD,
        PAYLOAD,
        "bad_input",
        FrameOutcome.DROPPED,
    )
    (window,) = (event for event in events if isinstance(event, Window))
    assert window.frames == 100 * PAYLOAD
    assert np.isfinite(window.cut.samples).all()
    session = session_of(events)
    assert (session.received, session.account[FrameOutcome.DROPPED]) == (100 * PAYLOAD, PAYLOAD)


def test_a_window_of_nothing_but_a_bridge_is_silence_for_nobody_would_wait_for_it():
    fmt = AudioFormat(SampleFormat.F32LE, RATE)
    source = stream(fmt, WindowPolicy(1.0))

    events = source.feed(fmt.silence(RATE), NO_HEADERS)
    events += source.feed(np.full(PAYLOAD, np.nan, "<f4").tobytes(), NO_HEADERS) + source.end()

    assert [type(event).__name__ for event in events] == ["Started", "Window", "Gap", "Silence", "Ended"]
    session = events[-1].session
    session.account.settle(FrameOutcome.DROPPED, RATE, PAYLOAD)
    session.account.settle(FrameOutcome.SILENT, RATE, PAYLOAD, 0)
    session.closed = True
    assert not session.complete
    session.account.settle(FrameOutcome.TRANSCRIBED, 0, RATE, 0)
    assert session.complete


def test_nothing_is_bridged_before_the_first_frame_nor_after_the_last():
    source = stream()
    events = source.feed(bytes(640), AudioHeaders(offset=100))
    events += source.feed(b"", AudioHeaders(offset=100 + 3 * PAYLOAD, end=True))

    assert [type(event).__name__ for event in events] == ["Started", "Window", "Gap", "Ended"]
    assert gaps(events) == [(PAYLOAD, 2 * PAYLOAD)]


SECOND = range(0, 50 * PAYLOAD, PAYLOAD)


@pytest.mark.parametrize(
    "offsets",
    [
        pytest.param([offset + number % 2 for number, offset in enumerate(SECOND)], id="one frame off"),
        pytest.param([round(offset / RATE, 3) * RATE for offset in SECOND], id="milliseconds"),
        pytest.param([round(offset / RATE, 2) * RATE + 7 for offset in SECOND], id="hundredths"),
        pytest.param([offset * 1.0002 for offset in SECOND], id="200 ppm fast"),
        pytest.param([offset * 0.9998 for offset in SECOND], id="200 ppm slow"),
        pytest.param([2**32 - 8_000 + offset for offset in SECOND], id="beyond 32 bits"),
        pytest.param([(2**32 - 8_000 + offset) % 2**32 for offset in SECOND], id="wrapped at 32 bits"),
        pytest.param(
            [(2**32 - 7_990 + offset - 9 * (number % 2)) % 2**32 for number, offset in enumerate(SECOND)],
            id="wrapped at 32 bits, a little early",
        ),
    ],
)
def test_offsets_that_are_a_little_wrong_are_no_holes_and_no_echoes(offsets):
    events = events_of([round(offset) for offset in offsets])

    assert gaps(events) == []
    assert session_of(events).received == 50 * PAYLOAD


@pytest.mark.parametrize("frames", [1_024, 441])
def test_offsets_of_44100_hz_in_whole_milliseconds_lose_nothing(frames):
    fmt = AudioFormat(rate=44_100)
    offsets = [round(round(number * frames / 44.1) * 44.1) for number in range(400)]

    events = events_of(offsets, frames=frames, fmt=fmt)

    assert gaps(events) == []
    assert session_of(events).received == 400 * frames


def test_a_clock_that_drifts_for_an_hour_cuts_nothing():
    payload = RATE // 10
    offsets = [round(number * payload * 1.0002) for number in range(36_000)]

    events = events_of(offsets, frames=payload)

    assert gaps(events) == []
    assert session_of(events).received == 36_000 * payload


def test_a_payload_lost_on_a_clock_that_drifts_is_reported():
    offsets = [round(number * PAYLOAD * 1.0002) for number in range(3_000) if number % 100 != 99]

    events = events_of(offsets)

    lost = gaps(events)
    assert len(lost) == 29
    assert all(abs(frames - PAYLOAD) <= 1 for _, frames in lost)
    session_of(events)


@pytest.mark.parametrize("most_ms", [5, 15, 30])
def test_a_clock_that_jitters_costs_no_audio_and_hardly_a_gap(most_ms):
    chance = random.Random(most_ms)
    jittered = [offset + chance.uniform(0, most_ms) * RATE / 1000 for offset in range(0, 3_000 * PAYLOAD, PAYLOAD)]
    offsets = [round(max(pair)) for pair in pairwise([0, *jittered])]  # a clock does not go back

    events = events_of(offsets)

    assert len(gaps(events)) <= 3
    assert session_of(events).received >= 2_995 * PAYLOAD


def test_what_jitter_hides_is_reported_once_it_adds_up():
    offsets = [number * PAYLOAD + (number % 2) * 100 for number in range(2_000) if number % 20 != 19]

    events = events_of(offsets)

    missing = 2_000 // 20 * PAYLOAD
    assert abs(sum(frames for _, frames in gaps(events)) - missing) < 0.1 * missing
    session_of(events)


@pytest.mark.parametrize("unit", [3, 2, 1.5, 1_000 / RATE, 1 / PAYLOAD], ids=lambda unit: f"{unit:g}")
def test_offsets_in_another_unit_are_read_as_such_after_a_few_payloads(unit):
    events = events_of([round(number * PAYLOAD * unit) for number in range(500) if number != 250])

    session = session_of(events)
    assert session.received >= 495 * PAYLOAD
    assert [gap for gap in gaps(events) if gap[0] > 10 * PAYLOAD] == [gaps(events)[-1]]
    assert gaps(events)[-1][1] == PAYLOAD
    assert session.offsets.unit == pytest.approx(unit)


def test_offsets_that_do_not_count_cost_three_payloads_and_no_more():
    events = events_of([7] * 500)

    assert gaps(events) == []
    assert session_of(events).received == 498 * PAYLOAD


def test_what_arrives_twice_is_transcribed_once_although_offsets_are_a_little_wrong():
    chance = random.Random(1)
    offsets = [number * PAYLOAD + chance.randint(0, 15) for number in range(500)]

    events = events_of([offset for offset in offsets for _ in range(2)])

    assert gaps(events) == []
    assert session_of(events).received == 500 * PAYLOAD


def test_our_own_count_is_exact():
    offsets = Offsets(FORMAT, OffsetsSnapshot(0, exact=True))

    assert [offsets.place(offset, 500, 1_000) for offset in (1_000, 1_001, 990)] == [0, 1, -10]
