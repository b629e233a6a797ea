"""Is a transcript credible? Judged by what the decoder did and what the voice activity detector found, in any language.

In: one transcript, how it was decoded, and how much speech there was. Out: None; or the reason to transcribe again (``doubt``); or,
once that was done, the reason to hold the text back (``suppression``). With stock weights a tight encoder
context is known to make the decoder miss its end and repeat itself; on noise and music every Whisper model hallucinates.
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import Literal

from transcriber.schema.messages import Suppressed

Doubt = Literal["token_cap", "gave_up", "log_probability", "repetition"]

MIN_AVG_LOGPROB = -1.0
"""OpenAI's threshold, below which it decodes again (whisper/transcribe.py, ``logprob_threshold``). Of the bundled model's
windows with no word wrong the least likely has -0.29 clean, -0.34 under noise 15 dB and -0.50 under noise 5 dB below
the speech (``bench.guards``)."""

WEAK_SPEECH_PROB = 0.9
"""The detector was sure of all speech, even in noise as loud (1.00 in 254 windows), but of hum and tones that set in at most 0.89."""

MIN_AVG_LOGPROB_OF_SURE_SPEECH = -1.3
"""Where there surely is speech, less likely text is doubted, and transcribed once more, but only what is less likely than this is held back:
names and few words are unlikely though they are right. Of tiny.en's windows of dialogues in which half of what is new or more is right
"Claims Department, Priya speaking" has -1.14, and of those with no word wrong the least likely -0.58 (``bench.guards``)."""

MIN_AVG_LOGPROB_OF_WEAK_SPEECH = -0.6
"""What is hardly speech must be likelier text than what surely is. Right text stays above it in all the noise above."""

MIN_NEW_WORDS = 3
"""Of fewer the mean says little: one rare name is enough to make it low."""

MIN_REPEATS = 4
MIN_REPEATED_TOKENS = 8
"""Less is speech: "no, no, no, no" has four. More may be: then it depends on the time there was to say it."""

MAX_PERIOD = 12
SILENT_STEPS = 6
"""Decoder steps in which whisper says that there is nothing: a time stamp or two and the end."""

MAX_LETTERS_PER_SECOND = 60
"""Faster than people speak. Read in 7 s, which is hurried, the first article of the Declaration of Human Rights has 15 to
37 letters a second in 34 languages, counted as ``letters`` does. Tokens would not do: the same takes 5 a second in English
and 103 in Burmese."""

STAMP_S = 0.25
"""By so much a phrase's time stamps may be too near to each other. At the end of a text, where they often are, words that were said, or
begun, need at most 0.17 s more; what is said again or made up where the audio ends in mid-sentence, 0.5 to 1.0 (2255 phrases of tiny.en and
base, in the answers that ``bench.left_context --answers`` keeps)."""

LETTERS_OF_A_WIDE_CHARACTER = 3
"""Chinese, Japanese and Korean write a syllable with one; others take about three letters for it."""

MAX_SAID_AGAIN_WORDS = 2
"""People say a word or two again and again: "no", "thank you"; and rows of numbers, as in counting. Whisper's loops are as often
whole clauses."""

MAX_SAID_AGAIN_PER_SECOND = 25
"""Letters a second of speech, counted as ``letters`` does, of a text that says the same again and again. "No" eight times, "yes"
six times and the like, as tiny.en and base transcribe them from three synthetic voices, have 9 to 21; the article below, read in a
hurry, 24; a loop runs for as many tokens as it may."""

UNHEARD_SPEECH_S = 1.0
"""Seconds of speech that a detector may miss: soft ends of words, and what the noise covers."""


def doubt(tokens: Sequence[object], avg_logprob: float | None, *, steps: int, max_steps: int) -> Doubt | None:
    """Why a transcript may be wrong.

    Args:
        tokens: the text tokens, in any form that can be compared.
        avg_logprob: their mean log-probability; None without tokens.
        steps: how often the decoder ran; a failed decode has steps, but no tokens.
        max_steps: how often it was allowed to.
    """
    if steps > max_steps:
        return "token_cap"
    if avg_logprob is None:
        return "gave_up" if steps > SILENT_STEPS else None
    if avg_logprob < MIN_AVG_LOGPROB:
        return "log_probability"
    return "repetition" if _repeats_at_all(tokens) else None


def doubt_of_new(words: Sequence[str], avg_logprob: float | None, doubted: Doubt | None) -> Doubt | None:
    """Why the new words of a transcript may be wrong, where it also repeats the left context.

    Args:
        words: those of the window, as they are written.
        avg_logprob: the mean over them of each one's mean log-probability; None without words.
        doubted: what ``doubt`` said of the whole transcript.
    """
    if avg_logprob is not None and len(words) >= MIN_NEW_WORDS and avg_logprob < MIN_AVG_LOGPROB:
        return "log_probability"
    # What people repeat across a cut is more often in the whole than in the new words; a loop is in both.
    again = doubted == "repetition" and (
        _repeats_at_all([_sound(word) for word in words]) or _repeats_at_all("".join(words))
    )
    return "repetition" if again else None


def suppression(
    text: str,
    avg_logprob: float | None,
    doubted: Doubt | None,
    *,
    speech_s: float | None = None,
    speech_prob: float | None = None,
) -> Suppressed | None:
    """Why ``text`` is held back; None if it is not, or if there is none.

    Args:
        text: of the transcript.
        avg_logprob: mean log-probability of its tokens; None if not known.
        doubted: what ``doubt`` said of it.
        speech_s: seconds of speech by the voice activity detector; None without one.
        speech_prob: how sure it is that there was any, in [0, 1]; None without one.
    """
    if not text:
        return None
    weak = speech_prob is not None and speech_prob < WEAK_SPEECH_PROB
    if weak and avg_logprob is not None and avg_logprob < MIN_AVG_LOGPROB_OF_WEAK_SPEECH:
        return "no_speech"
    if doubted == "repetition" and speech_s is not None and _said_again(text, speech_s):
        return None
    if doubted == "log_probability" and speech_prob is not None and not weak:
        doubted = doubted if avg_logprob is None or avg_logprob < MIN_AVG_LOGPROB_OF_SURE_SPEECH else None
    if doubted is not None and doubted != "gave_up":
        return doubted
    if speech_s is not None and letters(text) > MAX_LETTERS_PER_SECOND * (speech_s + UNHEARD_SPEECH_S):
        return "rate"
    return None


def is_hurried(length: float, duration_s: float) -> bool:
    """Whether a phrase of so many letters cannot have been said between its time stamps."""
    return length > MAX_LETTERS_PER_SECOND * (duration_s + STAMP_S)


def letters(text: str) -> int:
    """How long a text takes to say, in letters of an alphabet, whatever the script.

    >>> letters("harbour"), letters("港湾"), letters("항구")
    (7, 6, 6)
    """
    return sum(LETTERS_OF_A_WIDE_CHARACTER if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def said_in_time(text: str, speech_s: float) -> bool:
    """Whether ``text``, which repeats itself, may have been said in ``speech_s``."""
    return letters(text) <= MAX_SAID_AGAIN_PER_SECOND * speech_s


def _said_again(text: str, speech_s: float) -> bool:
    """Whether a speaker may have repeated this in ``speech_s``; the decoder reached its end.

    Words are compared as they sound. A script without spaces is one word, which cannot be judged.
    """
    if not said_in_time(text, speech_s):
        return False
    words = re.findall(r"[^\W_]+(?:['’][^\W_]+)*", text.casefold())  # noqa: RUF001 - as whisper may write it
    distinct = words
    for count in range(1, MAX_PERIOD + 1):
        distinct = _once(distinct, count, any_word=count <= MAX_SAID_AGAIN_WORDS)
    return len(distinct) < len(words) and not _repeats_at_all(distinct)


def _sound(word: str) -> str:
    """What two spellings of a word have in common."""
    return "".join(filter(str.isalnum, word.casefold()))


def _once(words: Sequence[str], count: int, *, any_word: bool) -> list[str]:
    """The words without repetitions of the ``count`` words before them; only of numbers, unless ``any_word``."""
    kept: list[str] = []
    for word in words:
        kept.append(word)
        last = kept[-count:]
        if last == kept[-2 * count : -count] and (any_word or all(one.isdigit() for one in last)):
            del kept[-count:]
    return kept


def _repeats_at_all(tokens: Sequence[object]) -> bool:
    """Whether some of them repeat at any period."""
    return any(_repeats(tokens, period) for period in range(1, MAX_PERIOD + 1))


def _repeats(tokens: Sequence[object], period: int) -> bool:
    """Whether the same ``period`` tokens repeat somewhere."""
    needed = max(MIN_REPEATS * period, MIN_REPEATED_TOKENS) - period
    run = 0
    for earlier, later in zip(tokens, tokens[period:], strict=False):
        run = run + 1 if earlier == later else 0
        if run >= needed:
            return True
    return False
