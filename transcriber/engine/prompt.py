"""What one speaker said last, as prompt for the next window.

In: the transcripts of a speaker's windows, in order. Out: the end of the trusted text, or nothing.
A wrong prompt does harm: the decoder continues it. So one transcript that is not sure, one without words and one hole in the
audio are each enough to forget everything.
"""

from transcriber.engine.language_evidence import LanguageEvidence
from transcriber.engine.transcript import Transcript
from transcriber.schema.languages import WITHOUT_SPACES

MIN_AVG_LOGPROB = -0.5
"""Of text that may be a prompt: a mean probability of 0.6 a token."""

MAX_CHARS = 200
"""What is said in about three windows of 5 s. Every token of a prompt costs time, and old text misleads."""


class SpeakerPrompt:
    """The confident text of one speaker, as far as it reaches without a hole up to the next window.

    Jobs of one speaker go through one worker, one after the other: a stream stays on its worker. So each of the two
    attributes has one writer, and each write is a single assignment, which is atomic in the interpreter:
    ``reset`` writes the epoch on the event loop, ``record`` the text on the worker's thread.

    A job keeps the epoch in which it was made. Text stays in the epoch of its job: jobs that are still queued when the
    audio has a hole are prompted as before, and no job made after the hole reads their text.
    """

    def __init__(self, said: str = "") -> None:
        """``said`` is what came before the first job."""
        self._epoch = 0
        self._said = (0, said)

    @property
    def epoch(self) -> int:
        """Of a job made now. Event loop only."""
        return self._epoch

    @property
    def text(self) -> str:
        """The prompt of a job made now, as far as it is known; any thread."""
        return self.of_epoch(self._epoch)

    def of_epoch(self, epoch: int) -> str:
        """The prompt for a job of ``epoch``. Any thread."""
        said_in, text = self._said
        return text if said_in == epoch else ""

    def record(self, transcript: Transcript | None, epoch: int) -> None:
        """Append the transcript of a final job of ``epoch``; None if it failed. Worker thread only."""
        self._said = (epoch, self._joined(self.of_epoch(epoch), transcript) if transcript else "")

    def reset(self) -> None:
        """The audio has a hole here: text before it is no prompt for windows after it. Event loop only."""
        self._epoch += 1

    @staticmethod
    def _joined(before: str, transcript: Transcript) -> str:
        """The text with ``transcript`` at its end; nothing if that is not sure, or has no words."""
        sure = transcript.avg_logprob is not None and transcript.avg_logprob >= MIN_AVG_LOGPROB
        if not sure or not transcript.text or transcript.doubt or transcript.suppressed or transcript.trimmed:
            return ""
        space = "" if transcript.language in WITHOUT_SPACES else " "
        return last_words(f"{before}{space}{transcript.text}".strip(), MAX_CHARS)


class SpeakerHistory:
    """What the latest windows of a speaker mean for the next one.

    Read and written by the worker's thread, so that it does not depend on the queue's depth; but that a window was dropped is
    written on the event loop. Each write is one assignment.

    Attributes:
        language: of the latest text; None: no text yet.
        spoken: the evidence of the language where it is detected.
    """

    __slots__ = ("_sure", "language", "spoken")

    def __init__(
        self, *, sure: bool = True, language: str | None = None, spoken: LanguageEvidence | None = None
    ) -> None:
        """``sure``: the latest window was transcribed, and its text not held back."""
        self._sure, self.language, self.spoken = sure, language, spoken or LanguageEvidence()

    @property
    def known(self) -> tuple[bool, str | None, LanguageEvidence]:
        """All of it that the next window depends on."""
        return self._sure, self.language, self.spoken

    def allows_left_context(self, language: str | None) -> bool:
        """Whether the next window, in ``language``, may be transcribed together with its left context.

        Audio that made the decoder loop does so again; and one call has one language.
        """
        return self._sure and self.language in {None, language}

    def record(self, transcript: Transcript | None) -> None:
        """Record the transcript of a window; None if it failed."""
        self._sure = transcript is not None and not transcript.suppressed
        if transcript is not None and transcript.text:
            self.language = transcript.language
        if transcript is not None and transcript.spoken is not None:
            self.spoken = transcript.spoken


def first_words(text: str, max_chars: int) -> str:
    """The beginning of ``text``, to the end of a word where it has spaces: at most ``max_chars``.

    >>> first_words("gale warning for the north channel", 15), first_words("人人生而自由", 4)
    ('gale warning', '人人生而')
    """
    if len(text) <= max_chars:
        return text
    # One more behind: it may be the space after a word that just fits.
    words, space, _ = text[: max_chars + 1].rpartition(" ")
    return words if space else text[:max_chars]


def last_words(text: str, max_chars: int) -> str:
    """The end of ``text``, from the start of a word where it has spaces: at most ``max_chars``.

    >>> last_words("gale warning for the north channel", 15), last_words("人人生而自由", 4)
    ('north channel', '生而自由')
    """
    if len(text) <= max_chars:
        return text
    # One more in front: it may be the space before a word that just fits.
    _, space, words = text[len(text) - max_chars - 1 :].partition(" ")
    return words if space else text[len(text) - max_chars :]
