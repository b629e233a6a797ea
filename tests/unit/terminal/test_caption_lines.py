"""Lines on a terminal, where a partial stays until its window's text replaces it."""

import io
import re

from tests.support.messages import said
from transcriber.schema.messages import Final, Partial, Word
from transcriber.terminal.caption_lines import CaptionLines


class Screen(io.StringIO):
    """What is written to a terminal, which has colours or none."""

    def isatty(self) -> bool:
        return True

    def since(self, place: int) -> list[str]:
        """The rows that were written since ``place``, without control sequences."""
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.getvalue()[place:])
        return [row.strip() for row in re.split(r"[\r\n]+", plain) if row.strip()]


def test_the_text_of_two_voices_takes_the_place_of_the_partial_which_has_none(monkeypatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    screen = Screen()
    words = tuple(
        Word(word=word, start=start, end=start + 1, confidence=1, speaker=speaker)
        for word, start, speaker in (("Ready?", 0.0, "A"), ("Aye.", 3.0, "B"))
    )
    with CaptionLines(screen) as lines:
        lines.show(said(Partial, "Ready eye", 0))
        shown = len(screen.getvalue())
        assert screen.since(0) == ["[00:00] radio: Ready eye"]

        lines.show(said(Final, "Ready? Aye.", 0, words=words, speaker="A"))
        assert screen.since(shown)[-2:] == ["[00:00] radio (A): Ready?", "[00:03] radio (B): Aye."]
        shown = len(screen.getvalue())
        lines.show(said(Final, "Over.", 5, speaker="B"))

    assert screen.since(shown) == ["[00:05] radio (B): Over."], "the partial is still below it"


def test_the_text_of_one_channel_leaves_the_partial_of_the_other(monkeypatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    screen = Screen()
    with CaptionLines(screen) as lines:
        lines.show(said(Partial, "Come", 0, speaker="0"))
        lines.show(said(Partial, "Wait", 0, speaker="1"))
        shown = len(screen.getvalue())

        lines.show(said(Final, "Come in.", 0, speaker="0"))

        assert screen.since(shown)[-2:] == ["[00:00] radio (0): Come in.", "[00:00] radio (1): Wait"]
