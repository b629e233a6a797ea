"""Does a shorter encoder context cost words? Word error rates by context, beside those of the full one.

In: a model, and recordings with what is said in them: for the demo model the bundled ones and synthetic voices that it never
heard (Debian's espeak-ng and flite; left out where they are missing), for any other ``bench.lib.speech.corpora``, readings also under
noise; or a user's own (``bench.lib.recordings`` says how they lie). Ways to cut: every five seconds as the daemon does, words or no;
at pauses, where no cut blurs the comparison; and single sentences of up to 1, 2 and 3 s, which the end of speech makes windows
of. Every context has a model of its own; all of them transcribe one piece before the next.

Out: by cut, corpus and context the errors, the difference to the full context with its 95 % interval (bootstrap over
recordings), pieces with other words, doubtful answers and whether asking again at a wide one helped, and the time of a
window; words invented where nobody speaks; and whether what a model transcribed before changes what it transcribes next. The demo model
takes two minutes on two cores, base.en a quarter of an hour.
"""

from argparse import ArgumentParser
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench.demo_model.corpus import no_speech
from bench.lib.recordings import BUNDLED, SEED, Recording, Samples, read_folder, with_noise
from bench.lib.report import Results, interval, note, quantiles, run
from bench.lib.speech.corpora import real_corpora
from bench.lib.speech.material import share
from bench.lib.speech.readings import sentences
from bench.lib.words.normal import Split, split_for, word_errors
from transcriber.config import load_settings
from transcriber.engine.job import WHISPER_SAMPLE_RATE, SpeechModel
from transcriber.engine.transcript import Transcript
from transcriber.engine.whisper.model import load_model
from transcriber.models.catalog import DEMO, model_name
from transcriber.models.find import find_named_model
from transcriber.testing.wer import words

WINDOW_S = 5.0
FULL = 0
"""The full context, as ``WHISPER_AUDIO_CTX`` has it."""

NOISE_DB = 15.0
SILENT_WINDOWS, HISTORY_WINDOWS = 60, 30
MINUTES = 8.0
SHORT_S = (1.0, 2.0, 3.0)
"""Sentences up to so long are windows of their own where speech ends after them."""

QUICK_RECORDINGS, QUICK_S = 5, 20.0


class Piece(NamedTuple):
    """Some of a recording; ``said`` is None where a cut may have gone through a word."""

    recording: str
    said: str | None
    samples: Samples


class Heard(NamedTuple):
    """What one context made of it; ``again`` is the answer to asking once more, at a wide context."""

    first: Transcript
    again: Transcript | None


@dataclass(frozen=True, slots=True)
class Trial:
    """One corpus, cut in one way.

    Attributes:
        pieces: what was heard.
        answers: by context, in the order of the pieces.
        words: said, by recording.
        errors: by context and recording.
    """

    pieces: list[Piece]
    answers: dict[int, list[Heard]]
    words: Counter[str]
    errors: dict[int, Counter[str]]

    def __add__(self, other: "Trial") -> "Trial":
        """Both as one corpus; a recording that is in both, with and without noise, counts as one."""
        return Trial(
            self.pieces + other.pieces,
            {ctx: heard + other.answers[ctx] for ctx, heard in self.answers.items()},
            self.words + other.words,
            {ctx: errors + other.errors[ctx] for ctx, errors in self.errors.items()},
        )


def add_options(parser: ArgumentParser) -> None:
    parser.add_argument("--model", default="demo", help="a ggml file, or a name such as base.en, downloaded once")
    parser.add_argument("--corpus", type=Path, metavar="DIR", help="recordings with their texts, instead of ours")
    parser.add_argument("--contexts", default="512,768", metavar="N,N", help="beside the full one")
    parser.add_argument("--minutes", type=float, default=MINUTES, metavar="N", help="of each corpus; 0: all of it")
    parser.add_argument("--language", default="en", metavar="CODE")


def measure(quick: bool, model: str, corpus: Path | None, contexts: str, minutes: float, language: str) -> Results:
    path, split = find_named_model(load_settings(), model), split_for(model)

    def load(ctx: int) -> SpeechModel:
        return load_model(path, load_settings(whisper_audio_ctx=str(ctx), buffer_duration_secs=WINDOW_S))

    skipped: list[str] = []
    corpora = {"yours": read_folder(corpus)} if corpus else corpora_for(model, skipped)
    corpora = {name: share(some, minutes) for name, some in corpora.items()}
    if quick:
        corpora = {
            name: [one.opening(QUICK_S) for one in some[:: -(-len(some) // QUICK_RECORDINGS)]]
            for name, some in corpora.items()
        }
    tried = [int(ctx) for ctx in contexts.split(",")]
    models = {ctx: load(ctx) for ctx in [*tried, FULL]}
    results: Results = {"model": model_name(path), "threads": load_settings().threads, "skipped": skipped}
    lengths_s = zip((0.0, *SHORT_S), SHORT_S, strict=False)
    short = {
        f"sentences_up_to_{most:g}_s": partial(short_sentences, above_s=above, most_s=most) for above, most in lengths_s
    }
    for cut, pieces_of in ({"every_5_s": windows, "at_pauses": clips} | short).items():
        note(f"contexts: {cut}")
        trials = {name: trial(models, pieces_of(some), some, language, split) for name, some in corpora.items()}
        trials = {name: one for name, one in trials.items() if one.pieces}
        if trials:
            trials["all"] = reduce(Trial.__add__, trials.values())
        results[cut] = {name: figures(one, split) for name, one in trials.items()}
    note("contexts: silence and noise")
    silence = [Piece("", "", samples) for samples in silent_windows(SILENT_WINDOWS // (10 if quick else 1))]
    results["without_speech"] = invented(hear(models, silence, language))
    heard = [piece.samples for some in corpora.values() for piece in windows(some)]
    heard = heard[:: -(-len(heard) // (HISTORY_WINDOWS // (10 if quick else 1)))]
    results["history"] = {ctx: history(partial(load, ctx), heard, language) for ctx in tried}
    return results


def corpora_for(model: str, skipped: list[str]) -> dict[str, list[Recording]]:
    """By name; those of real speech with the readings under noise, too."""
    if model == DEMO:
        return demo_corpora(skipped)
    corpora = real_corpora(skipped)
    if "readings" in corpora:
        corpora["readings_15_db"] = [with_noise(one, NOISE_DB) for one in corpora["readings"]]
    return corpora


def demo_corpora(skipped: list[str]) -> dict[str, list[Recording]]:
    """The bundled recordings; and the held-out voices, clean and under noise, unless there are no synthesisers."""
    corpora = {"bundled": read_folder(BUNDLED)}
    try:
        held_out = sentences()
    except OSError as error:
        skipped.append(f"held-out voices: {error}; install espeak-ng and flite")
        return corpora
    return corpora | {"held_out": held_out, "held_out_15_db": [with_noise(one, NOISE_DB) for one in held_out]}


def windows(recordings: Iterable[Recording]) -> list[Piece]:
    return [Piece(one.name, None, samples) for one in recordings for samples in one.windows(WINDOW_S)]


def clips(recordings: Iterable[Recording]) -> list[Piece]:
    return [Piece(one.name, *clip) for one in recordings for clip in one.clips(WINDOW_S)]


def short_sentences(recordings: Iterable[Recording], above_s: float, most_s: float) -> list[Piece]:
    """Single sentences of such a length, each a window as the end of speech makes them."""
    return [
        Piece(one.name, sentence.text, samples)
        for one in recordings
        for sentence, samples in zip(one.sentences, one.sentence_clips(), strict=True)
        if above_s < sentence.end_s - sentence.start_s <= most_s
    ]


def silent_windows(count: int) -> list[Samples]:
    """Digital silence, noise, hum, tones and clicks of many levels."""
    rng = np.random.default_rng(SEED)
    return [no_speech(rng, int(WINDOW_S * WHISPER_SAMPLE_RATE)).astype(np.float32) for _ in range(count)]


def hear(models: Mapping[int, SpeechModel], pieces: Iterable[Piece], language: str) -> dict[int, list[Heard]]:
    """Every piece by every model in turn; a doubtful answer is asked for again, whatever a queue would say."""
    answers: dict[int, list[Heard]] = {ctx: [] for ctx in models}
    for piece in pieces:
        for ctx, model in models.items():
            first = model.transcribe(piece.samples, language, _never)
            ask = first.doubt and model.tight
            again = model.transcribe(piece.samples, language, _never, wide=True) if ask else None
            answers[ctx].append(Heard(first, again))
    return answers


def trial(
    models: Mapping[int, SpeechModel],
    pieces: list[Piece],
    recordings: Iterable[Recording],
    language: str,
    split: Split = words,
) -> Trial:
    """Hear the pieces and count; where a piece has no text of its own, a recording's pieces are taken together."""
    answers = hear(models, pieces, language)
    errors: dict[int, Counter[str]] = {ctx: Counter() for ctx in models}
    if any(piece.said is None for piece in pieces):
        said = Counter({one.name: len(split(one.text)) for one in recordings})
        for ctx, heard in answers.items():
            for one in recordings:
                parts = (h.first.text for h, p in zip(heard, pieces, strict=True) if p.recording == one.name)
                errors[ctx][one.name] = word_errors(split, one.text, " ".join(parts))
        return Trial(pieces, answers, said, errors)
    said = Counter()
    for number, piece in enumerate(pieces):
        said[piece.recording] += len(split(piece.said or ""))
        for ctx, heard in answers.items():
            errors[ctx][piece.recording] += word_errors(split, piece.said or "", heard[number].first.text)
    return Trial(pieces, answers, said, errors)


def figures(trial: Trial, split: Split = words) -> Results:
    """By context."""
    full = trial.answers[FULL]
    names = list(trial.words)
    said = np.array([trial.words[name] for name in names])
    errors = {ctx: np.array([by_name[name] for name in names]) for ctx, by_name in trial.errors.items()}
    return {"recordings": len(names), "pieces": len(trial.pieces), "words": int(said.sum())} | {
        str(ctx or "full"): {
            "wer_percent": round(100 * float(errors[ctx].sum() / said.sum()), 2),
            "minus_full_points": round(100 * float((errors[ctx] - errors[FULL]).sum() / said.sum()), 2),
            "interval_95": interval(errors[ctx] - errors[FULL], said),
            "other_words": sum(split(h.first.text) != split(f.first.text) for h, f in zip(heard, full, strict=True)),
            "other_text": sum(h.first.text != f.first.text for h, f in zip(heard, full, strict=True)),
            "doubtful": sum(h.first.doubt is not None for h in heard),
            "asked_again": asked_again(trial.pieces, heard, split),
            "processing_ms": quantiles([1000 * h.first.processing_s for h in heard], median=0.5),
        }
        for ctx, heard in trial.answers.items()
    }


def asked_again(pieces: Sequence[Piece], heard: Sequence[Heard], split: Split = words) -> dict[str, int]:
    """What became of the answers in doubt, where the truth is known."""
    became: Counter[str] = Counter()
    for piece, (first, again) in zip(pieces, heard, strict=True):
        if again is not None and piece.said is not None:
            more = word_errors(split, piece.said, again.text) - word_errors(split, piece.said, first.text)
            became["harmed" if more > 0 else "helped" if more < 0 else "no_change"] += 1
    return dict(became)


def invented(answers: Mapping[int, Sequence[Heard]]) -> Results:
    """By context: windows without speech, and what was transcribed in them."""
    return {
        str(ctx or "full"): {
            "windows": len(heard),
            "with_words": sum(bool(words(h.first.text)) for h in heard),
            "words": sum(len(words(h.first.text)) for h in heard),
            "doubtful": sum(h.first.doubt is not None for h in heard),
            "words_after_asking_again": sum(len(words((h.again or h.first).text)) for h in heard),
        }
        for ctx, heard in answers.items()
    }


def history(load: Callable[[], SpeechModel], samples: Sequence[Samples], language: str) -> Results:
    """Answers of a model that is asked in turn at its usual context and at a wide one, beside those of models that
    know but one of them: how many are the same, to the last bit of their log-probability."""
    mixed, usual, wide = load(), load(), load()
    same = {"usual": 0, "wide": 0}
    for window in samples:
        for name, alone in (("usual", usual), ("wide", wide)):
            one, other = (model.transcribe(window, language, _never, wide=alone is wide) for model in (mixed, alone))
            same[name] += (one.text, one.avg_logprob) == (other.text, other.avg_logprob)
    return {"windows": len(samples), "same_at_usual": same["usual"], "same_at_wide": same["wide"]}


def _never() -> bool:
    return False


if __name__ == "__main__":
    run("contexts", measure, add_options)
