"""Do the guards hold back what is right? And what does a prompt do to the words?

In: a model, and recordings with what is said in them, as in ``bench.contexts``; of the held-out voices, or else the readings,
also under noise that is 5 dB below them. They are cut every five seconds, as the daemon does. Each window is heard three times: as it is, after
what was said before (``WHISPER_CONTEXT=prompt``), and after a fixed vocabulary (``WHISPER_PROMPT``).

Out: by corpus the windows; those with words, and with no word wrong; how many of either are held back, as they are and if a
detector of speech took all of them for weak; the least likely of those with no word wrong; the most letters a second of half
the speech there is; and by prompt the word error rate and the time of a window.
"""

import difflib
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.contexts import MINUTES, QUICK_S, WINDOW_S, corpora_for
from bench.normal import Split, split_for, word_errors
from bench.recordings import Recording, Samples, read_folder, with_noise
from bench.report import Results, note, quantiles, run
from bench.spoken import share
from transcriber.config import load_settings
from transcriber.demo.wer import words
from transcriber.engine.context import Context
from transcriber.engine.guards import UNHEARD_SPEECH_S, letters, suppression
from transcriber.engine.job import SpeechModel, Transcript
from transcriber.engine.whisper import load_model
from transcriber.models.catalog import model_name
from transcriber.models.find import find_named_model

LOUD_NOISE_DB = 5.0
VOCABULARY = "Gale warning, north channel, knots, harbour, berth, tide, vessel."


@dataclass(frozen=True, slots=True)
class Answer:
    """To one window; ``right`` of its ``said`` words were spoken, and ``speech_s`` is half of the time they took."""

    transcript: Transcript
    said: int
    right: int
    speech_s: float | None

    def suppressed(self, speech_prob: float) -> bool:
        one = self.transcript
        found = suppression(one.text, one.avg_logprob, one.doubt, speech_s=self.speech_s, speech_prob=speech_prob)
        return found is not None


def add_options(parser: ArgumentParser) -> None:
    parser.add_argument("--model", default="demo", help="a ggml file, or a name such as base.en, downloaded once")
    parser.add_argument("--corpus", type=Path, metavar="DIR", help="recordings with their texts, instead of ours")
    parser.add_argument("--minutes", type=float, default=MINUTES, metavar="N", help="of each corpus; 0: all of it")
    parser.add_argument("--language", default="en", metavar="CODE")


def measure(quick: bool, model: str, corpus: Path | None, minutes: float, language: str) -> Results:
    path, split = find_named_model(load_settings(), model), split_for(model)
    usual = load_model(path, load_settings(buffer_duration_secs=WINDOW_S))
    prompted = load_model(path, load_settings(buffer_duration_secs=WINDOW_S, whisper_prompt=VOCABULARY))
    skipped: list[str] = []
    corpora = {"yours": read_folder(corpus)} if corpus else corpora_for(model, skipped)
    corpora = {name: share(some, minutes) for name, some in corpora.items()}
    for name in {"held_out", "readings"} & corpora.keys():
        corpora[f"{name}_5_db"] = [with_noise(one, LOUD_NOISE_DB) for one in corpora[name]]
    results: Results = {"model": model_name(path), "threads": load_settings().threads, "skipped": skipped}
    for name, recordings in corpora.items():
        note(f"guards: {name}")
        some = recordings
        if quick:
            some = [one.opening(QUICK_S) for one in recordings[:: max(1, len(recordings) // 3)]]
        heard = [hear(usual, one, language, split) for one in some]
        texts = {
            "off": [[answer.transcript for answer in answers] for answers in heard],
            "context": [after_context(usual, one, language) for one in some],
            "vocabulary": [[ask(prompted, w, language) for w in one.windows(WINDOW_S)] for one in some],
        }
        results[name] = held_back([answer for answers in heard for answer in answers]) | {
            "prompts": {key: prompt_figures(some, transcripts, split) for key, transcripts in texts.items()}
        }
    return results


def hear(model: SpeechModel, recording: Recording, language: str, split: Split = words) -> list[Answer]:
    """All windows of a recording, as the worker answers them while its queue is short."""
    transcripts = []
    for window in recording.windows(WINDOW_S):
        first = ask(model, window, language)
        transcripts.append(ask(model, window, language, wide=True) if first.doubt and model.tight else first)
    heard = [split(transcript.text) for transcript in transcripts]
    together = [word for some in heard for word in some]
    right = [False] * len(together)
    matcher = difflib.SequenceMatcher(None, split(recording.text), together, autojunk=False)
    for block in matcher.get_matching_blocks():
        right[block.b : block.b + block.size] = [True] * block.size
    answers, at = [], 0
    for number, (transcript, some) in enumerate(zip(transcripts, heard, strict=True)):
        speech_s = speech_within(recording, WINDOW_S * number) / 2 if recording.sentences else None
        answers.append(Answer(transcript, len(some), sum(right[at : at + len(some)]), speech_s))
        at += len(some)
    return answers


def after_context(model: SpeechModel, recording: Recording, language: str) -> list[Transcript]:
    """All windows of a recording, each after the text before it, as far as that is sure."""
    context, transcripts = Context(), []
    for window in recording.windows(WINDOW_S):
        transcripts.append(ask(model, window, language, prompt=context.text))
        context.follow(transcripts[-1], context.epoch)
    return transcripts


def ask(model: SpeechModel, window: Samples, language: str, *, wide: bool = False, prompt: str = "") -> Transcript:
    return model.transcribe(window, language, lambda: False, wide=wide, prompt=prompt)


def speech_within(recording: Recording, start_s: float) -> float:
    """Seconds of sentences in the window at ``start_s``."""
    end_s = start_s + WINDOW_S
    return sum(max(0.0, min(s.end_s, end_s) - max(s.start_s, start_s)) for s in recording.sentences)


def held_back(answers: Sequence[Answer]) -> Results:
    spoken = [answer for answer in answers if answer.said]
    perfect = [answer for answer in spoken if answer.right == answer.said]
    useful = [answer for answer in spoken if 2 * answer.right >= answer.said]
    likely = [one.transcript.avg_logprob for one in perfect if one.transcript.avg_logprob is not None]
    rates = [letters(a.transcript.text) / (a.speech_s + UNHEARD_SPEECH_S) for a in spoken if a.speech_s is not None]
    groups = {"with_words": spoken, "no_word_wrong": perfect, "half_right": useful}
    return {
        "windows": len(answers),
        "doubtful": sum(answer.transcript.doubt is not None for answer in answers),
        **{
            name: {
                "windows": len(group),
                "held_back": sum(answer.suppressed(1.0) for answer in group),
                "held_back_if_weak": sum(answer.suppressed(0.0) for answer in group),
            }
            for name, group in groups.items()
        },
        "no_word_wrong_avg_logprob": quantiles(likely, least=0.0, hundredth=0.01, median=0.5),
        "letters_per_second": quantiles(rates, median=0.5, most=1.0),
    }


def prompt_figures(
    recordings: Sequence[Recording], transcripts: Sequence[Sequence[Transcript]], split: Split = words
) -> Results:
    errors: Counter[str] = Counter()
    for recording, some in zip(recordings, transcripts, strict=True):
        errors["said"] += len(split(recording.text))
        errors["wrong"] += word_errors(split, recording.text, " ".join(transcript.text for transcript in some))
    times_ms = [1000 * transcript.processing_s for some in transcripts for transcript in some]
    return {
        "wer_percent": round(100 * errors["wrong"] / errors["said"], 2),
        "processing_ms": quantiles(times_ms, median=0.5),
    }


if __name__ == "__main__":
    run("guards", measure, add_options)
