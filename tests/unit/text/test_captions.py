import html
import unicodedata
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, strategies as st

from tests.support.messages import CUE, RATE, common, end, final, gap, said, silence, started
from transcriber.schema.messages import Final, Partial, Revision, Status
from transcriber.text.captions import Cues, Line, text_lines


@pytest.mark.parametrize(
    ("message", "line"),
    [
        (final("wind northwest", 5), Line("[00:05] radio: wind northwest")),
        (final("wind", 3675.9), Line("[1:01:15] radio: wind")),
        (final("two\nlines \x1b[2J\x07", 0), Line("[00:00] radio: two lines [2J")),
        (final("", 5), None),
        (said(Final, "", 5, suppressed="rate"), Line("[00:05] radio: [held back 5.0 s: rate]", dim=True)),
        (said(Final, "wind", 5, suppressed="rate"), Line("[00:05] radio: wind [held back 5.0 s: rate]")),
        (said(Partial, "wind nor", 5), None),
        (
            said(Revision, "wind northwest", 5, replaces=("x",), last_segment=0),
            Line("[00:05] radio: [revised] wind northwest"),
        ),
        (
            said(Revision, "", 5, replaces=("x",), last_segment=0, suppressed="repetition"),
            Line("[00:05] radio: [revised] [held back 5.0 s: repetition]"),
        ),
        (silence(5), None),
        (final("wind", 5, speaker="1"), Line("[00:05] radio (1): wind")),
        (
            said(Revision, "wind", 5, replaces=("x",), last_segment=0, speaker="0"),
            Line("[00:05] radio (0): [revised] wind"),
        ),
        (gap(60, speaker="1"), Line("[01:00] radio (1): [gap 5.0 s: queue_full]")),
        (silence(5, speaker="1"), None),
        (gap(60), Line("[01:00] radio: [gap 5.0 s: queue_full]")),
        (
            gap(60, 0, reason="bad_input", detail="1 byte is no whole frame"),
            Line("[01:00] radio: [gap 0.0 s: bad_input: 1 byte is no whole frame]"),
        ),
        (Status(**common(5, 0), state="stalled"), Line("[00:05] radio: stalled", dim=True)),
        (
            end(9),
            Line("[00:09] radio: end: 2.0 s transcribed, 3.0 s silent, 4.0 s dropped, 1.0 s lost", dim=True),
        ),
    ],
)
def test_a_message_is_one_line_of_text(message, line) -> None:
    assert text_lines(message) == ([line] if line else [])


def test_srt_numbers_cues_and_counts_hours() -> None:
    cues = Cues("srt")

    written = cues.add(final("one", 3599.5, 1.25)) + cues.add(final("two", 360_000))

    assert cues.head == ""
    assert written == (
        "1\n00:59:59,500 --> 01:00:00,750\none\n\n"
        "2\n100:00:00,000 --> 100:00:05,000\ntwo\n\n"
    )  # fmt: skip


def test_vtt_escapes_what_would_be_markup() -> None:
    cues = Cues("vtt")

    written = cues.add(final('a <b> & "c" --> d', 1))

    assert cues.head == "WEBVTT\n\n"
    assert written == '1\n00:00:01.000 --> 00:00:06.000\na &lt;b&gt; &amp; "c" --&gt; d\n\n'


def test_a_long_text_is_wrapped_and_split() -> None:
    text = "visibility two miles and falling " * 5

    found = CUE.findall(Cues("srt").add(final(text, 0)))

    bodies = [body.splitlines() for *_, body in found]
    assert max(len(line) for lines in bodies for line in lines) <= 42
    assert max(map(len, bodies)) == 2
    assert " ".join(line for lines in bodies for line in lines) == text.strip()
    assert found[0][1] == "00:00:00,000"
    assert found[-1][2] == "00:00:05,000"
    assert all(before[2] == after[1] for before, after in pairwise(found))


def test_a_gap_before_an_earlier_text_waits_for_its_place() -> None:
    cues = Cues("srt")

    written = "".join(map(cues.add, [final("one", 0), gap(10), gap(15), final("two", 5), final("three", 20), end(25)]))

    assert [cue[3].strip() for cue in CUE.findall(written)] == [
        "one", "two", "[not transcribed: queue_full]", "[not transcribed: queue_full]", "three",
    ]  # fmt: skip


def test_the_end_brings_out_the_gaps_that_are_left() -> None:
    cues = Cues("vtt")

    written = cues.add(gap(0)) + cues.add(end(5))

    assert "not transcribed: queue_full" in written
    assert cues.ended


def test_cues_are_of_one_session() -> None:
    cues = Cues("srt")

    written = "".join(
        map(cues.add, [final("one", 0), final("other", 0, session="b"), end(9, "b"), final("two", 5), end(10), end(10)])
    )

    assert [cue[3] for cue in CUE.findall(written)] == ["one\n", "two\n"]


@pytest.mark.parametrize("message", [final("", 0), gap(0, 0), silence(0), said(Partial, "word", 0)])
def test_what_says_nothing_makes_no_cue(message) -> None:
    cues = Cues("srt")

    assert cues.add(message) + cues.add(end(5)) == ""


def test_a_gap_is_written_as_soon_as_all_before_it_is_published() -> None:
    cues = Cues("srt")

    assert "not transcribed" not in cues.add(final("one", 0)) + cues.add(gap(10))
    assert "not transcribed" in cues.add(silence(5))


def test_subtitles_name_the_speakers() -> None:
    messages = [final("gale <warning>", 0, speaker="0"), gap(0, speaker="1"), end(5)]
    srt, vtt = Cues("srt"), Cues("vtt")

    assert [cue[3] for cue in CUE.findall("".join(map(srt.add, messages)))] == [
        "Speaker 0: gale <warning>\n", "Speaker 1: [not transcribed: queue_full]\n",
    ]  # fmt: skip
    assert [cue[3] for cue in CUE.findall("".join(map(vtt.add, messages)))] == [
        "<v Speaker 0>gale &lt;warning&gt;\n", "<v Speaker 1>[not transcribed: queue_full]\n",
    ]  # fmt: skip


def test_what_one_speaker_said_waits_for_what_the_other_said_before() -> None:
    cues = Cues("srt")

    early = cues.add(final("reply", 5, speaker="1"))
    then = cues.add(silence(0, speaker="1")) + cues.add(final("call", 0, speaker="0"))
    last = cues.add(silence(5, speaker="0"))

    assert early == ""
    assert [cue[3] for cue in CUE.findall(then + last)] == ["Speaker 0: call\n", "Speaker 1: reply\n"]


def test_a_silent_speaker_does_not_keep_the_other_waiting() -> None:
    cues = Cues("srt")
    cues.add(silence(0, speaker="1"))

    assert "Speaker 0: call" in cues.add(final("call", 0, speaker="0"))


def test_a_listener_that_joins_in_the_middle_gets_all_from_there() -> None:
    cues = Cues("srt")

    assert "one" in cues.add(final("one", 100))
    assert "two" in cues.add(final("two", 110))


def test_a_listener_that_joins_in_the_middle_gets_one_speaker_though_the_other_is_silent() -> None:
    cues = Cues("srt")

    cues.add(final("call", 100, speaker="0"))
    written = cues.add(silence(102, speaker="1")) + cues.add(final("again", 105, speaker="0"))

    assert [cue[3] for cue in CUE.findall(written)] == ["Speaker 0: call\n", "Speaker 0: again\n"]


def test_a_gap_before_anybody_is_named_is_one_of_all_speakers() -> None:
    cues = Cues("srt")
    cues.add(started())

    cues.add(gap(5))
    written = cues.add(silence(0, speaker="1")) + cues.add(final("call", 0, speaker="0"))

    assert [cue[3] for cue in CUE.findall(written)] == ["Speaker 0: call\n", "[not transcribed: queue_full]\n"]


def test_a_gap_of_all_speakers_is_one_cue_of_nobody() -> None:
    cues = Cues("srt")

    written = "".join(
        map(cues.add, [silence(0, 5, "0"), silence(0, 5, "1"), gap(5), final("call", 10, speaker="0"), end(15)])
    )

    assert [cue[3] for cue in CUE.findall(written)] == ["[not transcribed: queue_full]\n", "Speaker 0: call\n"]


windows = st.lists(
    st.tuples(st.integers(1, 60 * RATE), st.sampled_from(["final", "gap", "silence"]), st.text(max_size=99)),
    max_size=12,
)


@given(windows=windows, early=st.randoms(use_true_random=False))
def test_any_session_gives_well_formed_cues_in_order(windows, early) -> None:
    messages: list[Any] = []
    expected, clock_frames = [], 0
    for frames, kind, text in windows:
        place = (clock_frames / RATE, frames / RATE)
        clock_frames += frames
        if kind == "final":
            messages.append(final(text, *place))
            expected.append(text)
        elif kind == "gap":
            messages.insert(early.randint(0, len(messages)), gap(*place))  # it may come before earlier finals
            expected.append("[not transcribed: queue_full]")
        else:
            messages.append(silence(*place))
    cues = Cues("vtt")

    written = "".join(map(cues.add, [started(), *messages, end(clock_frames / RATE)]))

    found = CUE.findall(written)
    assert CUE.sub("", written) == ""
    assert [int(number) for number, *_ in found] == list(range(1, len(found) + 1))
    assert [start for _, start, _, _ in found] == sorted(start for _, start, _, _ in found)
    assert all(start < finish for _, start, finish, _ in found)
    assert letters("".join(html.unescape(body) for *_, body in found)) == letters("".join(expected))


def letters(text: str) -> str:
    """What wrapping and cleaning leave alone."""
    return "".join(c for c in text if unicodedata.category(c) != "Cc" and not c.isspace())
