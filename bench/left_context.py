"""Left context: what does it save in words, and what does it cost? No broker, no queue.

In: a model, and recordings with what is said in them (``bench.lib.speech.corpora``, or a user's own). They are cut and heard as the daemon does,
with ``LEFT_CONTEXT_SECS`` and ``HOLD_BACK_SECS`` of several values, and in 25 s windows, as files are.

Out: by left context and hold-back the word error rate with its 95 % interval over recordings, words said twice at cuts, halves,
false ends of sentences, whisper's time for a second of audio, and from the end of a word to when its window is cut.
``--answers FILE`` keeps what whisper said, so that another way to put windows together can be tried in seconds.
"""

from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from bench.lib.offline import Remembering
from bench.lib.playing import Played
from bench.lib.recordings import Recording
from bench.lib.report import Results, note, quantiles, run
from bench.lib.speech.material import spoken_to
from bench.lib.windows import CORPORA, QUICK_MINUTES, Cost, hear_recording
from bench.lib.words.alignment import Spoken, align
from bench.lib.words.normal import Split, split_for, timed
from bench.lib.words.scoring import heard_in, said_in, score
from transcriber.audio.vad.silero import Silero
from transcriber.config import Settings, load_settings
from transcriber.engine.whisper.model import load_model
from transcriber.models.catalog import model_name
from transcriber.models.find import find_named_model

CUTS: dict[str, dict[str, Any]] = {
    "quiet_endpoint": {},
    "fixed": {"buffer_cut": "fixed", "endpoint_silence_secs": 0.0},
}


def add_options(parser: ArgumentParser) -> None:
    parser.add_argument("--model", default="tiny.en", help="a ggml file, or a name such as base.en, downloaded once")
    parser.add_argument("--corpus", type=Path, metavar="DIR", help="recordings with their texts, instead of ours")
    parser.add_argument("--language", default="en", metavar="CODE")
    parser.add_argument("--minutes", type=float, default=0.0, metavar="X", help="of each corpus; default: all of it")
    parser.add_argument("--cuts", default="quiet_endpoint", metavar="NAME,...", help=f"of {', '.join(CUTS)}")
    parser.add_argument("--leads", default="0,2.5,5,7.5,12.5", metavar="S,S", help="seconds of left context")
    parser.add_argument("--holds", default="0,0.5,1", metavar="S,S", help="seconds that are held back")
    parser.add_argument("--threads", type=int, default=2, metavar="N")
    parser.add_argument("--answers", type=Path, metavar="FILE", help="what whisper said before, and where to keep it")


def measure(
    quick: bool,
    model: str,
    corpus: Path | None,
    language: str,
    minutes: float,
    cuts: str,
    leads: str,
    holds: str,
    threads: int,
    answers: Path | None,
) -> Results:
    path, split = find_named_model(load_settings(), model), split_for(model)
    skipped: list[str] = []
    spoken = spoken_to(model, corpus, QUICK_MINUTES if quick else minutes, skipped)
    spoken = {name: some for name, some in spoken.items() if corpus or name in CORPORA}
    ears = Remembering(load_model(path, load_settings(whisper_threads=threads)), answers)
    hear = partial(hear_recording, model=ears, language=language, network=Silero())
    results: Results = {"model": model_name(path), "threads": threads, "skipped": skipped, "ways": {}}
    for name, settings in ways(cuts, leads, holds).items():
        note(f"left context: {name}")
        heard = partial(hear, settings=settings)
        results["ways"][name] = {corpus: figures(heard, some, split) for corpus, some in spoken.items()}
        ears.keep()
    print(markdown(results))
    return results


def ways(cuts: str, leads: str, holds: str) -> dict[str, Settings]:
    """By name; first as files are transcribed, which needs no left context."""
    file_s = load_settings().file_window_secs
    found = {
        f"{file_s:g} s windows": load_settings(
            buffer_duration_secs=file_s, left_context_secs=0, endpoint_silence_secs=0
        )
    }
    for cut, lead, hold in product(*(some.split(",") for some in (cuts, leads, holds))):
        settings = load_settings(left_context_secs=float(lead), hold_back_secs=float(hold), **CUTS[cut])
        found[f"{cut}, {settings.left_context_s:g} s, held back {settings.hold_back_s:g} s"] = settings
    return found


def figures(hear: Callable[[Recording, Cost], Played], recordings: Sequence[Recording], split: Split) -> Results:
    cost = Cost()
    played = [hear(one, cost) for one in recordings]
    duration_s = sum(one.duration_s for one in recordings)
    return {
        "whisper_s_per_s": round(cost.processing_s / duration_s, 4),
        "suppressed": cost.suppressed,
        "wait_s": quantiles(waits_s(played, split), p50=0.5, p95=0.95),
    } | score(played, None, split)


def waits_s(played: Sequence[Played], split: Split) -> list[float]:
    """From the end of each word that was transcribed right to when its window was cut."""
    waits: list[float] = []
    for one in played:
        said, heard = said_in(one.recording, split), heard_in(one, split).words
        at_s = [came_s for came_s, final in one.finals for _ in final.words or ()]
        raw = [word.word for _, final in one.finals for word in final.words or ()]
        placed = timed(split, [Spoken(word, number, number + 1) for number, word in enumerate(raw)])
        waits += [
            at_s[min(int(placed[j].start_s), len(at_s) - 1)] - said[i].end_s
            for i, j in align(said, heard)
            if i is not None and j is not None and said[i].word == heard[j].word
        ]
    return waits


def markdown(results: Results) -> str:
    rows = [
        "| way, corpus | WER | said twice | half | lost near cuts | false ends | whisper's time | a word waits |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for way, corpora in results["ways"].items():
        for name, one in corpora.items():
            counts = " | ".join(
                str(one["per_1000_words"][kind]["count"]) for kind in ("twice", "half", "lost_near_cuts")
            )
            low, high = one["interval_95"]
            rows.append(
                f"| {way}, {name} | {one['wer_percent']} % ({low} to {high}) | {counts} | {one['false_ends']['percent']} %"
                f" | {one['whisper_s_per_s']} | {one['wait_s']['p50']} ({one['wait_s']['p95']}) s |"
            )
    return "\n".join(rows)


if __name__ == "__main__":
    run("left_context", measure, add_options)
