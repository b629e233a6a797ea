from datetime import UTC, datetime
from typing import Any

import pytest

from transcriber.demo.account import account_errors
from transcriber.messages import AnyMessage, End, Final, Gap, Silence, Status


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


def final(start: int, frames: int) -> Final:
    unknown = dict.fromkeys(
        ["suppressed", "words", "language", "confidence", "avg_logprob", "no_speech_prob", "speaker", "captured_at"]
    )
    timing = dict.fromkeys(["queue_ms", "processing_ms", "handover_ms", "end_to_end_ms", "rtf"], 0)
    fixed = {"segment": 0, "rev": 0, "text": "", "speech_final": False, "model": "demo", "timing": timing}
    return Final.model_validate(common(start, frames) | unknown | fixed)


def end(frames: int, segments: int, **counts: int) -> End:
    counts = dict.fromkeys(["received", "lost", "transcribed", "silent", "dropped"], 0) | counts
    account = {f"{part}_frames": count for part, count in counts.items()}
    return End(**common(0, frames), segments=segments, **account, **{f"{p}_s": c / 100 for p, c in counts.items()})


def session(**changes: int) -> list[AnyMessage]:
    """Ten seconds sent, one of each kind; ``changes`` spoil the end."""
    account = {"received": 900, "lost": 100, "transcribed": 500, "silent": 200, "dropped": 200} | changes
    return [
        Status(**common(0, 0), state="started"),
        Gap(**common(700, 200), reason="queue_full"),  # before the final that precedes it
        final(0, 500),
        Silence(**common(500, 200)),
        Gap(**common(900, 0), reason="bad_input"),
        Gap(**common(900, 100), reason="lost_input"),
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
    messages[3] = Silence(**common(499, 200))

    assert any("silence begins at frame 499 instead of 500" in line for line in account_errors(messages, 1000))


@pytest.mark.parametrize("ends", [0, 2])
def test_there_is_exactly_one_end(ends) -> None:
    *tiles, last = session()

    assert account_errors([*tiles, *[last] * ends], sent_frames=1000) == [f"{ends} end messages"]
