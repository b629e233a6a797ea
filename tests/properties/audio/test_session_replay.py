"""A daemon that resumes a recording cuts the same windows as if nothing had happened, and its account is the same."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from random import Random
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import example, given, settings, strategies as st

from tests.support.audio_strategies import AUDIO, CUTTINGS, FORMATS, SIZES, Audio, sliced
from tests.support.synthetic_speech import BEAT, LoudnessDetector, joined, silence, speech
from transcriber.audio.contiguous import PRE_ROLL_S, ContiguousRun, ReplayableRun
from transcriber.audio.format import AudioFormat, SampleFormat
from transcriber.audio.frame_account import FrameAccount, FrameOutcome
from transcriber.audio.headers import NO_HEADERS
from transcriber.audio.offsets import OffsetsSnapshot
from transcriber.audio.resampler import TARGET_SAMPLE_RATE, output_samples
from transcriber.audio.resume_point import ChannelResumePoint, SessionResumePoint, replay_from
from transcriber.audio.session import Flushed, Gap, Session, Silence, Window
from transcriber.audio.stream import Ended, Started, Stream
from transcriber.audio.vad.detector import FRAME_SAMPLES
from transcriber.audio.vad.silero import Silero
from transcriber.audio.window_cutter import WindowCutter
from transcriber.audio.window_policy import WindowPolicy
from transcriber.testing.speech import SPEECH_FORMAT, load_speech

EAR = LoudnessDetector()
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
FRESH = CUTTINGS.map(lambda policy: replace(policy, replayable=True))
IN_CHORUS = AUDIO.map(lambda audio: audio._replace(channels=audio.channels[:1] * 2))
"""Both channels speak at once, and so are cut at once."""
ODD_FORMATS = FORMATS | st.builds(AudioFormat, st.just(SampleFormat.S16LE), st.sampled_from([8_001, 12_345, 31_250]))


class Step(NamedTuple):
    """What comes next: ``kind`` is audio, unfit, bad, pause, flush, lost or close."""

    kind: str
    payload: bytes = b""
    offset: int | None = None
    captured_at: datetime | None = None


class KeptEvent(NamedTuple):
    """An event, and what was kept with it."""

    event: Window | Silence | Gap | Flushed
    step: int
    kept: str


class Fed(NamedTuple):
    """Where a step begins, before and after the hole before it, and ends; what came before it, and its offsets."""

    before: int
    start: int
    end: int
    received: int
    offsets: OffsetsSnapshot | None


class Recording:
    """Hands steps to a session, and keeps what another one needs to resume; as JSON, so that no object is shared."""

    def __init__(self, session, skipped_at=None, flushed_at=None):
        self.session = session
        self.emitted: list[KeptEvent] = []
        self.skipped_at, self.flushed_at = skipped_at, flushed_at

    def take(self, number, step, *, lost=True):
        session = self.session
        before, received, offsets = session.clock, session.received, known(session)
        match step.kind:
            case "bad":
                events = session.skip("it is broken")
            case "pause":
                events = session.pause()
            case "flush":
                events = session.flush()
            case "unfit":
                events = session.feed(step.payload, offset=step.offset, unusable="it is broken")
            case "close":
                events = session.close()
            case kind:
                reason = "slow_consumer" if kind == "lost" and lost else None
                events = session.feed(
                    step.payload, offset=step.offset, captured_at=step.captured_at, lost_before=reason
                )
        places = [event.places for event in events if not isinstance(event, Flushed)]
        assert session.places == (places[-1] if places else session.places)
        for event in events:
            if isinstance(event, Flushed):
                self.flushed_at = event.frame
                self.emitted.append(KeptEvent(event, number, self._kept(event, session.places)))
                continue
            assert event.frames or isinstance(event, Gap)
            settle(session, event)
            if event.flushed:
                self.flushed_at = event.start_frame + event.frames
            if isinstance(event, Gap) and event.reason == "bad_input" and not event.frames:
                self.skipped_at = event.start_frame
            self.emitted.append(KeptEvent(event, number, self._kept(event, event.places)))
        return Fed(before, session.clock - (session.received - received), session.clock, received, offsets)

    def _kept(self, event, places):
        start = min(replay_from(place, event.session.rate) for place in places)
        capture = event.session.capture(start)
        return json.dumps(
            {
                "places": places,
                "account": event.session.account.snapshot(),
                "captured": capture and [capture[0], capture[1].isoformat()],
                "segments": event.session.segments,
                "skipped_at": self.skipped_at,
                "flushed_at": self.flushed_at,
            }
        )


def places_of(kept):
    places = json.loads(kept)["places"]
    return tuple(ChannelResumePoint(*place)._replace(settings=tuple(map(tuple, place[-1]))) for place in places)


def settle(session, event):
    match event:
        case Silence():
            outcome = FrameOutcome.SILENT
        case Gap():
            outcome = event.outcome
        case _:
            outcome = FrameOutcome.DROPPED if event.number % 3 == 2 else FrameOutcome.TRANSCRIBED
            session.segments += outcome is FrameOutcome.TRANSCRIBED
    session.account.settle(outcome, event.start_frame, event.frames, event.channel)


def known(session):
    return session.offsets.snapshot if session.offsets else None


def bookmark(kept, clock, received, offsets):
    said: dict[str, Any] = json.loads(kept)
    captured = said["captured"]
    return SessionResumePoint(
        clock,
        places_of(kept),
        FrameAccount.restored(said["account"]),
        received,
        offsets,
        captured and (captured[0], datetime.fromisoformat(captured[1])),
        said["segments"],
        said["skipped_at"],
        said["flushed_at"],
    )


def described(event):
    """All of an event but its session."""
    if isinstance(event, Flushed):
        return "Flushed", event.frame
    place = type(event).__name__, event.channel, event.start_frame, event.frames, event.places, event.flushed
    match event:
        case Window(cut=cut):
            speech_heard = None if cut.speech is None else cut.speech.tobytes()
            return (
                *place,
                event.number,
                event.captured_at,
                (cut.lead_s, cut.tail_s, cut.next_lead, cut.goes_on, cut.speech_final, cut.silent, speech_heard),
                cut.samples.tobytes(),
            )
        case Gap():
            return (*place, event.reason, event.bridged, event.detail)
    return place


def check_that_any_event_can_be_resumed_from(steps, new_session, wanted, before_step=lambda _: None):
    """After each of the events that ``wanted`` picks, another session says what the first one said.

    ``before_step`` is called with the number of the furthest step so far.
    """
    before_step(0)
    first, fed = Recording(new_session(None)), []
    for number, step in enumerate(steps):
        before_step(number)
        fed.append(first.take(number, step))
    rate = first.session.rate
    for index in wanted(len(first.emitted)):
        _, step, kept = first.emitted[index]
        places = places_of(kept)
        start = min(replay_from(place, rate) for place in places)
        # A payload that is a gap is not needed once that is published.
        coming = step + (steps[step].kind == "unfit" and start >= fed[step].end)
        again = min(coming, next((n for n, one in enumerate(fed) if one.end > start), coming))
        clock = fed[again].start if start >= fed[again].start else fed[again].before
        mark = bookmark(kept, clock, fed[again].received, fed[again].offsets)
        before_step(step)
        other = Recording(new_session(mark), json.loads(kept)["skipped_at"], mark.flushed_at)
        assert other.session.places == places
        # A daemon that resumes knows whether the gap before its first message was published.
        to_report = any(
            isinstance(later.event, Gap) and later.step == again and later.event.reason == "slow_consumer"
            for later in first.emitted[index + 1 :]
        )
        for number in range(again, len(steps)):
            # A window that is due may wait for the next payload, and then the one after it has that moment's settings. The other session
            # may not have to wait; a daemon resumes after the last event that was published, so nobody sees the difference.
            coming = [later.step for later in first.emitted[index + 1 + len(other.emitted) :][:1]]
            before_step(max(step, number, *coming))
            other.take(number, steps[number], lost=number > again or to_report)

        expected = [described(later.event) for later in first.emitted[index + 1 :]]
        assert [described(one.event) for one in other.emitted] == expected
        assert other.session.account.snapshot() == first.session.account.snapshot()
        assert (other.session.clock, other.session.received) == (first.session.clock, first.session.received)
        assert other.session.segments == first.session.segments
        assert known(other.session) == known(first.session)
    assert first.session.clock == first.session.received + first.session.account[FrameOutcome.LOST]
    return [one.event for one in first.emitted]


@st.composite
def happenings(draw):
    """What befalls a recording, payload by payload: holes, echoes, pauses and rubbish, mostly nothing."""
    kinds = st.sampled_from(["audio"] * 12 + ["hole", "echo", "bad", "unfit", "pause", "flush", "flush", "lost"])
    return draw(
        st.lists(st.tuples(kinds, st.integers(1, 4_000) | st.integers(1, 90_000), st.booleans()), max_size=60)
    ), draw(st.booleans())


def steps_of(payload, fmt, sizes, befallen):
    """``befallen`` says what happens before each payload."""
    steps, clock, (happened, with_offsets) = [], 0, befallen
    last = b""
    for number, piece in enumerate(sliced(payload, fmt, sizes)):
        kind, size, timed = happened[number] if number < len(happened) else ("audio", 0, False)
        match kind:
            case "hole":
                clock += size
            case "echo":
                steps.append(Step("audio", last, 777 + clock - len(last) // fmt.frame_bytes if with_offsets else None))
                clock += 0 if with_offsets else len(last) // fmt.frame_bytes
            case "bad" | "pause" | "flush":
                steps += [Step(kind)] * (1 + size % 2)
        captured_at = NOON + timedelta(milliseconds=clock) if timed else None
        offset = 777 + clock if with_offsets else None
        steps.append(Step(kind if kind in {"lost", "unfit"} else "audio", piece, offset, captured_at))
        clock, last = clock + len(piece) // fmt.frame_bytes, piece
    return [*steps, Step("close")]


@settings(max_examples=60, deadline=None)
@given(AUDIO | IN_CHORUS, ODD_FORMATS, FRESH, SIZES, happenings(), st.randoms(use_true_random=False))
def test_a_daemon_that_resumes_after_any_event_publishes_all_that_follows_it(
    audio, fmt, policy, sizes, befallen, chance
):
    steps = steps_of(audio.payload(fmt), fmt, sizes, befallen)

    check_that_any_event_can_be_resumed_from(
        steps,
        lambda mark: Session("call", fmt, policy, EAR, max_hole_s=600, bookmark=mark),
        lambda events: chance.sample(range(events), min(events, 4)),
    )


class ChangingPolicies:
    """Policies of which another one is the latest every few steps."""

    def __init__(self, policy, changes, every):
        changed = [(("number", n), replace(policy, **change)) for n, change in enumerate(changes, 1)]
        self._known = {(): policy} | {(name,): replace(one, changes=(name,)) for name, one in changed}
        self._every, self._step = every, 0

    def at(self, step):
        self._step = step

    def latest(self):
        return list(self._known.values())[self._step // self._every % len(self._known)]

    def policy(self, changes):
        return self._known[changes]


CHANGES = st.fixed_dictionaries(
    {
        "endpoint_s": st.sampled_from([0.0, 0.3, 0.6]),
        "speech_gate": st.booleans(),
        "speech_threshold": st.sampled_from([0.2, 0.5, 0.9]),
        "left_context_s": st.sampled_from([1.0, 2.0, 4.0]),
    }
)


@settings(max_examples=60, deadline=None)
@given(
    AUDIO | IN_CHORUS,
    ODD_FORMATS,
    FRESH,
    st.lists(CHANGES, min_size=1, max_size=3),
    st.integers(1, 9),
    SIZES,
    happenings(),
    st.randoms(use_true_random=False),
)
@example(  # the second window is due as the first one ends, which a new session finds a payload earlier
    Audio(channels=([("silence", 1.0), ("syllables", 3.0), ("silence", 1.0), ("silence", 1.0)], []), seed=0),
    AudioFormat(SampleFormat.S16LE, 16_000, 1),
    WindowPolicy(5.0, quiet_cut=True, speech_gate=False, replayable=True, left_context_s=1.0),
    [
        {"endpoint_s": 0.0, "speech_gate": False, "speech_threshold": 0.2, "left_context_s": 1.0},
        {"endpoint_s": 0.3, "speech_gate": False, "speech_threshold": 0.2, "left_context_s": 1.0},
    ],
    1,
    [9_000],
    ([], False),
    Random(0),
)
def test_settings_that_change_meanwhile_change_nothing_of_that(
    audio, fmt, policy, changes, every, sizes, befallen, chance
):
    # Of channels apart a successor cuts all windows that are due at once: the next ones may have the settings of another moment.
    policy = replace(policy, split_channels=False)
    if not policy.left_context_s:  # it is never switched on or off
        changes = [change | {"left_context_s": 0.0} for change in changes]
    policies = ChangingPolicies(replace(policy, always_detect=True), changes, every)

    events = check_that_any_event_can_be_resumed_from(
        steps_of(audio.payload(fmt), fmt, sizes, befallen),
        lambda mark: Session("call", fmt, policies, EAR, max_hole_s=600, bookmark=mark),
        lambda events: chance.sample(range(events), min(events, 4)),
        policies.at,
    )

    for one in events:
        if isinstance(one, Window):
            assert one.policy in policies._known.values()


@settings(max_examples=60, deadline=None)
@given(
    AUDIO | IN_CHORUS,
    ODD_FORMATS,
    CUTTINGS,
    st.lists(CHANGES, min_size=1, max_size=3),
    st.integers(1, 9),
    SIZES,
    happenings(),
)
def test_a_live_session_is_tiled_whatever_changes_meanwhile(audio, fmt, policy, changes, every, sizes, befallen):
    if not policy.left_context_s:
        changes = [change | {"left_context_s": 0.0} for change in changes]
    policies = ChangingPolicies(replace(policy, always_detect=True), changes, every)
    recording = Recording(Session("call", fmt, policies, EAR, max_hole_s=600))

    for number, step in enumerate(steps_of(audio.payload(fmt), fmt, sizes, befallen)):
        policies.at(number)
        recording.take(number, step)

    session = recording.session
    assert session.account.settled == session.clock == session.received + session.account[FrameOutcome.LOST]
    for kept in recording.emitted:
        if isinstance(kept.event, Window):
            cut = kept.event.cut
            whole = len(cut.samples) - (cut.lead_s + cut.tail_s) * TARGET_SAMPLE_RATE
            assert abs(whole - kept.event.frames * TARGET_SAMPLE_RATE / fmt.rate) <= 2


def test_with_the_real_network_on_real_speech_too():
    pieces = [piece for recording in load_speech()[:3] for piece in (bytes(2 * 30_000), recording.pcm)]
    payload, network = b"".join(pieces), Silero()
    policy = WindowPolicy(5.0, quiet_cut=True, endpoint_s=0.5, speech_gate=True, replayable=True)
    steps = [Step("audio", piece) for piece in sliced(payload, SPEECH_FORMAT, [960])]
    steps.insert(700, Step("pause"))

    events = check_that_any_event_can_be_resumed_from(
        [*steps, Step("close")],
        lambda mark: Session("call", SPEECH_FORMAT, policy, network, max_hole_s=600, bookmark=mark),
        lambda count: range(0, count, 3),
    )

    kinds = [type(event) for event in events]
    assert kinds.count(Window) > 6
    assert Silence in kinds
    assert any(event.cut.speech_final for event in events if isinstance(event, Window))


def fresh_cuts(payload, fmt, policy, network, sizes):
    run = ReplayableRun(fmt, policy, network)
    found = [one for piece in sliced(payload, fmt, sizes) for one in run.push(piece, eager=True)]
    return found + run.flush()


def described_cut(one):
    channel, cut = one
    heard = cut.samples.tobytes(), None if cut.speech is None else cut.speech.tobytes()
    return channel, cut.start, cut.frames, cut.lead_s, cut.tail_s, cut.goes_on, cut.speech_final, cut.silent, heard


@settings(max_examples=60, deadline=None)
@given(AUDIO | IN_CHORUS, ODD_FORMATS, FRESH, SIZES, SIZES)
def test_the_slices_change_nothing_not_even_the_order_of_the_channels(audio, fmt, policy, sizes, other_sizes):
    payload = audio.payload(fmt)

    one, other = (fresh_cuts(payload, fmt, policy, EAR, slices) for slices in (sizes, other_sizes))

    assert list(map(described_cut, one)) == list(map(described_cut, other))


@settings(max_examples=60, deadline=None)
@given(AUDIO, FORMATS, FRESH.filter(lambda policy: not policy.needs_detector), SIZES)
def test_without_a_detector_windows_are_those_of_a_live_run(audio, fmt, policy, sizes):
    payload = audio.payload(fmt, apart=policy.split_channels)
    live = ContiguousRun(fmt, replace(policy, replayable=False), None)

    expected = [*live.push(payload, eager=True), *live.flush()]
    found = fresh_cuts(payload, fmt, policy, None, sizes)

    # Where all is equally quiet, what the resampler makes of the run's last bit can tip the balance.
    if not policy.quiet_cut:
        assert sorted((channel, cut.start, cut.frames) for channel, cut in found) == sorted(
            (channel, cut.start, cut.frames) for channel, cut in expected
        )
    for channel in {channel for channel, _ in expected}:
        assert sum(cut.frames for where, cut in found if where == channel) == len(payload) // fmt.frame_bytes


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.02, 0.3, 0.8]), st.integers(1, 40)), min_size=1, max_size=25),
    st.sampled_from([8_000, 16_000, 44_100, 48_000]),
    st.booleans(),
    st.floats(0.5, 3),
)
def test_a_cutter_can_begin_at_any_window_and_keeps_nothing_from_before_it(levels, rate, quiet, window_s):
    samples = joined(*(level * speech(beats, seed) for seed, (level, beats) in enumerate(levels)))
    samples = samples[: output_samples(len(samples) * rate // TARGET_SAMPLE_RATE, rate)]
    frames = len(samples) * rate // TARGET_SAMPLE_RATE
    policy = WindowPolicy(window_s, quiet_cut=quiet)
    whole = WindowCutter(rate, policy, None)
    cuts = whole.push(samples) + whole.flush(np.empty(0, np.float32), frames)

    for before, after in pairwise(cuts):
        late = WindowCutter(rate, policy, None, cut=after.start, lead=before.next_lead)
        found = [cut for piece in np.array_split(samples, 7) for cut in late.push(piece)]
        found += late.flush(np.empty(0, np.float32), frames)

        expected = [cut for cut in cuts if cut.start >= after.start]
        assert [(cut.start, cut.frames, cut.lead_s, cut.tail_s) for cut in found] == [
            (cut.start, cut.frames, cut.lead_s, cut.tail_s) for cut in expected
        ]
        np.testing.assert_array_equal(found[0].samples, expected[0].samples)


@pytest.mark.parametrize(
    ("rate", "grid"), [(48_000, 1_536), (44_100, 7_056), (16_000, 512), (8_000, 256), (8_001, 4 * 8_001)]
)
def test_audio_is_replayed_from_a_place_where_samples_and_beats_begin(rate, grid):
    run_start = 1_234_567
    for frame in range(0, 60 * rate, 997 * 7):
        begin = replay_from(ChannelResumePoint(run_start + frame, rate // 2, run_start, 5), rate) - run_start

        wanted = frame - rate // 2 - PRE_ROLL_S * rate
        assert begin % grid == 0
        assert output_samples(begin, rate) % FRAME_SAMPLES == 0
        assert begin == 0 if wanted < 0 else wanted - grid < begin <= wanted


class CountingEar(LoudnessDetector):
    """Counts the frames that it gets."""

    rows = 0

    def __call__(self, rows, state):
        self.rows += len(rows)
        return super().__call__(rows, state)


def pcm(samples):
    return np.clip(samples * 2**15, -(2**15), 2**15 - 1).astype("<i2").tobytes()


def test_a_window_does_not_wait_for_the_next_ones_ears():
    fmt, ear = AudioFormat(rate=TARGET_SAMPLE_RATE), CountingEar()
    run = ReplayableRun(fmt, WindowPolicy(10.0, endpoint_s=0.5, replayable=True), ear)
    heard = []

    for piece in sliced(pcm(joined(speech(100), silence(50))), fmt, [320]):
        before = ear.rows
        heard.append((len(run.push(piece, eager=True)), ear.rows - before))

    at = next(number for number, (found, _) in enumerate(heard) if found)
    assert heard[at][1] <= 4
    assert heard[at + 1][1] > 40


def stereo(policy):
    fmt = AudioFormat(rate=TARGET_SAMPLE_RATE, channels=2)
    return fmt, Session("call", fmt, policy, EAR, max_hole_s=600)


def until_somebody_is_cut(session, samples):
    """Feed both channels the same; returns the first events."""
    pieces = sliced(pcm(np.repeat(samples, 2)), session.format, [320])
    return next(events for piece in pieces if (events := session.feed(piece)))


def test_a_payload_that_cannot_be_read_comes_after_the_windows_before_it():
    _, session = stereo(WindowPolicy(10.0, endpoint_s=0.5, split_channels=True, replayable=True))

    first = until_somebody_is_cut(session, joined(speech(100), silence(50)))
    events = session.skip("it is broken")

    assert [event.channel for event in first] == [0]
    assert [(type(event), event.channel) for event in events] == [(Window, 1), (Gap, None)]


def test_a_pause_right_after_a_window_of_all_channels_ends_no_run():
    fmt, session = stereo(WindowPolicy(1.0, split_channels=True, replayable=True))

    first = until_somebody_is_cut(session, speech(100))
    events = session.pause()

    assert [event.channel for event in first] == [0]
    assert [event.channel for event in events] == [1]
    assert events[-1].places == (ChannelResumePoint(fmt.rate, 0, 0, 1),) * 2


def test_rubbish_that_was_reported_is_not_reported_again():
    fmt, policy = AudioFormat(rate=TARGET_SAMPLE_RATE), WindowPolicy(10.0, replayable=True)
    mark = SessionResumePoint(0, (ChannelResumePoint(0, 0, 0, 0),), FrameAccount(1), skipped_at=640)
    session = Session("call", fmt, policy, None, max_hole_s=600, bookmark=mark)
    emitted = []

    for _ in range(4):
        session.feed(bytes(640))
        emitted.append(len(session.skip("it is broken")))

    assert emitted == [0, 0, 1, 1]


def test_a_cutter_that_cuts_afresh_gives_one_window_at_a_time():
    samples = speech(200)
    cutter = WindowCutter(TARGET_SAMPLE_RATE, WindowPolicy(1.0, replayable=True), None)

    found = cutter.push(samples)

    assert [(cut.start, cut.frames) for cut in found] == [(0, TARGET_SAMPLE_RATE)]
    assert len(cutter.flush(np.empty(0, np.float32), len(samples))) == 1


def test_long_payloads_are_cut_as_they_come_all_the_same():
    fmt = AudioFormat(rate=TARGET_SAMPLE_RATE)
    run = ReplayableRun(fmt, WindowPolicy(1.0, replayable=True), None)

    found = [len(run.push(bytes(2 * 10 * fmt.rate), eager=True)) for _ in range(5)]

    assert all(9 <= some <= 11 for some in found)
    assert run.open_frames <= fmt.rate


def test_only_so_much_audio_is_kept_as_has_to_be_read_again():
    fmt = AudioFormat(rate=44_100, channels=2)
    window_s, most = 3.0, 0
    run = ReplayableRun(
        fmt, WindowPolicy(window_s, quiet_cut=True, speech_gate=True, split_channels=True, replayable=True), EAR
    )

    for _ in range(1_000):
        run.push(bytes(882 * fmt.frame_bytes), eager=True)
        most = max(most, len(run._kept))

    grid_s, late_s = 7_056 / 44_100, 0.3
    assert most <= (window_s + PRE_ROLL_S + grid_s + late_s) * fmt.rate * fmt.frame_bytes
    assert most > PRE_ROLL_S * fmt.rate * fmt.frame_bytes


def test_the_open_window_can_be_looked_at_at_any_time():
    fmt = AudioFormat(rate=TARGET_SAMPLE_RATE)
    session = Session("call", fmt, WindowPolicy(2.0, replayable=True), EAR, max_hole_s=600)
    said = np.random.default_rng(1).uniform(-0.5, 0.5, 6 * fmt.rate).astype(np.float32)
    numbers = []

    for piece in sliced(pcm(said), fmt, [1_600]):
        session.feed(piece)
        cutter = session.cutter(0)
        if cutter.open_s > 0:  # else this detector has had no frame
            window = session.open_window(0)
            numbers.append(window.number)
            assert window.start_frame == session.places[0].frame
            assert window.start_frame + window.frames <= session.clock
            np.testing.assert_allclose(
                window.cut.samples,
                said[window.start_frame : window.start_frame + window.frames],
                atol=1e-4,
            )

    assert sorted(set(numbers)) == [0, 1, 2]


def test_a_stream_resumes_with_a_session_and_its_number_of_finals():
    fmt, policy = AudioFormat(rate=TARGET_SAMPLE_RATE), WindowPolicy(1.0, replayable=True)
    payload = pcm(hiss := np.random.default_rng(0).uniform(-0.1, 0.1, fmt.rate * 5).astype(np.float32))
    mark = SessionResumePoint(
        0, (ChannelResumePoint(fmt.rate, 0, 0, 1),), FrameAccount.restored(one_second_transcribed(fmt.rate)), segments=1
    )
    session = Session("call", fmt, policy, None, max_hole_s=600, bookmark=mark)
    stream = Stream(fmt, policy, None, max_hole_s=600, new_id=lambda: "other", session=session)

    events = stream.feed(payload, NO_HEADERS, eager=True) + stream.end()

    assert not any(isinstance(event, Started) for event in events)
    windows = [event for event in events if isinstance(event, Window)]
    assert [(w.number, w.start_frame, w.frames) for w in windows] == [
        (number, number * fmt.rate, fmt.rate) for number in (1, 2, 3, 4)
    ]
    np.testing.assert_allclose(windows[0].cut.samples, hiss[fmt.rate : 2 * fmt.rate], atol=1e-4)
    assert events[-1] == Ended(session)
    assert (session.received, session.segments) == (5 * fmt.rate, 1)


def one_second_transcribed(rate):
    account = FrameAccount(1)
    account.settle(FrameOutcome.TRANSCRIBED, 0, rate)
    return account.snapshot()


def test_after_a_run_all_channels_resume_at_the_clock_and_after_a_hole_behind_it():
    fmt = AudioFormat(rate=TARGET_SAMPLE_RATE, channels=2)
    policy = WindowPolicy(6.0, speech_gate=True, split_channels=True, replayable=True)
    session = Session("call", fmt, policy, EAR, max_hole_s=600)
    both = np.stack([joined(speech(60), silence(100)), joined(silence(100), speech(60))], axis=1)
    payload, whole = pcm(both), 160 * BEAT

    session.feed(payload, offset=0)
    events = session.feed(payload[: 100 * fmt.frame_bytes], offset=whole + 4_000)

    *_, before, last, gap = events
    assert isinstance(gap, Gap)
    assert gap.places == tuple(ChannelResumePoint(whole + 4_000, 0, whole + 4_000, number) for number in (1, 2))
    assert last.places == tuple(ChannelResumePoint(whole, 0, whole, number) for number in (1, 2))
    assert {place.run_start for place in before.places} == {0}
