"""Is this answer to be believed? From what the decoder did, whatever the language.

In: the tokens of one answer and how they came about. Out: None, or the reason for doubt. With stock weights a tight
encoder context is known to make the decoder miss its end and repeat itself; these are the marks of it.
"""

from collections.abc import Sequence
from typing import Literal

Doubt = Literal["token_cap", "gave_up", "log_probability", "repetition"]

MIN_AVG_LOGPROB = -1.0
"""OpenAI's threshold, below which it decodes again (whisper/transcribe.py, ``logprob_threshold``)."""

MIN_REPEATS = 4
MIN_REPEATED_TOKENS = 8
"""Less is speech: "no, no, no, no" has four."""

MAX_PERIOD = 12
SILENT_STEPS = 6
"""Decoder steps in which whisper says that there is nothing: a time stamp or two and the end."""


def doubt(tokens: Sequence[object], avg_logprob: float | None, *, steps: int, max_steps: int) -> Doubt | None:
    """Why the answer may be wrong.

    Args:
        tokens: the text tokens, in any form that can be compared.
        avg_logprob: their mean log-probability; None without tokens.
        steps: how often the decoder ran; a failed answer has steps, but no tokens.
        max_steps: how often it was allowed to.
    """
    if steps > max_steps:
        return "token_cap"
    if avg_logprob is None:
        return "gave_up" if steps > SILENT_STEPS else None
    if avg_logprob < MIN_AVG_LOGPROB:
        return "log_probability"
    return "repetition" if any(_repeats(tokens, period) for period in range(1, MAX_PERIOD + 1)) else None


def _repeats(tokens: Sequence[object], period: int) -> bool:
    """Whether somewhere the same ``period`` tokens come again and again."""
    needed = max(MIN_REPEATS * period, MIN_REPEATED_TOKENS) - period
    run = 0
    for earlier, later in zip(tokens, tokens[period:], strict=False):
        run = run + 1 if earlier == later else 0
        if run >= needed:
            return True
    return False
