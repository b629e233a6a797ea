"""Ways to decode: what do more beams, asking again, a higher temperature and prompts do to the words, and what do they cost?

In: a model, and recordings with what is said in them, as in ``bench.left_context``; ``--noise`` adds worse copies of the first corpus.
They are cut and heard as the daemon does, live and as files, without a broker and without a queue; each window is heard with one
number of beams after the other, in this process.

Out: by way, corpus and beams the word error rate with its 95 % interval over recordings, and whisper's time for a window against that
with the first number of beams (median; times by themselves say nothing on a busy machine). Of windows that were doubted: why, and the
words wrong in them if nobody had asked again, as it was asked again, and with upstream's sampling at ``--temperatures`` after that. And how many
of some windows get another text when they are asked later.
"""

from argparse import ArgumentParser
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.lib.offline import Call, Noting, Offline
from bench.lib.playing import Played, Wire
from bench.lib.recordings import Recording
from bench.lib.report import Results, note, quantiles, run
from bench.lib.speech.conditions import conditions_of, in_conditions
from bench.lib.speech.material import spoken_to
from bench.lib.windows import CORPORA, final_of, windows_of
from bench.lib.words.normal import Split, split_for, word_errors
from bench.lib.words.scoring import Errors, score
from transcriber.audio.session import Window
from transcriber.audio.vad.silero import Silero
from transcriber.config import Settings, load_settings
from transcriber.engine.job import WHISPER_SAMPLE_RATE, Job
from transcriber.engine.transcript import Transcript
from transcriber.engine.whisper.model import WhisperModel, load_model
from transcriber.engine.window_text import transcribe_window
from transcriber.models.catalog import model_name
from transcriber.models.find import find_named_model

QUICK_MINUTES = 0.5
AGAIN = 10
"""Windows that are asked again later."""

UNFIT = "Gale warning, north channel, knots, harbour, berth, tide, vessel."
"""Terms of another trade than any recording's."""

WAYS = ("live", "files", "context", "unfit")


@dataclass
class Repeatable(Noting):
    """One that can be asked the same again, be it at another temperature."""

    model: WhisperModel

    def says_the_same(self, call: Call, language: str) -> bool:
        """If it is asked that now."""
        answer = self.model.transcribe(call.samples, language, _never, wide=call.wide, prompt=call.prompt)
        return answer.text == call.answer.text


@dataclass(slots=True)
class Said:
    """A model that has said this already."""

    answer: Transcript
    name: str = "said"
    tight: bool = False
    translates: bool = False

    def supports(self, language: str) -> bool:
        return True

    def close(self) -> None:
        pass

    def transcribe(self, *_: object, **__: object) -> Transcript:
        return self.answer


@dataclass(slots=True)
class Doubts:
    """Of one corpus, with one number of beams.

    Attributes:
        reasons: of the first answers.
        said: words in the windows that were asked again.
        wrong: of them, by what is done about the doubt; a text that is held back has lost all its words.
        held_back: texts, likewise.
        better, worse: windows, by the words of what was asked again against those of the first answer.
        first_s, again_s: seconds inside whisper.
    """

    windows: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    said: int = 0
    wrong: Counter[str] = field(default_factory=Counter)
    held_back: Counter[str] = field(default_factory=Counter)
    better: Counter[str] = field(default_factory=Counter)
    worse: Counter[str] = field(default_factory=Counter)
    first_s: float = 0.0
    again_s: float = 0.0

    def figures(self) -> Results:
        return {
            "windows": self.windows,
            "asked_again": self.reasons.total(),
            "reasons": dict(self.reasons),
            "words_in_them": self.said,
            "words_wrong": dict(self.wrong),
            "held_back": dict(self.held_back),
            "windows_better": dict(self.better),
            "windows_worse": dict(self.worse),
            "more_time_percent": round(100 * self.again_s / self.first_s, 1) if self.first_s else None,
        }


def add_options(parser: ArgumentParser) -> None:
    parser.add_argument("--model", default="tiny.en", help="a ggml file, or a name such as base.en, downloaded once")
    parser.add_argument("--corpus", type=Path, metavar="DIR", help="recordings with their texts, instead of ours")
    parser.add_argument("--language", default="en", metavar="CODE")
    parser.add_argument("--minutes", type=float, default=0.0, metavar="X", help="of each corpus; default: all of it")
    parser.add_argument("--ways", default="live,files", metavar="NAME,...", help=f"of {', '.join(WAYS)}")
    parser.add_argument("--beams", default="1,2,5", metavar="N,...", help="numbers of them, the first to compare with")
    parser.add_argument("--temperatures", default="", metavar="T,...", help="to try where the answer stays in doubt")
    parser.add_argument("--noise", action="store_true", help="also in noise, other accents, and as by telephone")
    parser.add_argument("--threads", type=int, default=2, metavar="N")


def measure(
    quick: bool,
    model: str,
    corpus: Path | None,
    language: str,
    minutes: float,
    ways: str,
    beams: str,
    temperatures: str,
    noise: bool,
    threads: int,
) -> Results:
    path, split = find_named_model(load_settings(), model), split_for(model)
    skipped: list[str] = []
    spoken = spoken_to(model, corpus, QUICK_MINUTES if quick else minutes, skipped)
    spoken = {name: some for name, some in spoken.items() if corpus or noise or name in CORPORA}
    if noise:
        conditions, every = conditions_of(model)
        heard = in_conditions(spoken, {**conditions, "white_5_db": ("white", 5.0)}, every, skipped)
        spoken = {
            name: [one if not c.clean else _over(c.wire, one) for one in c.recordings] for name, c in heard.items()
        }
    numbers = [int(number) for number in beams.split(",")]
    warmer = [float(number) for number in temperatures.split(",") if number]
    results: Results = {"model": model_name(path), "threads": threads, "skipped": skipped}
    for way in ways.split(","):
        settings = settings_of(way, threads)
        models = {
            number: Repeatable(load_model(path, settings.model_copy(update={"whisper_beam_size": number})))
            for number in numbers
        }
        results[way] = {}
        for name, recordings in spoken.items():
            note(f"decoding: {way}, {name}")
            results[way][name] = trial(models, recordings, settings, language, split, warmer)
            note(markdown({way: {name: results[way][name]}}))
        for one in models.values():
            one.close()
    print(markdown(results))
    return results


def settings_of(way: str, threads: int) -> Settings:
    more: dict[str, Any] = {}
    if way == "files":
        more = {
            "buffer_duration_secs": load_settings().file_window_secs,
            "left_context_secs": 0.0,
            "endpoint_silence_secs": 0.0,
        }
    elif way == "context":
        more = {"whisper_context": "prompt"}
    elif way == "unfit":
        more = {"whisper_prompt": UNFIT}
    elif way != "live":
        raise SystemExit(f"--ways {way}: must be of {', '.join(WAYS)}")
    return load_settings(whisper_threads=threads, **more)


def trial(
    models: dict[int, Repeatable],
    recordings: Sequence[Recording],
    settings: Settings,
    language: str,
    split: Split,
    temperatures: Sequence[float],
) -> Results:
    """Each window by each number of beams, before the next one."""
    network, first = Silero(), next(iter(models))
    played: dict[int, list[Played]] = {number: [] for number in models}
    times_s: dict[int, list[float]] = {number: [] for number in models}
    doubts = {number: Doubts() for number in models}
    asked: dict[int, list[Call]] = {number: [] for number in models}
    for recording in recordings:
        here = {number: Played(recording, recording.name) for number in models}
        offline = {number: Offline(model, settings, language) for number, model in models.items()}
        for window, known_s in windows_of(recording, settings, network):
            for number, model in models.items():
                model.calls.clear()
                job, answer = offline[number].ask(window)
                own = offline[number].follow(window, answer)
                here[number].came.append(final_of(window, own, known_s))
                asked[number].append(model.calls[0])
                times_s[number].append(model.calls[0].answer.processing_s)
                answers = [call.answer for call in model.calls]
                said = _said_in(recording, window, answer.lead_s)
                _weigh(doubts[number], answers, job, answer, said, model, split, temperatures)
        for number, one in here.items():
            played[number].append(one)
    reference = score(played[first], None, split)
    errors = {number: _errors(some, split) for number, some in played.items()}
    found: Results = {}
    for number, some in played.items():
        ratios = [a / b for a, b in zip(times_s[number], times_s[first], strict=True)]
        few = asked[number][:: max(1, len(asked[number]) // AGAIN)]
        found[str(number)] = (reference if number == first else score(some, errors[first], split)) | {
            "time_ratio": quantiles(ratios, median=0.5, p95=0.95),
            "doubts": doubts[number].figures(),
            "asked_later": {
                "windows": len(few),
                "other": sum(not models[number].says_the_same(call, language) for call in few),
            },
        }
    return found


def markdown(results: Results) -> str:
    rows = [
        "| way, corpus, beams | words | WER | minus the first | time | asked again | wrong in them | another text later |"
    ]
    rows.append("| --- " * 8 + "|")
    for way in (name for name in WAYS if name in results):
        for corpus, by_beams in results[way].items():
            for number, one in by_beams.items():
                doubts, later = one["doubts"], one["asked_later"]
                low, high = one["interval_95"]
                rows.append(
                    f"| {way}, {corpus}, {number} | {one['words']} | {one['wer_percent']} % ({low} to {high})"
                    f" | {one.get('minus_reference_points', '')} {one.get('minus_reference_interval_95', '')}"
                    f" | {one['time_ratio']['median']} | {doubts['asked_again']} of {doubts['windows']}"
                    f" | {doubts['words_wrong']} of {doubts['words_in_them']} | {later['other']} of {later['windows']} |"
                )
    return "\n".join(rows)


def _over(wire: Wire, recording: Recording) -> Recording:
    return replace(recording, samples=wire.heard(recording.samples))


def _errors(played: Sequence[Played], split: Split) -> Errors:
    figures = [score([one], None, split) for one in played]
    return Errors(
        np.array([one["words"] for one in figures]),
        np.array([sum(one[kind] for kind in ("changed", "lost", "invented", "doubled")) for one in figures]),
    )


def _said_in(recording: Recording, window: Window, lead_s: float) -> str | None:
    """What is said in a window and before it, as far as it is in the audio; None where nobody knows."""
    if recording.words is None:
        return None
    start_s = window.start_frame / WHISPER_SAMPLE_RATE - lead_s
    end_s = (window.start_frame + window.frames) / WHISPER_SAMPLE_RATE + window.cut.tail_s
    return " ".join(word.text for word in recording.words if start_s <= (word.start_s + word.end_s) / 2 < end_s)


def _weigh(
    doubts: Doubts,
    calls: Sequence[Transcript],
    job: Job,
    answer: Transcript,
    said: str | None,
    model: Repeatable,
    split: Split,
    temperatures: Sequence[float],
) -> None:
    """Count one window, and try more where it was asked again."""
    first, *again = calls
    doubts.windows += 1
    doubts.first_s += first.processing_s
    doubts.again_s += sum(one.processing_s for one in again)
    if not again:
        return
    kept = {"asked_once": _shown(first, job), "asked_again": answer}
    doubts.reasons[first.doubt or kept["asked_once"].suppressed or "none"] += 1
    if temperatures:
        kept["temperatures"] = _warmer(model.model, job, answer, temperatures)
    if said is None:
        return
    doubts.said += len(split(said))
    wrong = {name: word_errors(split, said, one.text) for name, one in kept.items()}
    doubts.wrong.update(wrong)
    for name, one in kept.items():
        doubts.held_back[name] += one.suppressed is not None
        doubts.better[name] += wrong[name] < wrong["asked_once"]
        doubts.worse[name] += wrong[name] > wrong["asked_once"]


def _shown(answer: Transcript, job: Job) -> Transcript:
    """What would be shown if nobody asked again."""
    return transcribe_window(Said(answer), job, _never)


def _warmer(model: WhisperModel, job: Job, kept: Transcript, temperatures: Sequence[float]) -> Transcript:
    """The first answer at a higher temperature that is believed, where the last one was not; else that one."""
    if not (kept.suppressed or kept.doubt):
        return kept
    samples = job.samples[round((job.lead_s - kept.lead_s) * WHISPER_SAMPLE_RATE) :]
    for temperature in temperatures:
        with _at(model, temperature):
            answer = _shown(model.transcribe(samples, job.language, _never, wide=model.tight), job)
        if not (answer.suppressed or answer.doubt):
            return answer
    return kept


@contextmanager
def _at(model: WhisperModel, temperature: float) -> Iterator[None]:
    """No setting of the daemon's: whisper.cpp draws from a generator that runs on from call to call."""
    model._params.temperature = temperature  # noqa: SLF001 - as above
    yield
    model._params.temperature = 0.0  # noqa: SLF001 - as above


def _never() -> bool:
    return False


if __name__ == "__main__":
    run("decoding", measure, add_options)
