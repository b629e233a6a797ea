"""Text in readable pieces, in order of time. In: transcript messages of one session. Out: phrases; no I/O.

A window of 25 s is too long for a caption: its text is split at the ends of sentences and at pauses, by the times of its
words, and where the speaker changes; without these, its time is divided by characters. A gap, or another channel's text, may
arrive before an earlier text and waits for it.
"""

import heapq
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
from itertools import accumulate, pairwise
from typing import NamedTuple

from transcriber.schema.languages import WITHOUT_SPACES
from transcriber.schema.messages import AnyMessage, End, Final, Gap, Silence, Status, Transcribed, Word
from transcriber.text.lines import LINE_COLUMNS, clusters, columns, wrapped

LINES = 2
MAX_PHRASE_S = 7.0
MIN_PHRASE_S = 1.0
"""A caption shown for less cannot be read; it gets so much if the next one leaves it."""

SHORTEST_S = 0.3
"""No phrase is shown for less, unless its window is shorter."""

PAUSE_S, TURN_PAUSE_S = 1.0, 0.3
"""A pause that ends a phrase; and where each speaker has a channel, one that is long enough for an answer."""

SENTENCE_ENDS, CLAUSE_ENDS = ".?!…。？！｡؟।", ",;:،、，；："  # noqa: RUF001 - other scripts have marks of their own
CHANNELS = ("0", "1")
"""Labels of channels that are transcribed separately: the messages of each tile the session."""


class Phrase(NamedTuple):
    """A phrase; ordered by time, then by channel, ``""`` if channels are not transcribed separately.

    Attributes:
        number: makes the order total.
        speaker: ``""`` if that is not known.
        joint: the text between the phrase before and this one in running text.
        words: with their times; None if these are not known.
        source: the message that it is from.
    """

    start_frame: int
    channel: str
    number: int
    speaker: str
    start_s: float
    end_s: float
    text: str
    joint: str
    words: tuple[Word, ...] | None
    source: Final | Gap


class _Coverage:
    """How far the messages of one channel cover the session without a hole.

    Attributes:
        reached: the first frame that is not covered; -1 before the first message of a session that is joined in the middle.
    """

    def __init__(self, first_frame: int) -> None:
        self.reached = first_frame
        self._early: list[tuple[int, int]] = []  # a heap of ranges that arrived before earlier ones

    def add(self, message: Final | Gap | Silence) -> None:
        """Cover the range of ``message``."""
        start = message.start_frame
        heapq.heappush(self._early, (start, start + message.frames))
        # Finals arrive in order. In the middle of a session earlier messages are not known; but a gap is often early.
        if isinstance(message, Final) or (self.reached < 0 and not isinstance(message, Gap)):
            self.reached = max(self.reached, start)
        while self._early and self._early[0][0] <= self.reached:
            self.reached = max(self.reached, heapq.heappop(self._early)[1])


class PhraseQueue:
    """The phrases of one session: that of the first message; messages of others are ignored.

    Attributes:
        ended: whether the session has ended and all its phrases are returned.
    """

    def __init__(self, *, split: bool = True, room: int = 0) -> None:
        """``split`` says whether long texts are split, which else are only where the speaker changes.

        ``room`` is how many columns of a phrase a speaker's name of one letter takes.
        """
        self.ended = False
        self._split, self._room = split, room
        self._session: tuple[str, str] | None = None
        self._count = 0
        self._from_start = False  # whether its first message was received
        self._waiting: list[Phrase] = []  # a heap
        self._coverage: dict[str | None, _Coverage] = {}  # by channel, if these are transcribed separately

    def add(self, message: AnyMessage) -> list[Phrase]:
        """The phrases that this message completes; often none."""
        if self._session is None:
            self._session = message.stream, message.session
        if self.ended or self._session != (message.stream, message.session):
            return []
        match message:
            case Status(state="started"):
                self._from_start = True
            case Gap() | Silence() if message.frames:
                self._take(message)
            case Final() if (
                message.frames or message.text
            ):  # where a speaker has only words that the window before held back
                self._take(message)
            case End():
                self.ended = True
        return list(self._complete())

    def _take(self, message: Final | Gap | Silence) -> None:
        """Add the range of a message to its channel's coverage, and its phrases to those that wait."""
        channel = channel_of(message.speaker)
        if not self._coverage:
            self._coverage[None] = _Coverage(0 if self._from_start else -1)
        if channel is not None and (of_all := self._coverage.pop(None, None)):
            self._coverage = {label: deepcopy(of_all) for label in CHANNELS}
        for label, coverage in self._coverage.items():
            if label == channel or (channel is None and isinstance(message, Gap)):
                coverage.add(message)
        if isinstance(message, Gap):
            self._put(
                message, [Part("", message.start, message.start + message.duration, None, "", message.speaker or "")]
            )
        elif isinstance(message, Final) and (text := clean(message.text)):
            self._put(message, split(message, text, room=self._room) if self._split else by_speaker(message, text))

    def _put(self, message: Final | Gap, parts: "Sequence[Part]") -> None:
        for part in parts:
            self._count += 1
            offset = min(int((part.start_s - message.start) * message.rate), message.frames - 1)
            frame = message.start_frame + max(0, offset)
            phrase = Phrase(
                frame, channel_of(message.speaker) or "", self._count, part.speaker, part.start_s, part.end_s, part.text,
                part.joint, part.words, message,
            )  # fmt: skip
            heapq.heappush(self._waiting, phrase)

    def _complete(self) -> Iterator[Phrase]:
        """The waiting phrases before which nothing is missing."""
        reached = min((coverage.reached for coverage in self._coverage.values()), default=0)
        while self._waiting and (self.ended or self._waiting[0].start_frame < reached):
            yield heapq.heappop(self._waiting)


class Part(NamedTuple):
    """A piece of a text, of one speaker, ``""`` if that is not known."""

    text: str
    start_s: float
    end_s: float
    words: tuple[Word, ...] | None
    joint: str
    speaker: str


class _Token(NamedTuple):
    """The smallest unit that stays together: a word, or a grapheme cluster.

    Attributes:
        begin, end: its place in the text.
        speaker: ``""`` if that is not known.
        words: that begin in it.
    """

    begin: int
    end: int
    start_s: float
    end_s: float
    speaker: str
    words: tuple[Word, ...] = ()


def channel_of(speaker: str | None) -> str | None:
    """The channel that a ``speaker`` is; None: a voice, or all of them."""
    return speaker if speaker in CHANNELS else None


def by_speaker(message: Transcribed, text: str) -> list[Part]:
    """``text`` of ``message``, in a part for each stretch of one speaker; if there is but one, it has all of the time."""
    several = len({word.speaker for word in message.words or () if word.speaker}) > 1
    tokens = _timed(message, text) if several else []
    starts = [at for at in range(1, len(tokens)) if tokens[at].speaker != tokens[at - 1].speaker]
    if not starts:
        speaker = tokens[0].speaker if tokens else message.speaker or ""
        return [Part(text, message.start, message.start + message.duration, message.words, _joint(message), speaker)]
    return [_part(message, text, tokens, first, last) for first, last in pairwise([0, *starts, len(tokens)])]


def split(final: Final, text: str, *, room: int = 0) -> list[Part]:
    """``text`` of ``final``, in parts of one speaker, at most two lines and about 7 s; their times are in order, within its own.

    ``room`` is how many columns a speaker's name of one letter takes.
    """
    timed = _timed(final, text)
    longest = max(columns(label) for label in (final.speaker or "", *(token.speaker for token in timed)))
    room = room + longest - 1 if room and longest else 0
    tokens = [piece for token in timed or _shared_out(final, text) for piece in _short(text, token, room)]
    parts = _parts(final, text, tokens, room)
    return _readable(parts if timed else _with_words(parts, final.words), final)


def _readable(parts: list[Part], final: Final) -> list[Part]:
    """The parts, each of them for ``SHORTEST_S`` at least, or as long as they can be within their final."""
    least_s = min(SHORTEST_S, final.duration / len(parts))
    ranges: list[tuple[float, float]] = []
    at_s = final.start
    for part in parts:
        start_s = max(part.start_s, at_s)
        at_s = max(part.end_s, start_s + least_s)
        ranges.append((start_s, at_s))
    limit_s, fitting = final.start + final.duration, list[Part]()
    for part, (start_s, end_s) in zip(reversed(parts), reversed(ranges), strict=True):
        until_s = min(end_s, limit_s)
        limit_s = max(final.start, min(start_s, until_s - least_s))
        fitting.append(part._replace(start_s=limit_s, end_s=until_s))
    return fitting[::-1]


def _parts(final: Final, text: str, tokens: list[_Token], room: int) -> list[Part]:
    pause_s = TURN_PAUSE_S if final.speaker in CHANNELS else PAUSE_S
    bounds = [0, *_bounds(text, tokens, room, pause_s), len(tokens)]
    return [_part(final, text, tokens, first, last) for first, last in pairwise(bounds)]


def _part(message: Transcribed, text: str, tokens: list[_Token], first: int, last: int) -> Part:
    """The part of these tokens, shown until the next one or for ``MIN_PHRASE_S``."""
    begin = tokens[first].begin if first else 0
    end = tokens[last].begin if last < len(tokens) else len(text)
    start_s = tokens[first].start_s
    limit_s = tokens[last].start_s if last < len(tokens) else message.start + message.duration
    end_s = min(max(tokens[last - 1].end_s, start_s + MIN_PHRASE_S), limit_s)
    words = tuple(word for token in tokens[first:last] for word in token.words)
    joint = _joint(message) if not first else " " if text[begin - 1].isspace() else ""
    return Part(text[begin:end].strip(), start_s, end_s, words or None, joint, tokens[first].speaker)


def _bounds(text: str, tokens: list[_Token], room: int, pause_s: float) -> Iterator[int]:
    """The tokens with which new parts begin."""
    first = 0
    for index in range(1, len(tokens)):
        before, token = tokens[index - 1], tokens[index]
        over = token.speaker != before.speaker or token.start_s - before.end_s >= pause_s
        while first < index and (over or not _fits(text, tokens, first, index + 1, room)):
            first = index if over else _break(text, tokens, first, index)
            yield first


def _fits(text: str, tokens: list[_Token], first: int, last: int, room: int) -> bool:
    end = tokens[last].begin if last < len(tokens) else len(text)
    if tokens[last - 1].end_s - tokens[first].start_s > MAX_PHRASE_S:
        return False
    return _in_two_lines(text[tokens[first].begin : end].strip(), room)


def _in_two_lines(text: str, room: int) -> bool:
    """Whether a caption holds it beside a name of ``room`` columns, the space behind it included."""
    short = 2 * len(text) + room <= LINE_COLUMNS
    return short or len(wrapped(f"{'_' * (room - 1)} {text}")) <= LINES


def _break(text: str, tokens: list[_Token], first: int, last: int) -> int:
    """The best token to end the part before that begins with ``first``, ``last`` at the latest."""
    for marks, least in ((SENTENCE_ENDS, first + (last - first) // 3), (CLAUSE_ENDS, first + (last - first) // 2)):
        for index in range(last, max(least, first), -1):
            if text[: tokens[index].begin].rstrip().endswith(tuple(marks)):
                return index
    return last


def _timed(final: Transcribed, text: str) -> list[_Token]:
    """The words with their times, places in ``text`` and speakers; none if they are not all found, in order.

    One that begins within a cluster of characters belongs to the word before it. One without a label is taken for the speaker's of
    the word before it; at the beginning, of the first that has one.
    """
    whole = frozenset(accumulate(map(len, clusters(text)), initial=0))
    tokens: list[_Token] = []
    place, reached_s, end_s = (
        0,
        final.start,
        final.start + final.duration,
    )  # also for words that the window before held back
    speaker = next((word.speaker for word in final.words or () if word.speaker), final.speaker) or ""
    for word in final.words or ():
        speaker = word.speaker or speaker
        bare = clean(word.word)
        begin = text.find(bare, place)
        if not bare or begin < 0 or text[place:begin].strip():
            return []
        place = begin + len(bare)
        reached_s = min(max(word.start, reached_s), end_s)
        token = _Token(begin, place, reached_s, min(max(word.end, reached_s), end_s), speaker, (word,))
        if tokens and begin not in whole:
            before = tokens.pop()
            token = before._replace(end=place, end_s=token.end_s, words=(*before.words, word))
        tokens.append(token)
    return tokens if not text[place:].strip() else []


def _shared_out(final: Final, text: str) -> list[_Token]:
    """Words, or clusters in a script without spaces, each with its share of the time with speech."""
    limit_s = final.start + final.duration
    start_s, end_s = final.start, limit_s
    if final.words:
        start_s, end_s = (min(max(at, final.start), limit_s) for at in (final.words[0].start, final.words[-1].end))
    spaced = final.language not in WITHOUT_SPACES and " " in text
    pieces = [f"{word} " for word in text.split(" ")] if spaced else clusters(text)
    return _cut(text, _Token(0, len(text), start_s, max(start_s, end_s), final.speaker or ""), pieces)


def _short(text: str, token: _Token, room: int) -> list[_Token]:
    """``token``, in pieces if it does not fit a caption."""
    said = text[token.begin : token.end]
    return [token] if _in_two_lines(said, room) else _cut(text, token, clusters(said))


def _cut(text: str, token: _Token, pieces: Iterable[str]) -> list[_Token]:
    """A token for each of ``token``'s ``pieces`` but spaces; each has its share of the time, and the first the words."""
    each_s = (token.end_s - token.start_s) / max(1, token.end - token.begin)
    found: list[_Token] = []
    for begin, end in pairwise(accumulate(map(len, pieces), initial=token.begin)):
        if not text[begin:end].isspace():
            start_s, end_s = (min(token.start_s + (at - token.begin) * each_s, token.end_s) for at in (begin, end))
            found.append(_Token(begin, end, start_s, end_s, token.speaker, () if found else token.words))
    return found


def _with_words(parts: list[Part], words: tuple[Word, ...] | None) -> list[Part]:
    """The parts with those words that begin in their time, for words that do not occur literally in the text."""
    own: list[list[Word]] = [[] for _ in parts]
    for word in words or ():
        own[max(0, bisect_right(parts, word.start, key=lambda part: part.start_s) - 1)].append(word)
    return [part._replace(words=tuple(found) or None) for part, found in zip(parts, own, strict=True)]


def _joint(final: Transcribed) -> str:
    return "" if final.language in WITHOUT_SPACES else " "


def clean(text: str) -> str:
    """``text`` on one line and without control characters, so that a publisher cannot control a terminal."""
    return " ".join("".join(" " if unicodedata.category(c) == "Cc" else c for c in text).split())
