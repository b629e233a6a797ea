"""Left context: what does it save in words, and what does it cost? No broker, no queue.

In: a model, and recordings with what is said in them (``bench.corpora``, or a user's own). They are cut and heard as the daemon does,
with ``LEFT_CONTEXT_SECS`` and ``HOLD_BACK_SECS`` of several values, and in 25 s windows, as files are.

Out: by left context and hold-back the word error rate with its 95 % interval over recordings, words said twice at cuts, halves,
false ends of sentences, whisper's time for a second of audio, and from the end of a word to when its window is cut.
``--answers FILE`` keeps what whisper said, so that another way to put windows together can be tried in seconds.
"""

import hashlib
import pickle
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.alignment import Spoken, align
from bench.normal import Split, split_for, timed
from bench.offline import InFront, Offline
from bench.playing import Came, Played
from bench.recordings import Recording
from bench.report import Results, note, quantiles, run
from bench.scoring import heard_in, said_in, score
from bench.spoken import spoken_to
from transcriber.audio.format import AudioFormat, SampleFormat
from transcriber.audio.session import Gap, Session, Silence, Window
from transcriber.audio.vad.detector import Network
from transcriber.audio.vad.silero import Silero
from transcriber.config import Settings, load_settings
from transcriber.engine.job import WHISPER_SAMPLE_RATE, SpeechModel
from transcriber.engine.transcript import Transcript
from transcriber.engine.whisper.model import load_model
from transcriber.models.catalog import model_name
from transcriber.models.find import find_named_model
from transcriber.schema.messages import Final, Word

CORPORA = ("readings", "dialogues")
FORMAT = AudioFormat(SampleFormat.F32LE, WHISPER_SAMPLE_RATE)
BLOCK = WHISPER_SAMPLE_RATE // 10
QUICK_MINUTES = 1.0
CUTS: dict[str, dict[str, Any]] = {
    "quiet_endpoint": {},
    "fixed": {"buffer_cut": "fixed", "endpoint_silence_secs": 0.0},
}


@dataclass
class Remembering(InFront):
    """A model, and what it said to the same samples before."""

    store: Path | None
    said: dict[tuple[str, bool], Transcript] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.store and self.store.exists():
            self.said = pickle.loads(self.store.read_bytes())  # noqa: S301 - our own

    def keep(self) -> None:
        if self.store:
            self.store.write_bytes(pickle.dumps(self.said))

    def transcribe(
        self,
        samples: NDArray[np.float32],
        language: str | None,
        should_abort: Callable[[], bool],
        *,
        wide: bool = False,
        prompt: str = "",
        translate: bool = False,
        greedy: bool = False,
    ) -> Transcript:
        key = hashlib.sha256(samples.tobytes()).hexdigest(), wide
        if key not in self.said:
            self.said[key] = self.model.transcribe(
                samples, language, should_abort, wide=wide, prompt=prompt, translate=translate
            )
        return self.said[key]


@dataclass(slots=True)
class Cost:
    """What whisper took for some recordings."""

    processing_s: float = 0.0
    suppressed: int = 0


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
    """By name; first as files are heard, which needs no left context."""
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


def hear_recording(
    recording: Recording, cost: Cost, *, settings: Settings, model: SpeechModel, language: str, network: Network
) -> Played:
    played, offline = Played(recording, recording.name), Offline(model, settings, language)
    for event, known_s in windows_of(recording, settings, network):
        own = offline.hear(event)
        cost.processing_s += own.processing_s
        cost.suppressed += own.suppressed is not None
        played.came.append(final_of(event, own, known_s))
    return played


def events_of(
    recording: Recording, settings: Settings, network: Network
) -> Iterator[tuple[Window | Silence | Gap, float]]:
    """What a recording becomes, cut as if nobody else spoke to the daemon; and how many seconds had come by then."""
    session, samples = Session(recording.name, FORMAT, settings.cutting, network, max_hole_s=1.0), recording.samples
    for at in range(0, len(samples), BLOCK):
        block = samples[at : at + BLOCK]
        for event in session.feed(block.astype("<f4").tobytes()):
            yield event, (at + len(block)) / WHISPER_SAMPLE_RATE
    for event in session.close():
        yield event, len(samples) / WHISPER_SAMPLE_RATE


def windows_of(recording: Recording, settings: Settings, network: Network) -> Iterator[tuple[Window, float]]:
    """Those with speech."""
    for event, known_s in events_of(recording, settings, network):
        if isinstance(event, Window):
            yield event, known_s


def waits_s(played: Sequence[Played], split: Split) -> list[float]:
    """From the end of each word that was heard right to when its window was cut."""
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


def final_of(window: Window, own: Transcript, known_s: float) -> Came:
    """What the daemon would say of it, as far as it is scored."""
    start_s, duration_s = window.start_frame / WHISPER_SAMPLE_RATE, window.frames / WHISPER_SAMPLE_RATE
    words = tuple(
        Word(word=one.word, start=start_s + one.start_s, end=start_s + one.end_s, confidence=one.confidence)
        for one in own.words or ()
    )
    scored: dict[str, Any] = {"start": start_s, "duration": duration_s, "text": own.text, "words": words}
    return Came(known_s, Final.model_construct(**scored))


if __name__ == "__main__":
    run("left_context", measure, add_options)
