"""Clock, holes, overlaps and sessions; the account is exact whatever comes."""

import io
from datetime import UTC, datetime, timedelta
from itertools import count

import numpy as np
import pytest
import soundfile
from hypothesis import assume, given, settings, strategies as st

from tests.support.synthetic_speech import LoudnessDetector, joined, silence, speech
from transcriber.audio.codecs.pcm_payload import IgnoredPart
from transcriber.audio.format import AudioFormat, SampleFormat
from transcriber.audio.frame_account import FrameOutcome
from transcriber.audio.headers import NO_HEADERS, AudioHeaders
from transcriber.audio.session import Gap, Session, Silence, Window
from transcriber.audio.stream import Ended, Started, Stream
from transcriber.audio.vad.detector import FRAME_SAMPLES
from transcriber.audio.window_cutter import PRE_ROLL_FRAMES
from transcriber.audio.window_policy import WindowPolicy
from transcriber.errors import BadInputError

RATE = 8_000
FORMAT = AudioFormat(rate=RATE)


def stream(window_s=1.0, max_hole_s=600.0):
    numbers = count()
    return Stream(FORMAT, WindowPolicy(window_s), None, max_hole_s=max_hole_s, new_id=lambda: f"id{next(numbers)}")


def audio(frames):
    return bytes(2 * frames)


def at(offset, **more):
    return AudioHeaders(offset=offset, **more)


def kinds(events):
    return [type(event).__name__ for event in events]


def check_tiling(events):
    """Windows and gaps of each session tile it, bridged gaps lie within windows, and its account is exact."""
    clocks: dict[Session, int] = {}
    for event in events:
        match event:
            case Started(session):
                clocks[session] = 0
            case Gap(frames=0):
                assert event.start_frame >= clocks[event.session]
            case Gap(bridged=True):
                assert event.start_frame >= clocks[event.session]
                event.session.account.settle(event.outcome, event.start_frame, event.frames)
            case Window() | Gap() | Silence():
                assert event.start_frame == clocks[event.session]
                clocks[event.session] += event.frames
                assert event.frames > 0
                outcome = event.outcome if isinstance(event, Gap) else FrameOutcome.TRANSCRIBED
                event.session.account.settle(outcome, event.start_frame, event.frames, event.channel)
            case Ended(session):
                session.closed = True
                assert clocks[session] == session.clock == session.received + session.account[FrameOutcome.LOST]
                assert (
                    session.received
                    == session.account[FrameOutcome.TRANSCRIBED] + session.account[FrameOutcome.DROPPED]
                )
                assert session.complete


def test_contiguous_payloads_become_windows_of_the_buffer_duration():
    source = stream()

    events = [e for _ in range(5) for e in source.feed(audio(4_000), NO_HEADERS)] + source.end()

    windows = [event for event in events if isinstance(event, Window)]
    assert [(w.number, w.start_frame, w.frames) for w in windows] == [
        (0, 0, 8_000),
        (1, 8_000, 8_000),
        (2, 16_000, 4_000),
    ]
    check_tiling(events)


def test_a_hole_is_one_gap_and_advances_the_clock():
    source = stream()

    events = source.feed(audio(4_000), at(100)) + source.feed(audio(4_000), at(100 + 6_000)) + source.end()

    assert kinds(events) == ["Started", "Window", "Gap", "Window", "Ended"]
    gap = events[2]
    assert (gap.start_frame, gap.frames, gap.reason) == (4_000, 2_000, "lost_input")
    check_tiling(events)


def test_a_hole_after_client_drops_says_slow_consumer():
    source = stream()

    source.feed(audio(4_000), at(0))
    events = source.feed(audio(4_000), at(5_000), lost_before="slow_consumer")

    assert [event.reason for event in events if isinstance(event, Gap)] == ["slow_consumer"]


def test_a_pause_closes_what_is_open_without_a_gap_and_the_clock_stays():
    source = stream()

    events = source.feed(audio(4_001), at(100)) + source.pause() + source.pause()
    events += source.feed(audio(12_000), at(4_101)) + source.end()

    assert kinds(events) == ["Started", "Window", "Window", "Window", "Ended"]
    assert [(w.number, w.start_frame, w.frames) for w in events if isinstance(w, Window)] == [
        (0, 0, 4_001),
        (1, 4_001, 8_000),
        (2, 12_001, 4_000),
    ]
    check_tiling(events)


@pytest.mark.parametrize("afresh", [False, True])
def test_frames_that_are_less_than_a_sample_are_nothing_to_hear(afresh):
    for rate, frames, kind in ((48_000, 1, Silence), (192_000, 5, Silence), (192_000, 6, Window)):
        fmt = AudioFormat(rate=rate)
        session = Session("s", fmt, WindowPolicy(1.0, replayable=afresh), None, max_hole_s=1)
        (end,) = session.feed(audio(frames)) + session.close()
        assert (type(end), end.frames) == (kind, frames)


def test_a_window_after_words_held_back_is_transcribed_though_nobody_speaks():
    """Else the last words before a silence would be nobody's."""
    policy = WindowPolicy(160 * FRAME_SAMPLES / 16_000, quiet_cut=False, speech_gate=True, left_context_s=5.0)
    session = Session("s", AudioFormat(rate=16_000), policy, LoudnessDetector(), max_hole_s=1)
    samples = joined(speech(158), silence(500))

    events = session.feed((samples * 2**15).astype("<i2").tobytes()) + session.close()

    assert kinds(events) == ["Window", "Window", "Silence", "Silence", "Silence"]
    assert [event.cut.goes_on for event in events if isinstance(event, Window)] == [True, False]


def test_words_that_were_held_back_wait_for_the_window_after_a_bridge():
    """One of nothing but bridges is never transcribed, and leaves them to the next one."""
    fmt = AudioFormat(SampleFormat.F32LE, rate=16_000)
    policy = WindowPolicy(160 * FRAME_SAMPLES / 16_000, quiet_cut=False, speech_gate=True, left_context_s=5.0)
    session = Session("s", fmt, policy, LoudnessDetector(), max_hole_s=1)
    unheard = silence(4).tobytes()

    events = session.feed(joined(speech(158), silence(2)).tobytes())
    for _ in range(160 // 4):
        events += session.feed(unheard, unusable="not finite")
    events += session.feed(silence(300).tobytes()) + session.close()

    windows = [event for event in events if not isinstance(event, Gap)]
    assert kinds(windows) == ["Window", "Silence", "Window", "Silence"]
    assert sum(event.frames for event in windows) == 620 * FRAME_SAMPLES


def test_a_pause_before_any_audio_is_nothing():
    assert stream().pause() == []


def test_drops_without_offsets_are_a_gap_of_no_frames_and_sound_is_not_joined_over_it():
    source = stream()

    source.feed(audio(4_000), NO_HEADERS)
    events = source.feed(audio(4_000), NO_HEADERS, lost_before="slow_consumer") + source.end()

    assert kinds(events) == ["Window", "Gap", "Window", "Ended"]
    assert (events[1].start_frame, events[1].frames) == (4_000, 0)


def test_a_session_that_ends_after_drops_says_that_more_was_on_its_way():
    source = stream()

    source.feed(audio(4_000), at(0))
    events = source.end(lost_before="slow_consumer")

    assert kinds(events) == ["Window", "Gap", "Ended"]
    assert (events[1].start_frame, events[1].frames, events[1].reason) == (4_000, 0, "slow_consumer")


def test_offsets_that_fit_prove_that_nothing_was_lost():
    source = stream()

    source.feed(audio(4_000), at(0))
    events = source.feed(audio(4_000), at(4_000), lost_before="lost_input") + source.end()

    assert kinds(events) == ["Window", "Ended"]


def test_an_overlap_is_trimmed_and_counted():
    source = stream()

    source.feed(audio(4_000), at(0))
    source.feed(audio(4_000), at(3_000))
    source.feed(audio(4_000), at(0))
    session = source.session

    assert (session.received, session.clock, session.overlap) == (7_000, 7_000, 5_000)


def test_frames_published_twice_are_transcribed_once():
    source = stream()

    events = [e for offset in (0, 4_000, 4_000, 0, 8_000) for e in source.feed(audio(4_000), at(offset))] + source.end()

    assert sum(event.frames for event in events if isinstance(event, Window)) == 12_000
    check_tiling(events)


def test_a_publisher_that_begins_again_opens_a_new_session():
    source = stream()

    source.feed(audio(RATE * 20), at(0))
    events = source.feed(audio(100), at(0))

    assert kinds(events)[-2:] == ["Ended", "Started"]
    assert source.session.id == "id1"


def test_the_first_offset_is_the_origin_even_after_audio_without_offsets():
    source = stream()

    source.feed(audio(1_000), NO_HEADERS)
    source.feed(audio(1_000), at(50_000))
    events = source.feed(audio(1_000), at(52_000))

    gap = next(event for event in events if isinstance(event, Gap))
    assert (gap.start_frame, gap.frames) == (2_000, 1_000)


def test_an_offset_out_of_reach_is_passed_over_and_costs_no_audio():
    source = stream(max_hole_s=600)

    events = source.feed(audio(1_000), at(0)) + source.feed(audio(1_000), at(1_000 + 601 * RATE))
    events += source.feed(audio(1_000), at(2_000)) + source.end()

    assert IgnoredPart("header", "Audio-Offset jumps 601 s ahead") in events
    assert kinds(events) == ["Started", "IgnoredPart", "Window", "Ended"]
    check_tiling(events)


def test_dropped_samples_are_received_and_dropped_where_they_belong():
    source = Stream(
        AudioFormat(SampleFormat.F32LE, RATE), WindowPolicy(5.0), None, max_hole_s=600, new_id=lambda: "call"
    )
    good, bad = np.zeros(10_000, "<f4").tobytes(), np.full(10_000, np.nan, "<f4").tobytes()

    events = source.feed(good, at(5_000)) + source.feed(bad, at(12_000)) + source.feed(bad, at(26_000), "slow_consumer")
    events += source.feed(bad, at(5_000)) + source.feed(bad, NO_HEADERS) + source.feed(good, at(46_000, end=True))

    gaps = [(e.start_frame, e.frames, e.reason, e.detail) for e in events if isinstance(e, Gap)]
    assert gaps == [
        (10_000, 7_000, "bad_input", unfit := "F32LE samples are not all finite"),
        (17_000, 4_000, "slow_consumer", None),
        (21_000, 10_000, "bad_input", unfit),
        (31_000, 10_000, "bad_input", unfit),
    ]
    assert isinstance(events[-1], Ended)
    session = events[-1].session
    assert (session.received, session.overlap) == (47_000, 13_000)
    check_tiling(events)
    assert session.account[FrameOutcome.DROPPED] == 27_000


def test_the_whole_frames_of_a_payload_are_transcribed_and_the_odd_bytes_reported():
    source = stream()

    events = source.feed(audio(1_000) + b"x", at(0)) + source.feed(audio(1_000), at(1_000, end=True))

    assert kinds(events) == ["IgnoredPart", "Started", "Window", "Ended"]
    assert events[0] == IgnoredPart("bytes", "2001 bytes are not whole frames of 2 bytes")
    assert isinstance(events[-1], Ended)
    assert events[-1].session.received == 2_000


def test_an_end_counts_though_its_payload_cannot_be_read():
    source = stream()
    source.feed(audio(100), NO_HEADERS)

    assert kinds(source.skip("it is broken", end=True)) == ["Gap", "Window", "Ended"]
    assert source.session is None


def test_a_wav_header_begins_a_session_of_its_format_and_the_rest_follows_raw():
    source, wav = stream(), AudioHeaders(content_type="audio/wav")
    file = io.BytesIO()
    soundfile.write(file, np.zeros((4_000, 2)), 16_000, subtype="PCM_24", format="WAV")
    head, body = file.getvalue()[:-24_000], file.getvalue()[-24_000:]

    events = source.feed(audio(100), NO_HEADERS) + source.feed(head, wav) + source.feed(body[:12_000], wav)
    events += source.feed(head + body[12_000:], wav) + source.end()

    assert kinds(events) == ["Started", "Window", "Ended", "Started", "Window", "Ended"]
    assert isinstance(events[3], Started)
    assert events[3].session.format == AudioFormat(SampleFormat.S24LE, 16_000, 2)
    assert events[3].session.received == 4_000


def test_the_end_states_the_total_length_and_a_trailing_hole_is_lost():
    source = stream()

    source.feed(audio(4_000), at(0))
    events = source.feed(b"", at(5_000, end=True))

    assert kinds(events) == ["Window", "Gap", "Ended"]
    assert (events[1].start_frame, events[1].frames, events[1].reason) == (4_000, 1_000, "lost_input")
    check_tiling([Started(events[2].session), *events])


def test_another_session_id_or_format_ends_the_session():
    source = stream()
    source.feed(audio(100), AudioHeaders(session="a"))

    other_id = source.feed(audio(100), AudioHeaders(session="b"))
    other_format = source.feed(audio(100), AudioHeaders(content_type="audio/x-raw;rate=16000"))
    same = source.feed(audio(100), NO_HEADERS)

    assert kinds(other_id) == kinds(other_format) == ["Window", "Ended", "Started"]
    assert same == []
    assert source.session.rate == 16_000


def test_a_flush_ends_the_window_where_it_is_and_the_next_one_has_its_left_context():
    source = Stream(
        AudioFormat(rate=48_000), WindowPolicy(25.0, left_context_s=2.0), None, max_hole_s=600, new_id=lambda: "id"
    )
    source.feed(audio(48_000), NO_HEADERS)

    (flushed,) = (part for part in source.feed(audio(480), AudioHeaders(flush=True)) if isinstance(part, Window))
    source.feed(audio(24_000), NO_HEADERS)
    following, ended = source.feed(b"", AudioHeaders(flush=True, end=True))

    assert isinstance(following, Window)
    assert (flushed.frames, flushed.flushed, len(flushed.cut.samples)) == (48_480, True, 16_160)
    assert (following.start_frame, following.frames, following.cut.lead_s) == (48_480, 24_000, 1.01)
    assert isinstance(ended, Ended)


def test_a_flush_without_a_session_opens_none():
    assert stream().feed(b"", AudioHeaders(flush=True)) == []


def test_a_heartbeat_opens_no_session():
    source = stream()

    assert source.feed(b"", NO_HEADERS) == []
    assert source.feed(b"", AudioHeaders(end=True)) == []
    assert source.session is None


def test_bad_input_is_a_gap_of_no_frames_and_the_clock_stays():
    source = stream()
    source.feed(audio(100), NO_HEADERS)

    (gap,) = source.skip("it is broken")

    assert gap == Gap(source.session, 100, 0, "bad_input", source.session.places, detail="it is broken")
    assert source.session.clock == 100


def test_bad_payloads_at_one_place_are_one_gap():
    source = stream()
    source.feed(audio(100), NO_HEADERS)

    first, second = source.skip("one"), source.skip("another")
    source.feed(audio(100), NO_HEADERS)

    assert ([gap.detail for gap in first], second) == (["one"], [])
    assert [gap.start_frame for gap in source.skip("a third")] == [200]


def test_bad_input_before_any_audio_is_reported_too():
    assert kinds(stream().skip("it is broken")) == ["Started", "Gap"]


def test_bad_input_before_any_audio_belongs_to_the_session_of_its_headers():
    source, headers = stream(), AudioHeaders(session="mine", content_type="audio/x-raw;rate=48000;channels=2")

    started, _ = source.skip("it is broken", headers)
    events = source.feed(bytes(4 * 100), headers)

    assert (events, source.session) == ([], started.session)
    assert (source.session.id, source.session.received) == ("mine", 100)


def test_bad_input_of_a_type_that_cannot_be_read_either_is_reported_in_the_default_format():
    source = stream()

    assert kinds(source.skip("it is broken", AudioHeaders(content_type="text/plain"))) == ["Started", "Gap"]
    assert source.session.format == FORMAT


def test_capture_time_counts_frames_from_the_last_capture_header():
    source, noon = stream(), datetime(2026, 11, 21, 12, tzinfo=UTC)

    events = source.feed(audio(4_000), AudioHeaders(captured_at=noon))
    events += source.feed(audio(20_000), NO_HEADERS)
    events += source.feed(audio(4_000), AudioHeaders(captured_at=noon + timedelta(minutes=1)))
    events += source.end()

    times = [event.captured_at for event in events if isinstance(event, Window)]
    assert times == [noon, noon + timedelta(seconds=1), noon + timedelta(seconds=2), noon + timedelta(seconds=60)]


def test_capture_time_of_audio_that_came_twice_is_that_of_its_first_coming():
    source, noon = stream(), datetime(2026, 11, 21, 12, tzinfo=UTC)
    later, latest = noon + timedelta(minutes=1), noon + timedelta(minutes=2)

    events = source.feed(audio(4_000), at(0, captured_at=noon))
    events += source.feed(audio(4_000), at(4_000, captured_at=later))
    events += source.feed(audio(4_000), at(0, captured_at=noon))
    events += source.feed(audio(8_000), at(8_000))
    events += source.feed(audio(16_000), at(12_000, captured_at=latest))
    events += source.end()

    times = [(event.start_frame, event.captured_at) for event in events if isinstance(event, Window)]
    assert times == [
        (0, noon),
        (8_000, later + timedelta(seconds=0.5)),
        (16_000, latest + timedelta(seconds=0.5)),
        (24_000, latest + timedelta(seconds=1.5)),
    ]


def test_a_day_of_audio_does_not_drift():
    source = Stream(AudioFormat(rate=44_100), WindowPolicy(5.0), None, max_hole_s=90_000, new_id=lambda: "day")
    source.feed(audio(441), at(0))

    source.feed(audio(441), at(24 * 3600 * 44_100))
    window = next(event for event in source.end() if isinstance(event, Window))

    assert window.start_frame / 44_100 == 24 * 3600


TIMES = st.datetimes(datetime(1970, 1, 1), datetime(8999, 12, 31), timezones=st.just(UTC))


@st.composite
def publishers(draw):
    """What any publisher may do: offsets or none, holes, echoes, restarts, ends, rubbish, drops."""
    steps = draw(st.lists(st.tuples(
        st.sampled_from(["audio", "audio", "audio", "hole", "echo", "again", "far", "end", "beat", "bad", "odd", "drop", "session", "pause", "quiet"]),
        st.integers(0, 30_000),
        st.none() | TIMES,
    ), max_size=40))  # fmt: skip
    return draw(st.booleans()), steps


def published(source, publisher, sound=audio, eager=lambda: True):
    """What each payload brings about; ``sound`` makes payloads of so many frames."""
    with_offsets, steps = publisher
    clock = 0
    for step, size, captured_at in steps:
        lost, session = None, None
        match step:
            case "hole":
                clock += size
            case "echo":
                clock = max(0, clock - size)
            case "again":
                clock = 0
            case "far":
                clock = 2**53
            case "pause":
                yield source.pause()
            case "quiet":
                yield source.end_speech()
            case "drop":
                lost = "slow_consumer"
            case "session":
                session = str(size)
        offset = clock if with_offsets else None
        payload = b"" if step == "beat" else sound(size)
        try:
            yield source.feed(
                payload + (b"x" if step == "odd" else b""),
                AudioHeaders(
                    content_type="audio/flac" if step == "bad" else None,
                    offset=offset,
                    end=step == "end",
                    session=session,
                    captured_at=captured_at,
                ),
                lost,
                eager=eager(),
            )
            clock += size if payload else 0
        except BadInputError as error:
            yield source.skip(str(error))
    yield source.end()


@settings(max_examples=200, deadline=None)
@given(publishers(), st.sampled_from([0.5, 1.0, 2.7]))
def test_whatever_a_publisher_does_the_account_is_exact(publisher, window_s):
    events = [event for some in published(stream(window_s), publisher) for event in some]

    check_tiling(events)
    assert kinds(events).count("Started") == kinds(events).count("Ended")
    for event in events:
        if isinstance(event, Window):
            assert len(event.cut.samples) == pytest.approx(event.frames * 2, abs=1)
            assert event.cut.samples.dtype == np.float32


class Books:
    """What became of every frame of a session, by channel, kept beside its own account."""

    def __init__(self, session):
        self.session = session
        self.outcomes = np.full((session.channels, 0), -1, np.int8)
        self.tiled = [0] * session.channels
        self.numbers = [0] * session.channels

    def tile(self, event):
        """Windows, silences and gaps follow each other, in every channel, and have their numbers; bridges lie ahead."""
        end = event.start_frame + event.frames
        missing = max(0, end - self.outcomes.shape[1])
        self.outcomes = np.pad(self.outcomes, ((0, 0), (0, missing)), constant_values=-1)
        for channel in self._channels(event):
            if isinstance(event, Gap) and event.bridged:
                assert event.start_frame >= self.tiled[channel]
            elif event.frames:
                assert event.start_frame == self.tiled[channel]
                self.tiled[channel] = end
            if not isinstance(event, Gap):
                assert event.frames > 0
                assert getattr(event, "number", self.numbers[channel]) == self.numbers[channel]
                self.numbers[channel] += 1

    def settle(self, outcome, event):
        for channel in self._channels(event):
            outcomes = self.outcomes[channel, event.start_frame : event.start_frame + event.frames]
            outcomes[outcomes < 0] = outcome

    def check(self):
        """The account is right so far."""
        unsettled = np.flatnonzero((self.outcomes < 0).any(axis=0))
        settled = int(unsettled[0]) if len(unsettled) else self.outcomes.shape[1]
        outcomes, account = self.outcomes[:, :settled].max(axis=0, initial=-1), self.session.account
        assert account.settled == settled
        assert [account[outcome] for outcome in FrameOutcome] == [
            np.count_nonzero(outcomes == outcome) for outcome in FrameOutcome
        ]
        assert self.session.complete == (self.session.closed and settled == self.session.clock)

    def _channels(self, event):
        return range(self.session.channels) if isinstance(event, Gap) else [event.channel]


CUTTINGS = st.builds(
    WindowPolicy,
    window_s=st.sampled_from([0.5, 1.0, 2.7]),
    quiet_cut=st.booleans(),
    endpoint_s=st.sampled_from([0.0, 0.2, 0.5]),
    speech_gate=st.booleans(),
    split_channels=st.booleans(),
    replayable=st.booleans(),
)


def some_sound(rng, channels):
    """Makes payloads in which each channel is silent, or speaks by the lights of the fake network, or does not."""

    def sound(frames):
        syllables = np.where(np.arange(frames) // 1_000 % 2, 0.3, 0.9)[:, np.newaxis]
        samples = rng.uniform(-1, 1, (frames, channels)) * syllables * rng.choice([0.0, 0.01, 1.0], channels)
        return (samples * 32_000).astype("<i2").tobytes()

    return sound


@settings(max_examples=150, deadline=None)
@given(publishers(), CUTTINGS, st.integers(1, 2), st.randoms(use_true_random=False))
def test_the_account_is_exact_however_audio_is_cut_and_whatever_becomes_of_the_windows(
    publisher, policy, channels, chance
):
    numbers = count()
    fmt = AudioFormat(rate=RATE, channels=channels)
    source = Stream(fmt, policy, LoudnessDetector(), max_hole_s=600, new_id=lambda: f"id{next(numbers)}")
    sound = some_sound(np.random.default_rng(chance.randrange(2**32)), channels)
    books: dict[Session, Books] = {}
    waiting: list[Window] = []

    def settle_some(most):
        for _ in range(min(chance.randint(0, most), len(waiting))):
            window = waiting.pop(chance.randrange(len(waiting)))
            settle(chance.choice([FrameOutcome.TRANSCRIBED, FrameOutcome.TRANSCRIBED, FrameOutcome.DROPPED]), window)
            books[window.session].check()

    def settle(outcome, event):
        event.session.account.settle(outcome, event.start_frame, event.frames, event.channel)
        books[event.session].settle(outcome, event)

    for events in published(source, publisher, sound, eager=lambda: chance.random() < 0.5):
        for event in events:
            if isinstance(event, IgnoredPart):
                continue
            session = event.session
            match event:
                case Started():
                    books[session] = Books(session)
                case Window():
                    books[session].tile(event)
                    waiting.append(event)
                case Silence():
                    outcomes = books[session].outcomes[
                        event.channel, event.start_frame : event.start_frame + event.frames
                    ]
                    assert policy.speech_gate or (len(outcomes) == event.frames and (outcomes >= 0).all())
                    books[session].tile(event)
                    settle(FrameOutcome.SILENT, event)
                case Gap():
                    books[session].tile(event)
                    settle(event.outcome, event)
                case Ended():
                    session.closed = True
                    assert books[session].tiled == [session.clock] * session.channels
        settle_some(6)
    while waiting:
        settle_some(1)

    for session, book in books.items():
        book.check()
        assert session.complete
        assert session.channels == (channels if policy.split_channels else 1)
        account = session.account
        assert (
            session.received
            == account[FrameOutcome.TRANSCRIBED] + account[FrameOutcome.SILENT] + account[FrameOutcome.DROPPED]
        )
        assert session.clock == session.received + account[FrameOutcome.LOST]


def test_the_end_counts_each_frame_of_two_speakers_once_and_the_worst_fate_first():
    fmt = AudioFormat(rate=16_000, channels=2)
    session = Session(
        "call", fmt, WindowPolicy(6.0, speech_gate=True, split_channels=True), LoudnessDetector(), max_hole_s=600
    )
    caller = joined(speech(60), silence(100))
    called = joined(silence(100), speech(60))

    done = session.feed((np.stack([caller, called], axis=1) * 32_000).astype("<i2").tobytes()) + session.close()
    session.closed = True
    for event in done:
        outcome = (
            FrameOutcome.SILENT
            if isinstance(event, Silence)
            else FrameOutcome.DROPPED
            if event.channel
            else FrameOutcome.TRANSCRIBED
        )
        session.account.settle(outcome, event.start_frame, event.frames, event.channel)

    places = [(type(event).__name__, event.channel, event.start_frame, event.frames) for event in done]
    begin = (100 - PRE_ROLL_FRAMES) * FRAME_SAMPLES
    whole = 160 * FRAME_SAMPLES
    assert sorted(places, key=lambda place: place[1:]) == [
        ("Window", 0, 0, whole),
        ("Silence", 1, 0, begin),
        ("Window", 1, begin, whole - begin),
    ]
    account = session.account
    assert (account[FrameOutcome.TRANSCRIBED], account[FrameOutcome.DROPPED], account[FrameOutcome.SILENT]) == (
        begin,
        whole - begin,
        0,
    )
    assert session.complete
    assert [event.number for event in done if isinstance(event, Window) and event.channel] == [1]


def test_a_session_is_complete_only_when_it_is_closed_and_all_of_it_is_settled():
    session = Session("call", FORMAT, WindowPolicy(1.0), None, max_hole_s=600)
    complete = []
    (first,) = session.feed(audio(9_000))
    (last,) = session.close()

    for window in (last, first):
        complete.append(session.complete)
        session.account.settle(FrameOutcome.TRANSCRIBED, window.start_frame, window.frames, window.channel)
    complete.append(session.complete)
    session.closed = True

    assert [*complete, session.complete] == [False, False, False, True]


NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 8_000), st.sampled_from([0, 0, 0, 401, 777, 30_000]), st.integers(0, 600)),
        min_size=1,
        max_size=25,
    ),
    CUTTINGS,
    st.integers(1, 2),
    st.integers(0, 2**32 - 1),
)
def test_capture_time_is_that_of_the_payload_to_the_frame_however_audio_is_cut(payloads, policy, channels, seed):
    fmt = AudioFormat(rate=RATE, channels=channels)
    source = Stream(fmt, policy, LoudnessDetector(), max_hole_s=600, new_id=lambda: "call")
    sound = some_sound(np.random.default_rng(seed), channels)
    events, clock = [], 0
    captured: list[tuple[int, datetime]] = []

    for frames, hole, minutes in payloads:
        clock += hole if captured else 0
        captured.append((clock, NOON + timedelta(minutes=minutes)))
        events += source.feed(sound(frames), AudioHeaders(offset=clock, captured_at=captured[-1][1]))
        clock += frames
    events += source.end()

    for event in events:
        if isinstance(event, Window):
            # Holes of one length between the first payloads, all as short, are taken for offsets in another unit.
            assert event.session.offsets
            assume(event.session.offsets.unit == 1)
            start, captured_at = max(one for one in captured if one[0] <= event.start_frame)
            expected = captured_at + timedelta(seconds=(event.start_frame - start) / RATE)
            assert event.captured_at == expected
