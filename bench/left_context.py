"""Left context: what does it save in words, and what does it cost, before a daemon is built on it? No broker, no daemon.

In: a model, and recordings with what is said in them (``bench.corpora``, or a user's own). Our own cutter cuts them as live
audio (``quiet_endpoint``) or every five seconds (``fixed``); whisper hears each window together with up to L seconds before it,
and with what had come after it when it was cut; ``left_words.py`` says which words are new. Beside that, in the same
run, today's windows (half a second of overlap, ``engine/seam.py``) and the same recordings in 25 s windows, as files are cut.

Out: by way, context and hold-back the word error rate with its 95 % interval over recordings, words said twice at cuts, halves,
false ends of sentences, whisper's time for a second of audio, encoder positions for a second of audio, and from the end
of a word to when its window is cut. ``--answers FILE`` keeps what whisper said, so that another alignment or hold-back can be
tried in seconds.
"""

import math
import pickle
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from bench.alignment import Spoken, align
from bench.left_words import Heard, LeftContext
from bench.normal import Split, split_for, timed
from bench.playing import Came, Played
from bench.recordings import Recording
from bench.report import Results, note, quantiles, run
from bench.scoring import heard_in, said_in, score
from bench.spoken import spoken_to
from transcriber.audio.silero import Silero
from transcriber.audio.speech import Network, speech_probability
from transcriber.audio.window import Cut, Cutting, WindowCutter
from transcriber.config import MIN_AUDIO_CTX, load_settings
from transcriber.engine.guards import suppression
from transcriber.engine.job import WHISPER_SAMPLE_RATE, SpeechModel, Transcript
from transcriber.engine.seam import Seam
from transcriber.engine.whisper import SAMPLES_PER_POSITION, load_model
from transcriber.messages import Final, Word
from transcriber.models.catalog import model_name
from transcriber.models.find import find_named_model

CORPORA = ("readings", "dialogues")
FILE_WINDOW_S, FILE_POSITIONS = 25.0, 1280
POSITION_STEP, SPARE_POSITIONS = 256, 128
BLOCK = WHISPER_SAMPLE_RATE // 10
QUICK_MINUTES = 1.0
CUTS: dict[str, dict[str, Any]] = {"quiet_endpoint": {}, "fixed": {"quiet": False, "endpoint_s": 0.0}}


@dataclass(frozen=True, slots=True)
class Piece:
    """A window, in samples of its recording.

    Attributes:
        start, end: what it covers.
        heard: from where to where whisper hears today.
        known: what had come when it was cut.
        reach: where the latest end of speech or silence before it ends.
        goes_on: whether it was cut because it was full.
        speech_prob: how sure the detector is of speech.
    """

    start: int
    end: int
    heard: tuple[int, int]
    known: int
    reach: int
    goes_on: bool
    speech_prob: float


@dataclass(frozen=True, slots=True)
class Way:
    """How windows are heard.

    Attributes:
        lead_s: seconds of left context; 0: today's windows, with their seams.
        hold_back_s: how near to the edge words are held back.
        ahead_s: so many seconds after the window whisper also hears, as far as they had come when it was cut.
        through: whether the context reaches through ends of speech.
    """

    cut: str
    lead_s: float
    hold_back_s: float = 0.0
    ahead_s: float = 0.5
    through: bool = True

    @property
    def name(self) -> str:
        if not self.lead_s:
            return f"{self.cut}, today"
        about = "" if self.through else ", to the end of speech"
        return f"{self.cut}, {self.lead_s:g} s, held back {self.hold_back_s:g} s, ahead {self.ahead_s:g} s{about}"


class PlainCutter(WindowCutter):
    """Cuts where ours does, and no window hears its neighbour."""

    __slots__ = ()

    def _take(self, end: int, tail: int = 0, next_lead: int = 0, *, speech_final: bool = False) -> Cut:
        return super()._take(end, tail, 0, speech_final=speech_final)


@dataclass
class Ears:
    """A model at all contexts, and what it said."""

    load: Callable[[int], SpeechModel]
    language: str
    store: Path | None
    models: dict[int, SpeechModel] = field(default_factory=dict)
    said: dict[tuple[str, int, int, int], Transcript] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.store and self.store.exists():
            self.said = pickle.loads(self.store.read_bytes())  # noqa: S301 - our own

    def keep(self) -> None:
        if self.store:
            self.store.write_bytes(pickle.dumps(self.said))

    def hear(self, recording: Recording, begin: int, end: int, positions: int) -> Transcript:
        """As the worker does when nobody waits: what is doubted is asked again at a wide context."""
        key = (recording.name, begin, end, positions)
        if key not in self.said:
            model = self.models.get(positions) or self.models.setdefault(positions, self.load(positions))
            samples = recording.samples[begin:end]
            answer = model.transcribe(samples, self.language, _never)
            if answer.doubt and model.tight and not answer.wide:
                wide = model.transcribe(samples, self.language, _never, wide=True)
                better = wide if not wide.doubt or _belief(wide) > _belief(answer) else answer
                answer = replace(better, processing_s=answer.processing_s + wide.processing_s)
            self.said[key] = answer
        return self.said[key]


@dataclass(slots=True)
class Cost:
    """What whisper took for some recordings."""

    processing_s: float = 0.0
    positions: int = 0
    suppressed: int = 0


def add_options(parser: ArgumentParser) -> None:
    parser.add_argument("--model", default="tiny.en", help="a ggml file, or a name such as base.en, downloaded once")
    parser.add_argument("--corpus", type=Path, metavar="DIR", help="recordings with their texts, instead of ours")
    parser.add_argument("--language", default="en", metavar="CODE")
    parser.add_argument("--minutes", type=float, default=0.0, metavar="X", help="of each corpus; default: all of it")
    parser.add_argument("--cuts", default="quiet_endpoint", metavar="NAME,...", help=f"of {', '.join(CUTS)}")
    parser.add_argument("--leads", default="2.5,5,7.5,12.5", metavar="S,S", help="seconds of left context")
    parser.add_argument("--holds", default="0,0.5,1", metavar="S,S", help="seconds that are held back")
    parser.add_argument("--ahead", default="0,0.5", metavar="S,S", help="seconds after a window that are heard, too")
    parser.add_argument("--through", default="yes", metavar="yes,no", help="context through ends of speech")
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
    ahead: str,
    through: str,
    threads: int,
    answers: Path | None,
) -> Results:
    path, split = find_named_model(load_settings(), model), split_for(model)
    skipped: list[str] = []
    spoken = spoken_to(model, corpus, QUICK_MINUTES if quick else minutes, skipped)
    spoken = {name: some for name, some in spoken.items() if corpus or name in CORPORA}

    def load(positions: int) -> SpeechModel:
        return load_model(path, load_settings(whisper_audio_ctx=str(positions), whisper_threads=threads))

    ears, network = Ears(load, language, answers), Silero()
    results: Results = {"model": model_name(path), "threads": threads, "skipped": skipped, "files": {}, "ways": {}}
    for name, some in spoken.items():
        note(f"left context: {name} as files")
        results["files"][name] = figures(partial(hear_file, ears=ears, network=network), some, split)
    chosen = [
        (float(lead_s), float(hold_s), float(ahead_s), reaching == "yes")
        for lead_s, hold_s, ahead_s, reaching in product(*(some.split(",") for some in (leads, holds, ahead, through)))
    ]
    for cut in cuts.split(","):
        for way in [Way(cut, 0.0), *(Way(cut, *one) for one in chosen)]:
            note(f"left context: {way.name}")
            hear = partial(hear_live, way=way, ears=ears, network=network)
            results["ways"][way.name] = {name: figures(hear, some, split) for name, some in spoken.items()}
            ears.keep()
    print(markdown(results))
    return results


def figures(hear: Callable[[Recording, Cost], Played], recordings: Sequence[Recording], split: Split) -> Results:
    cost = Cost()
    played = [hear(one, cost) for one in recordings]
    duration_s = sum(one.duration_s for one in recordings)
    return {
        "whisper_s_per_s": round(cost.processing_s / duration_s, 4),
        "positions_per_s": round(cost.positions / duration_s, 1),
        "suppressed": cost.suppressed,
        "wait_s": quantiles(waits_s(played, split), p50=0.5, p95=0.95),
    } | score(played, None, split)


def hear_file(recording: Recording, cost: Cost, *, ears: Ears, network: Network) -> Played:
    cutting = replace(load_settings().cutting, window_s=FILE_WINDOW_S, endpoint_s=0.0)
    return _with_seams(recording, cost, pieces_of(recording, cutting, network, WindowCutter), FILE_POSITIONS, ears)


def hear_live(recording: Recording, cost: Cost, *, way: Way, ears: Ears, network: Network) -> Played:
    cutting = replace(load_settings().cutting, **CUTS[way.cut])
    if not way.lead_s:
        return _with_seams(recording, cost, pieces_of(recording, cutting, network, WindowCutter), MIN_AUDIO_CTX, ears)
    played, context = Played(recording, recording.name), LeftContext(way.lead_s + 1, way.hold_back_s)
    after = 0
    for piece in pieces_of(recording, cutting, network, PlainCutter):
        if piece.start != after and not way.through:
            context.interrupted()
        after = piece.end
        first = 0 if way.through else piece.reach
        begin = max(first, piece.start - round(way.lead_s * WHISPER_SAMPLE_RATE))
        end = min(piece.known, piece.end + round(way.ahead_s * WHISPER_SAMPLE_RATE)) if piece.goes_on else piece.end
        answer = _heard(ears, recording, (begin, end), fitting(end - begin), piece, cost)
        start_s, end_s, lead_s, tail_s = (
            samples / WHISPER_SAMPLE_RATE for samples in (piece.start, piece.end, piece.start - begin, end - piece.end)
        )
        own = context.close(answer, Heard(start_s, end_s, lead_s, tail_s, piece.goes_on))
        played.came.append(_final(piece, own))
    return played


def _with_seams(recording: Recording, cost: Cost, pieces: Iterator[Piece], positions: int, ears: Ears) -> Played:
    played, seam = Played(recording, recording.name), Seam()
    for number, piece in enumerate(pieces):
        begin, end = piece.heard
        lead_s, tail_s, duration_s = (
            samples / WHISPER_SAMPLE_RATE for samples in (piece.start - begin, end - piece.end, piece.end - piece.start)
        )
        answer = _heard(ears, recording, piece.heard, positions, piece, cost)
        own = seam.close(answer, number, lead_s=lead_s, tail_s=tail_s, duration_s=duration_s)
        played.came.append(_final(piece, own))
    return played


def pieces_of(
    recording: Recording, cutting: Cutting, network: Network, cutter_of: Callable[..., WindowCutter]
) -> Iterator[Piece]:
    """Windows with speech, cut as if nobody else spoke to the daemon."""
    cutter, samples = cutter_of(WHISPER_SAMPLE_RATE, cutting, network), recording.samples
    cuts: list[tuple[Cut, int]] = []
    for at in range(0, len(samples), BLOCK):
        known = min(at + BLOCK, len(samples))
        cuts += [(cut, known) for cut in cutter.push(samples[at:known])]
    cuts += [(cut, len(samples)) for cut in cutter.flush(samples[:0], len(samples))]
    reach, window = 0, int(cutting.window_s * WHISPER_SAMPLE_RATE)
    for cut, known in cuts:
        end = cut.start + cut.frames
        goes_on = not (cut.silent or cut.speech_final or end == len(samples))
        begin, tail = (round(seconds * WHISPER_SAMPLE_RATE) for seconds in (cut.lead_s, cut.tail_s))
        if not cut.silent:
            # A full window was cut when it was full, whatever the length of a block.
            full = min(cut.start - begin + window, len(samples)) if goes_on else known
            prob = 1.0 if cut.speech is None else speech_probability(cut.speech)
            yield Piece(cut.start, end, (cut.start - begin, end + tail), full, reach, goes_on, prob)
        reach = reach if goes_on else end


def fitting(samples: int) -> int:
    """Positions for so many samples, as ``WHISPER_AUDIO_CTX=auto`` has them: as tight as the audio whisper repeats itself."""
    return max(
        MIN_AUDIO_CTX, POSITION_STEP * math.ceil((samples / SAMPLES_PER_POSITION + SPARE_POSITIONS) / POSITION_STEP)
    )


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
        "| way, corpus | WER | said twice | half | lost near cuts | false ends | whisper's time | positions | a word waits |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    ways = {"25 s windows": results["files"]} | results["ways"]
    for way, corpora in ways.items():
        for name, one in corpora.items():
            counts = " | ".join(
                str(one["per_1000_words"][kind]["count"]) for kind in ("twice", "half", "lost_near_cuts")
            )
            low, high = one["interval_95"]
            rows.append(
                f"| {way}, {name} | {one['wer_percent']} % ({low} to {high}) | {counts} | {one['false_ends']['percent']} %"
                f" | {one['whisper_s_per_s']} | {one['positions_per_s']} | {one['wait_s']['p50']} ({one['wait_s']['p95']}) s |"
            )
    return "\n".join(rows)


def _heard(
    ears: Ears, recording: Recording, place: tuple[int, int], positions: int, piece: Piece, cost: Cost
) -> Transcript:
    answer = ears.hear(recording, *place, positions)
    reason = suppression(answer.text, answer.avg_logprob, answer.doubt, speech_prob=piece.speech_prob)
    cost.processing_s += answer.processing_s
    cost.positions += positions
    cost.suppressed += reason is not None
    return replace(answer, text="", words=(), suppressed=reason) if reason else answer


def _final(piece: Piece, own: Transcript) -> Came:
    """What the daemon would say of it, as far as it is scored."""
    start_s, duration_s = piece.start / WHISPER_SAMPLE_RATE, (piece.end - piece.start) / WHISPER_SAMPLE_RATE
    words = tuple(
        Word(word=one.word, start=start_s + one.start_s, end=start_s + one.end_s, confidence=one.confidence)
        for one in own.words or ()
    )
    scored: dict[str, Any] = {"start": start_s, "duration": duration_s, "text": own.text, "words": words}
    return Came(piece.known / WHISPER_SAMPLE_RATE, Final.model_construct(**scored))


def _belief(answer: Transcript) -> float:
    return -math.inf if answer.avg_logprob is None else answer.avg_logprob


def _never() -> bool:
    return False


if __name__ == "__main__":
    run("left_context", measure, add_options)
