"""Do the guards hold back what is right? And what does a prompt do to the words?

In: a model, and recordings with what is said in them (``bench.lib.speech.corpora`` and what people say again and again, ``bench.lib.speech.repeated``; of the demo
model the held-out voices; or a user's own), clean and with white noise 5 dB, music 10 dB and babble 10 dB below the voice. They are cut and
heard as the daemon does with its default settings (``bench.lib.words.held_back``). With ``--prompts`` each is also cut every five seconds, and heard as
it is, after what was said before (``WHISPER_CONTEXT=prompt``), and after a fixed vocabulary (``WHISPER_PROMPT``).

Out: by corpus, and of all but what is said again and again, the windows with speech; those in which half of what is new or more is right; how
many of either are held back, each with its text and why; how unlikely, and how fast, what is right is; and by prompt the word error rate and
the time of a window. ``--answers FILE`` keeps what whisper said, so that other thresholds can be tried in seconds.
"""

import math
import time
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from bench.contexts import QUICK_S, WINDOW_S
from bench.lib.offline import Remembering
from bench.lib.recordings import Recording, Samples
from bench.lib.report import Results, note, quantiles, run
from bench.lib.speech.conditions import in_noise
from bench.lib.speech.material import spoken_to
from bench.lib.speech.repeated import repeated
from bench.lib.words.held_back import Verdict, figures, verdicts
from bench.lib.words.normal import Split, split_for, word_errors
from transcriber.audio.vad.silero import Silero
from transcriber.config import load_settings
from transcriber.engine.job import SpeechModel
from transcriber.engine.prompt import SpeakerPrompt
from transcriber.engine.transcript import Transcript
from transcriber.engine.whisper.model import load_model
from transcriber.models.catalog import DEMO, model_name
from transcriber.models.find import find_named_model
from transcriber.testing.wer import words

VOCABULARY = "Gale warning, north channel, knots, harbour, berth, tide, vessel."
CONDITIONS = {"white_5_db": ("white", 5.0), "music_10_db": ("music", 10.0), "babble_10_db": ("babble", 10.0)}
REPEATED = "repeated"
QUICK_RECORDINGS = 3


def add_options(parser: ArgumentParser) -> None:
    parser.add_argument("--model", default="demo", help="a ggml file, or a name such as base.en, downloaded once")
    parser.add_argument("--corpus", type=Path, metavar="DIR", help="recordings with their texts, instead of ours")
    parser.add_argument("--minutes", type=float, default=0.0, metavar="N", help="of each corpus; default: all of it")
    parser.add_argument("--language", default="en", metavar="CODE")
    parser.add_argument(
        "--only", default="", metavar="NAME,...", help="corpora such as readings, readings_white_5_db; default: all"
    )
    parser.add_argument("--prompts", action="store_true", help="also what a prompt does to the words")
    parser.add_argument("--threads", type=int, default=2, metavar="N")
    parser.add_argument("--answers", type=Path, metavar="FILE", help="what whisper said before, and where to keep it")
    parser.add_argument(
        "--stop-after", type=float, default=math.inf, metavar="MIN", help="begin no recording after so many minutes"
    )


def measure(
    quick: bool,
    model: str,
    corpus: Path | None,
    minutes: float,
    language: str,
    only: str,
    prompts: bool,
    threads: int,
    answers: Path | None,
    stop_after: float,
) -> Results:
    until_s = time.monotonic() + 60 * stop_after
    path, split, skipped = find_named_model(load_settings(), model), split_for(model), list[str]()
    settings = load_settings(whisper_threads=threads)
    ears, network, everything = Remembering(load_model(path, settings), answers), Silero(), list[Verdict]()
    corpora = corpora_for(model, corpus, minutes, skipped)
    results: Results = {"model": model_name(path), "threads": threads, "skipped": skipped}
    for name in only.split(",") if only else corpora:
        if time.monotonic() > until_s:
            skipped.append(f"{name}: no time left")
            continue
        note(f"guards: {name}")
        if name not in corpora:
            raise SystemExit(f"{name} is no corpus: {', '.join(corpora)}")
        try:
            recordings = corpora[name]()
        except OSError as error:
            skipped.append(f"{name}: {error}")
            continue
        if quick:
            recordings = [one.opening(QUICK_S) for one in recordings[:: max(1, len(recordings) // QUICK_RECORDINGS)]]
        windows, heard = list[Verdict](), 0
        for one in recordings:
            windows += verdicts(one, ears, settings, language, network, split)
            heard += 1
            if time.monotonic() > until_s:
                break
        ears.keep()
        everything += windows if name != REPEATED else []
        results[name] = {"recordings": f"{heard} of {len(recordings)}"} | figures(windows)
        if prompts:
            results[name]["prompts"] = prompted(path, recordings, language, split)
    results["all"] = figures(everything)
    return results


def corpora_for(
    model: str, folder: Path | None, minutes: float, skipped: list[str]
) -> dict[str, Callable[[], list[Recording]]]:
    """By name, clean and with something else behind; to be made when they are asked for."""
    clean = spoken_to(model, folder, minutes, skipped)
    corpora: dict[str, Callable[[], list[Recording]]] = {name: partial(list, some) for name, some in clean.items()}
    if model != DEMO and not folder:
        corpora[REPEATED] = repeated
    for name, some in clean.items():
        for condition, (kind, snr_db) in CONDITIONS.items():
            corpora[f"{name}_{condition}"] = partial(copies, some, kind, snr_db)
    return corpora


def copies(recordings: Sequence[Recording], kind: str, snr_db: float) -> list[Recording]:
    return [in_noise(one, kind, snr_db, number) for number, one in enumerate(recordings)]


def prompted(path: Path, recordings: Sequence[Recording], language: str, split: Split) -> Results:
    """By what is said to the model before."""
    usual = load_model(path, load_settings(buffer_duration_secs=WINDOW_S))
    vocabulary = load_model(path, load_settings(buffer_duration_secs=WINDOW_S, whisper_prompt=VOCABULARY))
    texts = {
        "off": [[ask(usual, window, language) for window in one.windows(WINDOW_S)] for one in recordings],
        "context": [after_context(usual, one, language) for one in recordings],
        "vocabulary": [[ask(vocabulary, window, language) for window in one.windows(WINDOW_S)] for one in recordings],
    }
    return {key: prompt_figures(recordings, transcripts, split) for key, transcripts in texts.items()}


def after_context(model: SpeechModel, recording: Recording, language: str) -> list[Transcript]:
    """All windows of a recording, each after the text before it, as far as that is sure."""
    context, transcripts = SpeakerPrompt(), []
    for window in recording.windows(WINDOW_S):
        transcripts.append(ask(model, window, language, prompt=context.text))
        context.record(transcripts[-1], context.epoch)
    return transcripts


def ask(model: SpeechModel, window: Samples, language: str, prompt: str = "") -> Transcript:
    return model.transcribe(window, language, lambda: False, prompt=prompt)


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
