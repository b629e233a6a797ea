"""What the guards make of windows with speech: is right text held back?

In: a model, and recordings with what is said in them, cut and heard as the daemon does with the default settings: gate, end of speech, left
context, a second asking where the first is doubted. Out: of each window what was heard, how much of what is new in it is right, and what the
guards went by.
"""

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from bench.lib.offline import Noting, Offline
from bench.lib.recordings import Recording, Word
from bench.lib.report import Results, quantiles
from bench.lib.windows import windows_of
from bench.lib.words.normal import Split
from transcriber.audio.session import Window
from transcriber.audio.vad.detector import Network
from transcriber.config import Settings
from transcriber.engine.hallucination import UNHEARD_SPEECH_S, letters
from transcriber.engine.job import WHISPER_SAMPLE_RATE, SpeechModel

WORDS_S = 0.3
"""A window with so many seconds of words has speech, as in ``bench.gate``."""

SLIP_S = 1.5
"""Times slip: words said so shortly before or after a window may be transcribed in it."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """On one window.

    Attributes:
        start_s, duration_s: of the window, in its recording.
        lead_s: seconds before it that were heard too.
        words_s: seconds of words that are said in it; None where their times are not known.
        speech_s, speech_prob: what the detector heard.
        text: what whisper said before it was judged, and of it ``new`` what by its times is of the window.
        said, right: words that are new, and of them those that were spoken.
        avg_logprob, new_avg_logprob: of all tokens, and of the new words (mean over words).
        rate, new_rate: letters a second of the speech there may be.
        first_doubt, doubt: of the first asking, and of the answer that was taken.
        suppressed: why it is held back.
    """

    recording: str
    start_s: float
    duration_s: float
    lead_s: float
    words_s: float | None
    speech_s: float
    speech_prob: float
    text: str
    new: str
    said: int
    right: int
    avg_logprob: float | None
    new_avg_logprob: float | None
    rate: float
    new_rate: float
    first_doubt: str | None
    doubt: str | None
    suppressed: str | None

    @property
    def spoken(self) -> bool:
        """Whether there is speech in it."""
        return (self.speech_s if self.words_s is None else self.words_s) >= WORDS_S

    @property
    def useful(self) -> bool:
        """Whether half of what is new in it or more is right."""
        return self.said > 0 and 2 * self.right >= self.said


def verdicts(
    recording: Recording, model: SpeechModel, settings: Settings, language: str, network: Network, split: Split
) -> Iterator[Verdict]:
    """Of all windows that the gate lets pass."""
    ears = Noting(model)
    offline = Offline(ears, settings, language)
    for window, _ in windows_of(recording, settings, network):
        ears.calls.clear()
        yield _verdict(recording, window, offline, ears, split)


def figures(windows: Sequence[Verdict]) -> Results:
    """Of one corpus. ``right_held_back`` lists every window whose text was held back though half of what is new in it is right."""
    spoken = [one for one in windows if one.spoken]
    useful = [one for one in spoken if one.useful]
    perfect = [one for one in useful if one.right == one.said and not one.first_doubt]
    held = [one for one in spoken if one.suppressed]
    likely = [one.avg_logprob for one in perfect if one.avg_logprob is not None]
    new_likely = [one.new_avg_logprob for one in perfect if one.new_avg_logprob is not None]
    lost = [one for one in spoken if not one.text and (one.words_s or 0.0) >= 1.0]
    return {
        "windows": len(windows),
        "with_speech": len(spoken),
        "with_left_context": sum(one.lead_s > 1.0 for one in spoken),
        "doubted": sum(one.first_doubt is not None for one in spoken),
        "held_back": len(held),
        "half_right": len(useful),
        "half_right_held_back": sum(one.suppressed is not None for one in useful),
        "right_held_back": [asdict(one) for one in useful if one.suppressed],
        "wrong_held_back": [asdict(one) for one in held if not one.useful],
        "no_text_for_a_second_of_words": len(lost),
        "no_word_wrong": len(perfect),
        "no_word_wrong_avg_logprob": quantiles(likely, least=0.0, thousandth=0.001, hundredth=0.01, median=0.5),
        "no_word_wrong_new_avg_logprob": quantiles(new_likely, least=0.0, thousandth=0.001, hundredth=0.01, median=0.5),
        "half_right_speech_prob": quantiles([one.speech_prob for one in useful], least=0.0, hundredth=0.01),
        "half_right_letters_per_second": quantiles([one.rate for one in useful], median=0.5, most=1.0),
        "half_right_new_letters_per_second": quantiles([one.new_rate for one in useful], median=0.5, most=1.0),
    }


def _verdict(recording: Recording, window: Window, offline: Offline, ears: Noting, split: Split) -> Verdict:
    job, answer = offline.ask(window)
    offline.follow(window, answer)
    # Of several answers the one that was taken, as it was before it was judged and its hurried end left out.
    taken = next(
        one
        for one in reversed(ears.answers)
        if (one.without_hurried_end().avg_logprob, one.doubt) == (answer.avg_logprob, answer.doubt)
    )
    start_s, duration_s = window.start_frame / WHISPER_SAMPLE_RATE, window.frames / WHISPER_SAMPLE_RATE
    own = [word for word in taken.words or () if word.start_s + word.end_s >= 2 * answer.lead_s]
    new = " ".join(word.word for word in own)
    heard, true = split(new), split(_said_around(recording, start_s - SLIP_S, start_s + duration_s + SLIP_S))
    matcher = difflib.SequenceMatcher(None, true, heard, autojunk=False)
    speech_s = job.speech_s or 0.0
    logprobs = [float(np.log(max(word.confidence, 1e-6))) for word in own]
    return Verdict(
        recording=recording.name,
        start_s=round(start_s, 2),
        duration_s=round(duration_s, 2),
        lead_s=round(answer.lead_s, 2),
        words_s=_words_within(recording.words, start_s, start_s + duration_s),
        speech_s=round(speech_s, 2),
        speech_prob=round(job.speech_prob or 0.0, 3),
        text=taken.text,
        new=new,
        said=len(heard),
        right=sum(block.size for block in matcher.get_matching_blocks()),
        avg_logprob=answer.avg_logprob,
        new_avg_logprob=float(np.mean(logprobs)) if logprobs else None,
        rate=round(letters(taken.text) / (speech_s + answer.lead_s + UNHEARD_SPEECH_S), 1),
        new_rate=round(letters(new) / (speech_s + UNHEARD_SPEECH_S), 1),
        first_doubt=ears.answers[0].doubt,
        doubt=answer.doubt,
        suppressed=answer.suppressed,
    )


def _said_around(recording: Recording, start_s: float, end_s: float) -> str:
    if recording.words is None:
        return recording.text
    return " ".join(word.text for word in recording.words if word.end_s > start_s and word.start_s < end_s)


def _words_within(words: Sequence[Word] | None, start_s: float, end_s: float) -> float | None:
    if words is None:
        return None
    return round(sum(max(0.0, min(word.end_s, end_s) - max(word.start_s, start_s)) for word in words), 2)
