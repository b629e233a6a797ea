from datetime import UTC, datetime
from typing import Any

import pytest

from transcriber.schema.messages import AnyMessage, End, Final, Gap, GapReason, Silence, Status
from transcriber.testing.verify import account_errors


def common(start: int, frames: int) -> dict[str, Any]:
    return {
        "stream": "radio",
        "session": "a",
        "rate": 100,
        "start_frame": start,
        "frames": frames,
        "start": start / 100,
        "duration": frames / 100,
        "received_at": datetime.now(UTC),
    }


def final(start: int, frames: int, speaker: str | None = None) -> Final:
    unknown = dict.fromkeys(
        ["suppressed", "words", "language", "confidence", "avg_logprob", "no_speech_prob", "captured_at"]
    )
    timing = dict.fromkeys(["queue_ms", "processing_ms", "handover_ms", "end_to_end_ms", "rtf"], 0)
    fixed = {"segment": 0, "rev": 0, "text": "", "speech_final": False, "model": "demo", "timing": timing}
    fixed["speaker"] = speaker
    return Final.model_validate(common(start, frames) | unknown | fixed)


def silence(start: int, frames: int, speaker: str | None = None) -> Silence:
    return Silence(**common(start, frames), speaker=speaker)


def gap(start: int, frames: int, reason: GapReason, speaker: str | None = None) -> Gap:
    return Gap(**common(start, frames), reason=reason, speaker=speaker)


def end(frames: int, segments: int, **counts: int) -> End:
    counts = dict.fromkeys(["received", "lost", "transcribed", "silent", "dropped"], 0) | counts
    account = {f"{part}_frames": count for part, count in counts.items()}
    return End(**common(0, frames), segments=segments, **account, **{f"{p}_s": c / 100 for p, c in counts.items()})


def session(**changes: int) -> list[AnyMessage]:
    """Ten seconds sent, one of each kind; ``changes`` spoil the end."""
    account = {"received": 900, "lost": 100, "transcribed": 500, "silent": 200, "dropped": 200} | changes
    return [
        Status(**common(0, 0), state="started"),
        gap(700, 200, "queue_full"),  # before the final that precedes it
        final(0, 500),
        silence(500, 200),
        gap(900, 0, "bad_input"),
        gap(900, 100, "lost_input"),
        end(account.pop("frames", 1000), account.pop("segments", 1), **account),
    ]


def test_a_session_that_adds_up_has_no_errors() -> None:
    assert account_errors(session(), sent_frames=1000) == []


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"received": 899}, "received = transcribed"),
        ({"lost": 99}, "frames = received + lost"),
        ({"transcribed": 499, "dropped": 201}, "transcribed = sum"),
        ({"silent": 199, "transcribed": 501}, "silent = sum"),
        ({"lost": 150, "received": 850, "dropped": 150}, "dropped = sum"),
        ({"lost": 150, "received": 850, "dropped": 150}, "lost = sum"),
        ({"segments": 2}, "segments"),
        ({"frames": 1001}, "frames = sent"),
    ],
)
def test_a_spoilt_end_is_noticed(change, error) -> None:
    assert any(error in line for line in account_errors(session(**change), sent_frames=1000))


@pytest.mark.parametrize("left_out", [1, 2, 3, 5])
def test_a_hole_between_the_windows_is_noticed(left_out) -> None:
    messages = session()
    del messages[left_out]

    assert account_errors(messages, sent_frames=1000)


def test_a_window_that_overlaps_another_is_noticed() -> None:
    messages = session()
    messages[3] = silence(499, 200)

    assert any("silence begins at frame 499 instead of 500" in line for line in account_errors(messages, 1000))


@pytest.mark.parametrize("ends", [0, 2])
def test_there_is_exactly_one_end(ends) -> None:
    *tiles, last = session()

    assert account_errors([*tiles, *[last] * ends], sent_frames=1000) == [f"{ends} end messages"]


def two_speakers() -> list[AnyMessage]:
    """Speaker 0 was transcribed and then dropped, speaker 1 was silent and then transcribed; 100 frames never arrived."""
    counts = {"received": 900, "lost": 100, "transcribed": 600, "silent": 100, "dropped": 200}
    return [
        Status(**common(0, 0), state="started"),
        final(0, 500, "0"),
        silence(0, 600, "1"),
        silence(500, 100, "0"),
        gap(600, 100, "lost_input"),
        gap(800, 200, "queue_full", "0"),
        final(700, 300, "1"),
        silence(700, 100, "0"),
        end(1000, 2, **counts),
    ]


def test_the_windows_of_each_speaker_tile_the_session_and_a_frame_counts_once() -> None:
    assert account_errors(two_speakers(), sent_frames=1000) == []


@pytest.mark.parametrize("left_out", range(1, 8))
def test_a_hole_between_the_windows_of_one_speaker_is_noticed(left_out) -> None:
    messages = two_speakers()
    del messages[left_out]

    assert any("of speaker" in error for error in account_errors(messages, sent_frames=1000))


def test_a_speaker_without_any_message_is_noticed() -> None:
    messages = [message for message in two_speakers() if getattr(message, "speaker", None) != "1"]

    errors = account_errors(messages, sent_frames=1000)

    assert any("of speaker 1" in error for error in errors)


def test_a_window_of_no_speaker_among_those_of_speakers_is_noticed() -> None:
    messages = two_speakers()
    messages[1] = final(0, 500)

    errors = account_errors(messages, sent_frames=1000)

    assert any("of speaker 0 begins at frame 500 instead of 0" in error for error in errors)


def test_who_speaks_by_voice_is_no_channel():
    """With nothing but finals that all have labels, too."""
    messages: list[AnyMessage] = [
        final(0, 400, "A"),
        final(400, 600, "B"),
        end(1000, 2, received=1000, transcribed=1000),
    ]

    assert account_errors(messages, 1000) == []
