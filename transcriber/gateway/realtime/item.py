"""One item of a conversation. In: guesses at its text, and texts. Out: deltas, which only append. Pure; no I/O."""

from itertools import takewhile

from transcriber.schema.messages import Partial


class Item:
    """What is said between two commits, or until speech ends.

    Attributes:
        id: of the interface.
        start: its first frame.
        speaking: ``speech_started`` was sent, and ``speech_stopped`` was not.
        frames: of the pieces that it has.
        language: of its latest text.
        failure: why a part of it was not transcribed; None: all was.
    """

    def __init__(self, item_id: str, start: int) -> None:
        self.id, self.start = item_id, start
        self.speaking = False
        self.frames = 0
        self.language: str | None = None
        self.failure: str | None = None
        self._texts: list[str] = []
        self._sent = ""
        self._guess: tuple[int, list[str]] = (-1, [])

    @property
    def transcript(self) -> str:
        return " ".join(self._texts)

    def guess(self, partial: Partial) -> str:
        """A guess at the text that comes next; returns the delta: words on which it agrees with the guess before.

        Deltas together are the beginning of the transcript. Where that is no longer true, as a final corrects an agreed word,
        there are no more.
        """
        segment, before = self._guess
        words = partial.text.split()
        self._guess = (partial.segment, words)
        if segment != partial.segment:
            return ""
        agreed = [word for word, _ in takewhile(lambda two: two[0] == two[1], zip(words, before, strict=False))]
        return self._delta(" ".join((*self._texts, *agreed)))

    def take(self, text: str) -> str:
        """A text that stays; returns the delta."""
        if text:
            self._texts.append(text)
        return self._delta(self.transcript)

    def _delta(self, text: str) -> str:
        if not text.startswith(self._sent):
            return ""
        delta = text[len(self._sent) :]
        self._sent = text
        return delta
