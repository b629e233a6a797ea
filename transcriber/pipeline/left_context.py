"""Windows transcribed with left context: each word is published once.

In: transcripts of one speaker's windows, in order; whisper transcribed each together with the seconds before it, whose words an
earlier window has already, and perhaps with some after it, whose words a later one will have. Out: the words that are new.

The words of earlier windows are found in a transcript by ``word_alignment``; what follows is new.

Words near the end of the audio are the least reliable: half a word, a word whose end may follow, a full stop because nothing
follows. Where speech continues they are held back, and the next window has them, as it transcribes them: the last half second, and
more where whisper is unsure.

Text without times is placed by its characters, as if spoken evenly.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import starmap
from typing import NamedTuple

from transcriber.engine.transcript import Transcript, Word
from transcriber.pipeline.pauses import Pauses
from transcriber.pipeline.word_alignment import SLACK_S, PlacedWord, count_written, whole_words
from transcriber.schema.languages import WITHOUT_SPACES

PAUSE_S = 0.15
"""After so much silence the last word is whole: to hold it back until the next window is full would only delay it. Shorter silence may be
the closure of a stop, and then more full stops are written that nobody spoke (``bench.left_context``: 6 instead of 2 in 104 cuts)."""


UNSURE, UNSURE_S = 0.7, 1.5
"""Words less sure than this at the open end, one after the other, are held back as well, up to so many seconds. Of 1671 words of base
two are said twice without it, and none with it (``bench.left_context``)."""

UNLIKELY = 0.3
"""After a word as unlikely as this the decoder has often lost its way, however sure it is of what follows: nothing of that is published."""


class Written(NamedTuple):
    """State at the end of a window; small, and plain enough for JSON.

    Attributes:
        until_s: where the last published word ends; negative if what follows does not continue it. The window may have ended
            later: what it missed, the next may find.
        words: published ones, as far back as the next window's left context: each with its start and end.
        held: words after ``until_s`` that are held back for the next window: also with their confidence.
        language: of them; None before the first.
        from_s: words before are published, or published as missing.
    """

    until_s: float = 0.0
    words: tuple[tuple[str, float, float], ...] = ()
    held: tuple[tuple[str, float, float, float], ...] = ()
    language: str | None = None
    from_s: float = 0.0

    @property
    def sure(self) -> bool:
        """Whether the next window continues text that was not suppressed."""
        return self.until_s >= 0


class TranscribedRange(NamedTuple):
    """The audio that whisper got for a window, in seconds of the session.

    Attributes:
        start_s, end_s: of the window.
        lead_s, tail_s: how much context it got before and after.
        goes_on: whether speech continues right after it: neither the end of speech, nor a gap, nor the end of the session.
        silence_s: at the end of the window, without the context.
        pauses: silence between speech, for the times that are published. Words are compared by the times that the model gives.
    """

    start_s: float
    end_s: float
    lead_s: float = 0.0
    tail_s: float = 0.0
    goes_on: bool = False
    silence_s: float = 0.0
    pauses: Pauses = Pauses()


class LeftContext:
    """The windows of one speaker. Event loop only; its output depends on the transcripts and on where speech was detected.

    Attributes:
        before: state after the last window that closed.
        reach_s: left context is up to so many seconds.
    """

    def __init__(
        self, reach_s: float, hold_back_s: float, before: Written | None = None, most_held_s: float = 0.0
    ) -> None:
        """Words within ``hold_back_s`` of the end are held back, unless a pause follows them; unsure ones within ``most_held_s``."""
        self.before = before or Written()
        self.reach_s, self._hold_back_s, self._most_held_s = reach_s, hold_back_s, max(hold_back_s, most_held_s)

    def new_text(self, transcript: Transcript, audio: TranscribedRange) -> Transcript:
        """The new text of an open window; nothing is held back."""
        return self._restricted_to(transcript, self._new_words(transcript, audio), audio)

    def close_window(self, transcript: Transcript, audio: TranscribedRange, *, again: bool = False) -> Transcript:
        """The new text of a window that has closed; what is held back is the next one's.

        ``again``: all after it is published already, with what was held back before it.
        """
        if transcript.suppressed:
            # What was held back for it was reliable in its own window.
            held = [] if again else self._held_back
            self.before = Written(-1.0, (), (), self.before.language)
            return self._restricted_to(transcript, held, audio)
        if again:
            words = (*self.before.words, *(word[:3] for word in self.before.held))
            self.before = self.before._replace(words=words, held=())
        if transcript.text and self.before.language not in {None, transcript.language}:
            self.interrupted()
        new = self._new_words(transcript, audio)
        # Words beyond the end are the next window's, if that is sure to get their audio.
        end_s = audio.end_s if audio.tail_s and (audio.goes_on or again) else math.inf
        last = next((i for i, word in enumerate(new) if word.middle_s >= end_s), len(new))
        if self._hold_back_s and audio.goes_on and audio.silence_s < PAUSE_S and not again:
            last = self._count_reliable(new[:last], audio)
        out, held = new[:last], [word for word in new[last:] if word.middle_s < end_s]
        own = self._restricted_to(transcript, out, audio)
        self.before = self._after(transcript, out, held, audio)
        return own

    def _count_reliable(self, words: Sequence[PlacedWord], audio: TranscribedRange) -> int:
        """How many of ``words``, the last ones before an open end, need not be held back."""
        sure_s = audio.end_s + audio.tail_s - self._hold_back_s
        likely_s = audio.end_s - self._most_held_s
        count = next(
            (
                i
                for i, word in enumerate(words)
                if word.end_s > sure_s or (word.confidence < UNLIKELY and word.end_s > likely_s)
            ),
            len(words),
        )
        unsure_s = audio.end_s - min(UNSURE_S, self._most_held_s)
        while count and words[count - 1].confidence < UNSURE and words[count - 1].end_s > unsure_s:
            count -= 1
        return count

    def interrupted(self) -> None:
        """What follows does not continue the text so far: something is missing, or in another language."""
        self.before = self.before._replace(until_s=-1.0, words=())

    @property
    def _held_back(self) -> list[PlacedWord]:
        """Words held back for the next window."""
        return [PlacedWord(*one, of=-n) for n, one in enumerate(self.before.held, 1)]

    def _new_words(self, transcript: Transcript, audio: TranscribedRange) -> list[PlacedWord]:
        """The words that are not published yet."""
        words, begin_s, held = (
            placed_words(transcript, audio),
            audio.start_s - audio.lead_s,
            self._held_back,
        )
        if not words or not audio.lead_s:
            # Without left context it says nothing about what was held back.
            return held + words
        if not self.before.sure:
            return held + words[first_index_from(audio.start_s, words) :]
        # Words held back from before its audio are published now, as they were transcribed then.
        before_audio = held[: first_index_from(begin_s, held)]
        before = [word for word in starmap(PlacedWord, self.before.words) if word.end_s > begin_s - SLACK_S]
        words = words[first_index_from(self.before.from_s, words) :]
        return before_audio + words[count_written(before + before_audio, words, self.before.until_s, begin_s) :]

    def _after(
        self,
        transcript: Transcript,
        out: Sequence[PlacedWord],
        held: Sequence[PlacedWord],
        audio: TranscribedRange,
    ) -> Written:
        before = self.before
        from_s = before.from_s if before.sure else audio.start_s
        # The model may give a new word a time long before its window; it will not do so again.
        first_s = self._first_s(audio)
        new = [(word.word.strip(), *_from(first_s, word)) for word in out]
        until_s = new[-1][2] if new else before.until_s if before.sure else audio.start_s
        return Written(
            until_s=until_s,
            words=tuple(word for word in (*before.words, *new) if word[2] > audio.end_s - self.reach_s),
            held=tuple(word[:4] for word in held),
            language=transcript.language if transcript.text else before.language,
            from_s=from_s,
        )

    def _restricted_to(
        self, transcript: Transcript, found: Sequence[PlacedWord], audio: TranscribedRange
    ) -> Transcript:
        """``transcript`` with these words only.

        Their times count from the window's start, and lie within it or by what may be held back before it; but words that another
        window held back keep their times.
        """
        return keep_words(transcript, found, audio, self._first_s(audio))

    def _first_s(self, audio: TranscribedRange) -> float:
        """Where the first new word of a window may begin."""
        return max(audio.start_s - self._most_held_s, min(self.before.until_s, audio.start_s))


def keep_words(
    transcript: Transcript, found: Sequence[PlacedWord], audio: TranscribedRange, first_s: float
) -> Transcript:
    """``transcript`` with these words only, moved out of pauses, between ``first_s`` and the window's end.

    Words that another window held back keep their times.
    """
    words: list[Word] = []
    groups = whole_words(found)
    own_s = [(parts[0].start_s, parts[-1].end_s) for parts in groups if parts[0].of >= 0]
    published_s = iter(audio.pauses.place(own_s, first_s))
    least_s = first_s
    for parts in groups:
        start_s, end_s = parts[0].start_s, parts[-1].end_s
        if parts[0].of >= 0:
            start_s, end_s = next(published_s)
            start_s = max(start_s, least_s)
            end_s = least_s = max(end_s, start_s)
        start_s, end_s = (min(time_s, audio.end_s) - audio.start_s for time_s in (start_s, end_s))
        words.append(Word("".join(part.word for part in parts).strip(), start_s, end_s, parts[0].confidence))
    timed = transcript.words is not None and (bool(transcript.words) or not transcript.text)
    timed |= bool(found) and all(word.of < 0 for word in found)  # they have theirs, whatever the transcript has
    text = "".join(word.word for word in found).strip()
    return transcript.with_words(text, tuple(words) if timed else transcript.words)


def _from(first_s: float, word: PlacedWord) -> tuple[float, float]:
    """Its times, which for a new word are not before ``first_s``; a word that was held back keeps them."""
    if word.of < 0:
        return word.start_s, word.end_s
    return max(word.start_s, first_s), max(word.end_s, first_s)


def first_index_from(time_s: float, words: Sequence[PlacedWord]) -> int:
    """Index of the first word whose middle is at or after a time."""
    return next((i for i, word in enumerate(words) if word.middle_s >= time_s), len(words))


def placed_words(transcript: Transcript, audio: TranscribedRange) -> list[PlacedWord]:
    """The words of a transcript, or its characters in languages without spaces, in seconds of the session."""
    begin_s = audio.start_s - audio.lead_s
    words: Sequence[Word] = transcript.words or ()
    if not words:
        words = _spread(transcript, audio.end_s + audio.tail_s - begin_s)
    parts = _characters if transcript.language in WITHOUT_SPACES else _whole
    spaces = _spaces(transcript.text, words, default="" if transcript.language in WITHOUT_SPACES else " ")
    return [
        PlacedWord(
            (space if n == 0 else "") + part,
            round(begin_s + start_s, 3),
            round(begin_s + end_s, 3),
            word.confidence,
            number,
        )
        for number, (word, space) in enumerate(zip(words, spaces, strict=True))
        for n, (part, start_s, end_s) in enumerate(parts(word))
    ]


def _spaces(text: str, words: Sequence[Word], *, default: str) -> Iterator[str]:
    """What precedes each word in ``text``: a space or nothing; ``default`` where the word is not found."""
    place = 0
    for word in words:
        begin = text.find(word.word, place)
        if begin < 0 or text[place:begin].strip():
            yield default
        else:
            yield " " if begin > place or (not begin and default) else ""
            place = begin + len(word.word)


def _whole(word: Word) -> list[tuple[str, float, float]]:
    return [(word.word, word.start_s, word.end_s)]


def _characters(word: Word) -> list[tuple[str, float, float]]:
    """Each with the punctuation that follows it: two passes group the same characters differently."""
    groups: list[str] = []
    for char in word.word:
        if groups and not char.isalnum():
            groups[-1] += char
        else:
            groups.append(char)
    step_s = (word.end_s - word.start_s) / max(1, len(groups))
    return [(group, word.start_s + n * step_s, word.start_s + (n + 1) * step_s) for n, group in enumerate(groups)]


def _spread(transcript: Transcript, duration_s: float) -> list[Word]:
    """Words of a text without times, spread evenly over ``duration_s``."""
    texts = list(transcript.text) if transcript.language in WITHOUT_SPACES else transcript.text.split()
    total, done = sum(map(len, texts)), 0
    words: list[Word] = []
    for text in texts:
        start_s, done = duration_s * done / total, done + len(text)
        words.append(Word(text, start_s, duration_s * done / total, 1.0))
    return words
