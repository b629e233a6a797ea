"""The second pass: what does it mend, and what does it cost? No broker, no queue.

In: a model, and recordings with what is said in them (``bench.lib.speech.corpora``, or a user's own). They are cut and heard as the daemon does,
in the defaults; then passages of them once more, as with ``SECOND_PASS=1`` and time enough; and all of it as files are heard.

Out: the word error rate of each with its 95 % interval over recordings, and of the revised text against that of the files; what
became of the passages; words that were published right and are missing in the revised text; whisper's time for a second of audio.
"""

from argparse import ArgumentParser
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bench.lib.offline import Offline, Remembering, SecondPass
from bench.lib.playing import Came, Played
from bench.lib.recordings import Recording
from bench.lib.report import Results, note, run
from bench.lib.speech.material import spoken_to
from bench.lib.windows import CORPORA, QUICK_MINUTES, Cost, events_of, final_of, hear_recording
from bench.lib.words.alignment import align
from bench.lib.words.normal import Split, split_for
from bench.lib.words.scoring import Errors, heard_in, said_in, score, text_errors
from transcriber.audio.session import Silence, Window
from transcriber.audio.vad.silero import Silero
from transcriber.config import Settings, load_settings
from transcriber.engine.job import WHISPER_SAMPLE_RATE
from transcriber.engine.transcript import Transcript
from transcriber.engine.whisper.model import load_model
from transcriber.models.catalog import model_name
from transcriber.models.find import find_named_model
from transcriber.pipeline.passages import Passage
from transcriber.schema.messages import Final, Word


def add_options(parser: ArgumentParser) -> None:
    parser.add_argument("--model", default="tiny.en", help="a ggml file, or a name such as base.en, downloaded once")
    parser.add_argument("--corpus", type=Path, metavar="DIR", help="recordings with their texts, instead of ours")
    parser.add_argument("--language", default="en", metavar="CODE")
    parser.add_argument("--minutes", type=float, default=0.0, metavar="X", help="of each corpus; default: all of it")
    parser.add_argument("--left", type=float, metavar="S", help="LEFT_CONTEXT_SECS; default: as shipped")
    parser.add_argument("--threads", type=int, default=2, metavar="N")
    parser.add_argument("--answers", type=Path, metavar="FILE", help="what whisper said before, and where to keep it")


def measure(
    quick: bool,
    model: str,
    corpus: Path | None,
    language: str,
    minutes: float,
    left: float | None,
    threads: int,
    answers: Path | None,
) -> Results:
    path, split = find_named_model(load_settings(), model), split_for(model)
    skipped: list[str] = []
    spoken = spoken_to(model, corpus, QUICK_MINUTES if quick else minutes, skipped)
    spoken = {name: some for name, some in spoken.items() if corpus or name in CORPORA}
    ears = Remembering(load_model(path, load_settings(whisper_threads=threads)), answers)
    live = load_settings(left_context_secs=left)
    results: Results = {"model": model_name(path), "threads": threads, "skipped": skipped}
    results["left_context_s"] = live.left_context_s
    results["corpora"] = {}
    everything = [one for some in spoken.values() for one in some]
    for name, some in (spoken | ({"all": everything} if len(spoken) > 1 else {})).items():
        note(f"second pass: {name}")
        results["corpora"][name] = figures(some, ears, live, language, split)
        ears.keep()
    return results


def figures(recordings: Sequence[Recording], ears: Remembering, live: Settings, language: str, split: Split) -> Results:
    as_file = load_settings(buffer_duration_secs=live.file_window_secs, left_context_secs=0, endpoint_silence_secs=0)
    network, duration_s = Silero(), sum(one.duration_s for one in recordings)
    costs = {"live": Cost(), "second": Cost(), "files": Cost()}
    became: Counter[str] = Counter()
    first_pass, again, files = [], [], []
    for one in recordings:
        first, second = hear_twice(one, ears, live, language, network, costs, became)
        first_pass.append(first)
        again.append(second)
        files.append(
            hear_recording(one, costs["files"], settings=as_file, model=ears, language=language, network=network)
        )
    reference = errors(files, split)
    return {
        "whisper_s_per_s": {name: round(cost.processing_s / duration_s, 4) for name, cost in costs.items()},
        "passages": dict(became),
        "right_and_then_missing": sum(missing(a, b, split) for a, b in zip(first_pass, again, strict=True)),
        "files": score(files, None, split),
        "live": score(first_pass, reference, split),
        "revised": score(again, reference, split),
    }


def hear_twice(
    recording: Recording,
    ears: Remembering,
    settings: Settings,
    language: str,
    network: Silero,
    costs: dict[str, Cost],
    became: Counter[str],
) -> tuple[Played, Played]:
    """What is published at first, and what stands in the end."""
    first_pass, again = Played(recording, recording.name), Played(recording, recording.name)
    offline, second = Offline(ears, settings, language), SecondPass(ears, WHISPER_SAMPLE_RATE)
    finals: dict[int, Final] = {}
    passages: list[Passage] = []
    for event, known_s in events_of(recording, settings, network):
        match event:
            case Window():
                own = offline.hear(event)
                costs["live"].processing_s += own.processing_s
                first_pass.came.append(final_of(event, own, known_s))
                finals[event.number] = first_pass.finals[-1][1]
                passages += second.transcribed(event, own)
            case Silence():
                passages += second.silent(event)
    for passage in passages + second.end():
        answer, outcome = second.hear(passage)
        costs["second"].processing_s += answer.processing_s
        became["revised" if isinstance(outcome, Transcript) else outcome] += 1
        if isinstance(outcome, Transcript):
            replace(finals, passage, outcome)
    again.came += [Came(0.0, finals[number]) for number in sorted(finals)]
    return first_pass, again


def replace(finals: dict[int, Final], passage: Passage, outcome: Transcript) -> None:
    """The revision stands instead of the finals."""
    numbers = [int(part.message_id) for part in passage.finals]
    for number in numbers:
        del finals[number]
    start_s = passage.start_frame / WHISPER_SAMPLE_RATE
    words = tuple(
        Word(word=one.word, start=max(0.0, start_s + one.start_s), end=start_s + one.end_s, confidence=one.confidence)
        for one in outcome.words or ()
    )
    duration_s = passage.frames / WHISPER_SAMPLE_RATE
    scored: dict[str, Any] = {"start": start_s, "duration": duration_s, "text": outcome.text, "words": words}
    finals[numbers[0]] = Final.model_construct(**scored)


def errors(played: Iterable[Played], split: Split) -> Errors:
    some = list(played)
    return text_errors(
        [one.recording for one in some], [" ".join(f.text for _, f in one.finals) for one in some], split
    )


def missing(first_pass: Played, again: Played, split: Split) -> int:
    """Words that were published right, and are missing after the revisions."""
    true = said_in(first_pass.recording, split)

    def of(played: Played) -> dict[int, str | None]:
        heard = heard_in(played, split).words
        return {i: None if j is None else heard[j].word for i, j in align(true, heard) if i is not None}

    before, after = of(first_pass), of(again)
    return sum(before.get(i) == word.word and after.get(i) is None for i, word in enumerate(true))


if __name__ == "__main__":
    run("second_pass", measure, add_options)
