"""The proof of the proof of durable mode: a verifier that cannot fail says nothing."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from bench.chaos.faults import BROKER_FAULTS, DAEMON_FAULTS
from bench.chaos.plan import fake_text, from_seed
from bench.chaos.proof import Acknowledged, StoredAudio, StoredText, consumer_errors, judge
from transcriber.audio.format import AudioFormat
from transcriber.audio.frame_account import FrameOutcome
from transcriber.audio.headers import parse_headers
from transcriber.audio.session import Gap as GapEvent, Window
from transcriber.audio.stream import Ended, Started, Stream
from transcriber.audio.window_policy import WindowPolicy
from transcriber.errors import BadInputError
from transcriber.schema.checkpoint import Checkpoint
from transcriber.schema.messages import End, Final, Gap, Partial, Status, Timing, message_id


def stored_audio(plan):
    """As a broker keeps it that loses nothing: the streams' payloads in turn."""
    payloads = sorted(
        (payload.due_s, number, recording.stream, payload)
        for recording in plan.recordings
        for number, payload in enumerate(recording.payloads)
    )
    order = [(stream, payload) for _, _, stream, payload in payloads]
    # Of payloads that are due at the same time the one that was made first goes first.
    return [StoredAudio(n, stream, payload.id) for n, (stream, payload) in enumerate(order, 1)], order


def published_message(kind, session, stream, start, frames, **fields):
    """A message of ``kind``; what a test does not care for is not known."""
    rate = session.rate
    unknown = dict.fromkeys(name for name in kind.model_fields if name not in {"schema_", "type", "rev", "flushed"})
    known = {
        "stream": stream, "session": session.id, "rate": rate, "start_frame": start, "frames": frames,
        "start": start / rate, "duration": frames / rate, "received_at": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    return kind(**unknown | known | fields)


def flawless_log(plan):
    """What durable mode must store: our own audio room, without a bus or an engine."""
    audio, order = stored_audio(plan)
    return audio, [
        text
        for name in plan.streams
        for text in flawless_stream(
            name,
            float(plan.settings["BUFFER_DURATION_SECS"]),
            [(message.sequence, payload) for message, (of, payload) in zip(audio, order, strict=True) if of == name],
        )
    ]


def flawless_stream(name, window_s, payloads):
    seq, odd = 0, Counter[str]()
    came: list[tuple[int, int]] = []  # of the session: frames that came before, and the payload
    stream = Stream(AudioFormat(rate=16_000), WindowPolicy(window_s), None, max_hole_s=600, new_id=lambda: str(seq))
    for seq, payload in payloads:
        session, clock = stream.session, stream.session.clock if stream.session else 0
        try:
            events = stream.feed(payload.data, parse_headers(payload.headers))
        except BadInputError as error:
            events = stream.skip(str(error))
        if session and session.clock > clock:
            came.append((clock, seq))  # a hole before it is its own
        for event in events:
            if isinstance(event, Started):
                came = [(0, seq)]
            message = message_of(name, event)
            unknown = isinstance(message, Gap) and not message.frames
            odd[message.session] += unknown
            fields = {
                "first_seq": next(at for start, at in reversed(came) if start <= message.start_frame),
                "last_seq": seq,
                "lag_s": 0.0,
                "checkpoint": Checkpoint(instance="", seq=1, attempts=0, session=None),
            }
            yield stored(message.model_copy(update=fields), odd[message.session] if unknown else 0)


def message_of(name, event):
    session = event.session
    match event:
        case Started():
            message = published_message(Status, session, name, 0, 0, state="started")
        case Window():
            session.account.settle(FrameOutcome.TRANSCRIBED, event.start_frame, event.frames)
            session.segments += 1
            text = str(round(float(np.median(event.cut.samples)) * 1000))
            message = final(session, name, event.start_frame, event.frames, event.number, text)
        case GapEvent():
            session.account.settle(FrameOutcome.LOST, event.start_frame, event.frames)
            message = published_message(Gap, session, name, event.start_frame, event.frames, reason=event.reason)
        case Ended():
            account = session.account
            sums = {
                "received": session.received, "lost": account[FrameOutcome.LOST], "transcribed": account[FrameOutcome.TRANSCRIBED],
                "silent": account[FrameOutcome.SILENT], "dropped": account[FrameOutcome.DROPPED],
            }  # fmt: skip
            fields = {f"{sum_}_frames": frames for sum_, frames in sums.items()}
            fields |= {f"{sum_}_s": frames / session.rate for sum_, frames in sums.items()}
            message = published_message(
                End, session, name, 0, session.clock, segments=session.segments, rev=0, **fields
            )
        case _:
            raise AssertionError(event)
    return message


def final(session, name, start, frames, segment, text, kind=Final):
    timing = Timing(queue_ms=0, processing_ms=0, handover_ms=0, end_to_end_ms=0, rtf=0)
    fields = {"segment": segment, "rev": 0, "text": text, "speech_final": False, "model": "fake", "timing": timing}
    return published_message(kind, session, name, start, frames, **fields)


def stored(message, rev=0):
    return StoredText(message_id(message.stream, message.session, message.start_frame, message.type, rev), message)


def changed(text, /, **fields):
    """The same message with other fields, and the id that goes with them."""
    return stored(text.message.model_copy(update=fields))


@pytest.fixture(scope="module")
def flawless():
    """A run with a hole and an odd payload, so that there is everything to be doctored."""
    plan = next(
        plan
        for plan in (from_seed(seed, quick=True) for seed in range(100))
        if {reason for r in plan.recordings for _, _, reason in r.gaps} == {"lost_input", "bad_input"}
    )
    audio, log = flawless_log(plan)
    return plan, audio, log


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_what_is_published_from_a_seed_is_what_the_verifier_expects(seed):
    plan = from_seed(seed, quick=True)
    audio, log = flawless_log(plan)

    verdict = judge(plan.recordings, audio, log, fake_text)

    assert verdict.errors == []
    assert verdict.sessions == len(plan.recordings)
    assert verdict.frames == sum(recording.frames for recording in plan.recordings)
    assert verdict.windows == len(verdict.texts) > 10
    assert (verdict.lost_frames, verdict.duplicated_frames, verdict.reordered, verdict.wrong_texts) == (0, 0, 0, 0)


def finals(log):
    return [place for place, text in enumerate(log) if isinstance(text.message, Final)]


def without_a_window(log):
    del log[finals(log)[3]]


def with_a_window_twice(log):
    log.insert(finals(log)[4], log[finals(log)[3]])


def with_two_windows_exchanged(log):
    a, b = finals(log)[3:5]
    log[a], log[b] = log[b], log[a]


def with_a_window_a_frame_short(log):
    place = finals(log)[3]
    log[place] = changed(log[place], frames=log[place].message.frames - 1)


def with_a_window_a_frame_late(log):
    place = finals(log)[3]
    log[place] = changed(log[place], start_frame=log[place].message.start_frame + 1)


def with_a_window_after_the_last_frame(log):
    place = finals(log)[3]
    log[place] = changed(log[place], start_frame=10**9)


def with_the_words_of_another_window(log):
    place = finals(log)[3]
    log[place] = changed(log[place], text=log[finals(log)[5]].message.text)


def with_another_number(log):
    place = finals(log)[3]
    log[place] = changed(log[place], segment=17)


def with_another_id(log):
    log[finals(log)[3]] = replace(log[finals(log)[3]], id="s0:x:0:0:final:0")


def with_a_gap_instead_of_a_window(log):
    place = finals(log)[3]
    message = log[place].message
    gap = {name: None for name in Gap.model_fields if name not in {"schema_", "type"}}
    shared = {name: getattr(message, name) for name in Gap.model_fields if hasattr(message, name) and name != "type"}
    del shared["schema_"]
    log[place] = stored(Gap(**gap | shared | {"reason": "queue_full"}))


def without_the_gap_of_a_hole(log):
    log.remove(next(text for text in log if isinstance(text.message, Gap) and text.message.frames))


def without_the_gap_of_an_odd_payload(log):
    log.remove(next(text for text in log if isinstance(text.message, Gap) and not text.message.frames))


def without_a_start(log):
    log.remove(next(text for text in log if isinstance(text.message, Status)))


def with_two_starts(log):
    start = next(text for text in log if isinstance(text.message, Status))
    log.insert(log.index(start) + 2, replace(start, id="another"))


def without_an_end(log):
    log.remove(next(text for text in log if isinstance(text.message, End)))


def with_two_ends(log):
    end = next(text for text in log if isinstance(text.message, End))
    log.insert(log.index(end), replace(end, id="another"))


def with_text_after_the_end(log):
    end = next(text for text in log if isinstance(text.message, End))
    place = log.index(end)
    log[place - 1], log[place] = log[place], log[place - 1]


def with_an_end_that_changed(log):
    end = next(text for text in log if isinstance(text.message, End))
    log[log.index(end)] = changed(end, rev=1)


def with_wrong_sums(log):
    end = next(text for text in log if isinstance(text.message, End))
    log[log.index(end)] = changed(end, received_frames=end.message.received_frames + 1)


def with_too_few_segments(log):
    end = next(text for text in log if isinstance(text.message, End))
    log[log.index(end)] = changed(end, segments=end.message.segments - 1)


def with_a_partial(log):
    place = finals(log)[3]
    fields = {
        name: getattr(log[place].message, name) for name in Partial.model_fields if name not in {"schema_", "type"}
    }
    log.insert(place, stored(Partial(**fields)))


def with_another_session(log):
    for place, text in enumerate(log):
        if text.message.session == log[0].message.session:
            log[place] = changed(text, session="zzz")


def with_text_of_a_stream_that_nobody_sent(log):
    log.append(changed(log[0], stream="ghost"))


def with_text_of_other_audio(log):
    place = finals(log)[3]
    log[place] = changed(log[place], first_seq=log[place].message.first_seq + 1)


def with_text_before_its_audio(log):
    place = finals(log)[3]
    log[place] = changed(log[place], last_seq=log[finals(log)[1]].message.last_seq)


def without_a_place_to_go_on(log):
    place = finals(log)[3]
    log[place] = changed(log[place], checkpoint=None)


DOCTORS = {
    without_a_window: "is stored where",
    with_a_window_twice: "2 messages have the id",
    with_two_windows_exchanged: "is stored where",
    with_a_window_a_frame_short: "is stored where",
    with_a_window_a_frame_late: "is stored where",
    with_a_window_after_the_last_frame: "is stored where",
    with_the_words_of_another_window: "the text of",
    with_another_number: "segment 17 is the window",
    with_another_id: "the id s0:x:0:0:final:0 instead of",
    with_a_gap_instead_of_a_window: "an unprovoked gap",
    without_the_gap_of_a_hole: "no gap",
    without_the_gap_of_an_odd_payload: "no gap",
    without_a_start: "it does not begin with its only start",
    with_two_starts: "it does not begin with its only start",
    without_an_end: "not the end",
    with_two_ends: "2 end messages",
    with_text_after_the_end: "is last, not the end",
    with_an_end_that_changed: "the end has rev 1",
    with_wrong_sums: "not received = transcribed + silent + dropped",
    with_too_few_segments: "not segments = number of finals",
    with_a_partial: "a partial is stored",
    with_another_session: "the sessions are",
    with_text_of_other_audio: "says",
    with_text_before_its_audio: "before it does",
    without_a_place_to_go_on: "where to go on",
    with_text_of_a_stream_that_nobody_sent: "text of ghost, which nobody sent",
}


@pytest.mark.parametrize("doctor", DOCTORS, ids=lambda doctor: doctor.__name__)
def test_the_verifier_sees_a_log(doctor, flawless):
    plan, audio, log = flawless
    doctored = list(log)
    doctor(doctored)

    errors = judge(plan.recordings, audio, doctored, fake_text).errors

    assert any(DOCTORS[doctor] in error for error in errors), errors


def test_what_is_wrong_is_counted_in_frames_and_windows(flawless):
    plan, audio, log = flawless
    frames = log[finals(log)[3]].message.frames

    def verdict(doctor):
        doctored = list(log)
        doctor(doctored)
        return judge(plan.recordings, audio, doctored, fake_text)

    assert verdict(without_a_window).lost_frames == frames
    assert verdict(with_a_window_twice).duplicated_frames == frames
    assert verdict(with_two_windows_exchanged).reordered == 1
    assert verdict(with_the_words_of_another_window).wrong_texts == 1


def test_audio_that_is_not_stored_as_it_was_published_proves_nothing(flawless):
    plan, audio, log = flawless

    errors = judge(plan.recordings, [message for message in audio if message.sequence != 7], log, fake_text).errors

    assert any("the audio is not stored as it was published" in error for error in errors)


def test_audio_that_is_not_acknowledged_is_seen():
    audio = [StoredAudio(1, "a", "1"), StoredAudio(2, "b", "2"), StoredAudio(3, "a", "3"), StoredAudio(4, "c", "4")]
    good = {"a": Acknowledged(3, 0), "b": Acknowledged(2, 0), "c": Acknowledged(4, 0)}

    assert consumer_errors(audio, good) == []
    assert consumer_errors(audio, good | {"a": Acknowledged(1, 1)}) == [
        "a: 1 payloads are not acknowledged",
        "a: acknowledged up to 1 instead of 3",
    ]
    assert consumer_errors(audio, {"a": good["a"], "b": good["b"]}) == ["c: no consumer"]


def test_text_that_a_disturbed_run_transcribed_otherwise_is_seen(flawless):
    plan, audio, log = flawless
    doctored = list(log)
    with_the_words_of_another_window(doctored)
    calm, disturbed = (judge(plan.recordings, audio, each) for each in (log, doctored))

    assert calm.differs_from(calm) == []
    assert len(disturbed.differs_from(calm)) == 2


def test_a_seed_is_the_same_run_every_time():
    once, again, other = from_seed(7), from_seed(7), from_seed(8)

    assert [(r.session, r.payloads, r.gaps) for r in once.recordings] == [
        (r.session, r.payloads, r.gaps) for r in again.recordings
    ]
    assert (once.hands, once.settings) == (again.hands, again.settings)
    assert once.hands != other.hands


def test_seeds_differ_in_all_that_publishers_and_faults_can_do():
    plans = [from_seed(seed) for seed in range(40)]
    recordings = [recording for plan in plans for recording in plan.recordings]
    payloads = [payload for recording in recordings for payload in recording.payloads]

    assert {len(plan.publishers) for plan in plans} == {1, 2, 3}
    assert {len(plan.streams) - len(plan.publishers) for plan in plans} >= {0, 1, 2, 3}
    assert set().union(*(plan.kinds for plan in plans)) == set(DAEMON_FAULTS | BROKER_FAULTS)
    assert {recording.session is None for recording in recordings} == {True, False}
    assert {"Audio-Offset" in payload.headers for payload in payloads} == {True, False}
    assert {len(payload.data) % 2 for payload in payloads} == {0, 1}
    assert {reason for recording in recordings for _, _, reason in recording.gaps} == {"lost_input", "bad_input"}
    assert {"Audio-End" in recording.payloads[-1].headers for recording in recordings} == {True, False}


def test_streams_come_when_others_are_over_and_find_their_places():
    moved = 0
    for plan in (from_seed(seed) for seed in range(40)):
        assert int(plan.settings["MAX_STREAMS"]) == len(plan.publishers)
        for recordings in plan.publishers.values():
            streams = {recording.stream for recording in recordings}
            assert len(streams) in {1, len(recordings)}
            for before, after in pairwise(recordings if len(streams) > 1 else ()):
                moved += 1
                assert "Audio-End" in before.payloads[-1].headers
                assert before.payloads[-1].due_s <= after.payloads[0].due_s

    assert moved > 20
