"""Finals of a file, cut where the speaker changes.

In: finals, and the turns of voices. Out: the same finals in parts of one speaker each.
"""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import accumulate, groupby, pairwise
from operator import itemgetter

from transcriber.pipeline.speakers import clipped, labels, speaker_of_most
from transcriber.schema.messages import Final, Turn, Word
from transcriber.text.phrases import SENTENCE_ENDS

PAUSE_S = 0.3
"""Few answers come sooner, and most breaths are shorter."""

LEAST_S = 0.6
"""Within a sentence nobody else says less: the times of words and of turns are imprecise. Nor does a sentence that is shorter end before a
pause."""

_CLOSERS = "\"'”’»)]」』"  # noqa: RUF001

_Run = tuple[str | None, list[Word]]
"""Words in a row that have one label."""


def by_speaker(final: Final, turns: Sequence[Turn]) -> list[Final]:
    """``final``, labelled; several that tile it, frames, text and words, if the speaker changes in it.

    Args:
        final: any but a partial one.
        turns: those of its range and its words, by start.
    """
    own = clipped(turns, final.start, final.start + final.duration)
    if not final.words:
        longest = max(own, key=lambda turn: turn.end - turn.start, default=None)
        return [final.model_copy(update={"speaker": longest.speaker if longest and final.text else None, "turns": own})]
    said = _all_labelled([run for sentence in _sentences(final.words) for run in _runs(sentence, turns)])
    runs = [
        (speaker, [word for _, words in same for word in words]) for speaker, same in groupby(said, key=itemgetter(0))
    ]
    return _cut(final, runs, own)


def _all_labelled(runs: Sequence[_Run]) -> list[_Run]:
    """Words without a label have the one before them, the first ones the one after them."""
    found = next((speaker for speaker, _ in runs if speaker is not None), None)
    return [(found := found if speaker is None else speaker, words) for speaker, words in runs]


def _sentences(words: Sequence[Word]) -> Iterator[list[Word]]:
    """Words between pauses and ends of sentences."""
    found: list[Word] = []
    for word in words:
        if found and _begins(found, word):
            yield found
            found = []
        found.append(word)
    yield found


def _begins(sentence: Sequence[Word], word: Word) -> bool:
    """Whether ``word`` begins another sentence."""
    last = sentence[-1]
    if word.start - last.end >= PAUSE_S:
        return True
    return last.word.rstrip(_CLOSERS).endswith(tuple(SENTENCE_ENDS)) and last.end - sentence[0].start >= LEAST_S


def _runs(sentence: list[Word], turns: Sequence[Turn]) -> list[_Run]:
    """The words of each speaker in a sentence; a run that is too short has the speaker before it, the first the one after it."""
    labelled = zip(labels(((word.start, word.end) for word in sentence), turns), sentence, strict=True)
    runs: list[_Run] = [(one, [word for _, word in same]) for one, same in groupby(labelled, key=itemgetter(0))]
    long = [number for number, (_, words) in enumerate(runs) if words[-1].end - words[0].start >= LEAST_S]
    if not long:
        return [(speaker_of_most(one for one, words in runs for _ in words), sentence)]
    return [
        (runs[max((n for n in long if n <= number), default=long[0])][0], words)
        for number, (_, words) in enumerate(runs)
    ]


def _cut(final: Final, runs: Sequence[_Run], turns: Sequence[Turn]) -> list[Final]:
    """Finals of these runs; each cut is in the middle of the pause."""
    texts = _texts(final.text, final.words or (), [len(words) for _, words in runs])
    end_frame = final.start_frame + final.frames
    cuts = [final.start_frame]
    for (_, words), (_, following) in pairwise(runs):
        middle = round((words[-1].end + following[0].start) / 2 * final.rate)
        cuts.append(min(max(middle, cuts[-1]), end_frame))
    finals = []
    for number, ((speaker, words), text, (start, stop)) in enumerate(
        zip(runs, texts, pairwise([*cuts, end_frame]), strict=True), 1
    ):
        changed = {
            "start_frame": start,
            "frames": stop - start,
            "start": start / final.rate,
            "duration": (stop - start) / final.rate,
            "text": text,
            "words": tuple(word.model_copy(update={"speaker": speaker}) for word in words),
            "speech_final": final.speech_final or number < len(runs),
            "speaker": speaker,
            "turns": clipped(turns, start / final.rate, stop / final.rate),
            "captured_at": final.captured_at and final.captured_at + _seconds(start - final.start_frame, final.rate),
        }
        finals.append(final.model_copy(update=changed))
    return finals


def _texts(text: str, words: Sequence[Word], counts: Sequence[int]) -> list[str]:
    """The text cut before the first word of each part; ``counts`` is how many words each has."""
    starts, at = [], 0  # where each word starts; one not found in the text, where the previous word ends
    for word in words:
        start = text.find(word.word, at)
        starts.append(at if start < 0 else start)
        at = at if start < 0 else start + len(word.word)
    cuts = [0, *(starts[number] for number in list(accumulate(counts))[:-1]), len(text)]
    return [text[start:stop].strip() for start, stop in pairwise(cuts)]


def _seconds(frames: int, rate: int) -> timedelta:
    return timedelta(seconds=frames / rate)
