"""Who speaks, by voice: how much of what is said gets the wrong speaker, and what it costs.

In: conversations of one to four voices, made of the bundled speech, clean and in noise, with what whisper would make of them: the
right words, and times that are 0.1 s off. Out: percent of the speaking time that is given to another speaker (confusion), beside
that of taking all for one speaker, how often the number of speakers is right, and ms a second. All voices are synthetic. The
bundled ones are two, and the same two lower and higher; where the synthesisers are (Debian's espeak-ng and flite) eight others
are heard, too. No weights, no figures: ``weights`` is then false.
"""

import time
import tracemalloc
from collections.abc import Sequence
from itertools import pairwise, permutations
from typing import NamedTuple

import numpy as np
import soxr
from numpy.typing import NDArray

from bench.demo_model.corpus import Espeak, Flite, Grammar, written
from bench.lib.recordings import BUNDLED, read_folder
from bench.lib.report import Results, note, run
from bench.lib.speech.noise import mixed, pink
from transcriber.audio.resampler import TARGET_SAMPLE_RATE
from transcriber.diarization.clustering import Clustering, unit
from transcriber.diarization.embedding import VoiceNetwork
from transcriber.diarization.labeller import ALIKE, Network, TurnFeeder, VoiceLabeller
from transcriber.diarization.turns import relabelled, turns
from transcriber.diarization.weights import SIZE, weights_file
from transcriber.schema.messages import Final, Timing, Word

SEED = 7
SPEAKERS = (1, 2, 3, 4)
TURNS = 16
PAUSE_S = 0.36
"""Between sentences of one speaker."""

ANSWER_S = (0.1, 0.8)
"""Between speakers."""

LEVELS_DB = (-6.0, 6.0)
WINDOW_S = 25.0
OFF_S = 0.1
"""How far the times of a sentence's words are off, standard deviation."""

PIECE = 1600
SNRS_DB = {"clean": None, "pink_15_db": 15.0}
OTHERS = ("kal16", "rms", "slt", "awb", "en-us+m1", "en-gb-x-rp+f2", "en-us+f4", "en-gb-scotland+m7")
"""Voices of flite and of espeak-ng."""

SENTENCES = 20
MANY_TURNS, MANY_VOICES = 80_000, 8
"""87 hours."""

Samples = NDArray[np.float32]


class Sentence(NamedTuple):
    """Said by one voice: (n,) float32 at 16 kHz, and its words, counted from its start."""

    samples: Samples
    words: tuple[Word, ...]


Cast = dict[str, list[Sentence]]
"""Voices by name, and what each can say."""


class Conversation(NamedTuple):
    """(n,) float32 at 16 kHz, its transcript, and who says each of its words."""

    samples: Samples
    finals: list[Final]
    speakers: list[str]


def measure(quick: bool) -> Results:
    if weights_file() is None:
        note("voices: no weights")
        return {"weights": False}
    started_s = time.perf_counter()
    network = VoiceNetwork()
    load_ms = 1000 * (time.perf_counter() - started_s)
    casts = {"bundled": bundled()} | ({} if quick or (others := synthesised()) is None else {"synthesised": others})
    conversations = 2 if quick else 15
    return {
        "weights": True,
        "load_ms": round(load_ms, 1),
        "ms_per_s_of_speech": _cost(network),
        "turns": _many_turns(MANY_TURNS // 20 if quick else MANY_TURNS),
        "confusion": {
            f"{name}_{noise}": _confusion(network, cast, conversations, snr_db)
            for name, cast in casts.items()
            for noise, snr_db in SNRS_DB.items()
        },
    }


def bundled() -> Cast:
    """The two voices of the bundled speech, and both of another size: resampled, so that pitch and formants move."""
    cast: Cast = {}
    for recording in read_folder(BUNDLED):
        voice, factor = ("man", 1.2) if recording.name[:2] in {"02", "04", "06"} else ("woman", 0.84)
        for sentence in recording.sentences:
            place = slice(round(sentence.start_s * TARGET_SAMPLE_RATE), round(sentence.end_s * TARGET_SAMPLE_RATE))
            said = [
                (word.text, word.start_s - sentence.start_s, word.end_s - sentence.start_s)
                for word in sentence.words or ()
            ]
            cast.setdefault(voice, []).append(_sentence(recording.samples[place], said))
            other = soxr.resample(recording.samples[place], TARGET_SAMPLE_RATE * factor, TARGET_SAMPLE_RATE)
            faster = [(word, start_s / factor, end_s / factor) for word, start_s, end_s in said]
            cast.setdefault(f"{voice} x {factor}", []).append(_sentence(other, faster))
    return cast


def synthesised() -> Cast | None:
    """Other voices; None without the synthesisers."""
    try:
        espeak, flite = Espeak(), Flite()
    except OSError:
        return None
    grammar = Grammar(np.random.default_rng(SEED))
    cast: Cast = {}
    for voice in OTHERS:
        note(f"voices: {voice} speaks")
        cast[voice] = []
        while len(cast[voice]) < SENTENCES:
            words = written(grammar.sentence())
            said = espeak.speak(voice, words, 155, 50, 50) if "+" in voice else flite.speak(voice, words, 1.0)
            if said is not None:
                times = zip(said.words, said.starts.tolist(), said.ends.tolist(), strict=True)
                cast[voice].append(_sentence(np.float32(2**-15) * said.audio.astype(np.float32), list(times)))
    return cast


def conversation(rng: np.random.Generator, cast: Cast, speakers: int, snr_db: float | None) -> Conversation:
    """So many of the cast take turns; the next to speak is never the last one."""
    names = [str(name) for name in rng.choice(sorted(cast), speakers, replace=False)]
    gains = {name: 10 ** (rng.uniform(*LEVELS_DB) / 20) for name in names}
    pieces, at = [np.zeros(TARGET_SAMPLE_RATE // 2, np.float32)], TARGET_SAMPLE_RATE // 2
    said: list[tuple[str, list[Word]]] = []
    last = ""
    for _ in range(TURNS):
        last = str(rng.choice([name for name in names if name != last] or names))
        for number in rng.integers(len(cast[last]), size=rng.integers(1, 4)):
            sentence = cast[last][number]
            said.append((last, _moved(sentence.words, at / TARGET_SAMPLE_RATE + rng.normal(0, OFF_S))))
            level = 0.1 * gains[last] / np.sqrt(np.mean(np.square(sentence.samples)))
            pieces += [sentence.samples * np.float32(level), np.zeros(round(PAUSE_S * TARGET_SAMPLE_RATE), np.float32)]
            at += len(pieces[-2]) + len(pieces[-1])
        more_s = rng.uniform(*ANSWER_S) - PAUSE_S
        if more_s < 0:
            pieces[-1] = pieces[-1][: round(more_s * TARGET_SAMPLE_RATE)]
        else:
            pieces.append(np.zeros(round(more_s * TARGET_SAMPLE_RATE), np.float32))
        at = sum(map(len, pieces))
    samples = np.concatenate(pieces)
    if snr_db is not None:
        samples = mixed(samples, pink(rng, len(samples)), snr_db)
    return Conversation(samples, _finals([words for _, words in said]), [name for name, words in said for _ in words])


def labelled(talk: Conversation, network: Network, piece: int = PIECE) -> list[Final]:
    """The transcript with labels, as a file's second pass makes them; the audio comes in pieces of so many samples."""
    labeller = VoiceLabeller(network)
    feeder = TurnFeeder(((turn.start_s, turn.end_s) for final in talk.finals for turn in turns(final)), labeller)
    for at in range(0, len(talk.samples), piece):
        feeder.push(talk.samples[at : at + piece], at)
    feeder.flush()
    labels = iter(labeller.labels())
    return [part for final in talk.finals for part in relabelled(final, labels)]


def confusion(truth: Sequence[str], found: Sequence[str], durations_s: Sequence[float]) -> float:
    """Share of the time that has another speaker, with the labels named so that it is least."""
    names, labels = sorted(set(truth)), sorted(set(found))
    times_s = np.zeros((len(names), max(len(names), len(labels))))
    for name, label, duration_s in zip(truth, found, durations_s, strict=True):
        times_s[names.index(name), labels.index(label)] += duration_s
    rows = np.arange(len(names))
    right_s = max(
        times_s[rows, columns].sum() for columns in map(list, permutations(range(times_s.shape[1]), len(names)))
    )
    return float(1 - right_s / sum(durations_s))


def _confusion(network: Network, cast: Cast, conversations: int, snr_db: float | None) -> Results:
    """By number of speakers, in percent, and how often their number was found."""
    rng = np.random.default_rng(SEED)
    results: Results = {}
    for speakers in SPEAKERS:
        note(f"voices: {speakers} of {len(cast)}, SNR {snr_db}")
        wrong, one, right = [], [], 0
        for _ in range(conversations):
            talk = conversation(rng, cast, speakers, snr_db)
            parts = labelled(talk, network)
            labels = [str(part.speaker) for part in parts for _ in part.words or ()]
            durations_s = [word.end - word.start for part in parts for word in part.words or ()]
            wrong.append(100 * confusion(talk.speakers, labels, durations_s))
            one.append(100 * confusion(talk.speakers, ["A"] * len(labels), durations_s))
            right += len(set(labels)) == len(set(talk.speakers))
        results[f"{speakers}_speakers"] = {
            "confusion_percent_mean": round(abs(float(np.mean(wrong))), 2),
            "confusion_percent_worst": round(max(wrong), 2),
            "all_one_speaker_percent_mean": round(float(np.mean(one)), 2),
            "number_right": f"{right} of {conversations}",
        }
    return results


def _cost(network: Network) -> dict[str, float]:
    """Of turns of some lengths, on one core."""
    costs = {}
    for duration_s in (1, 2, 4, 6):
        sound = np.random.default_rng(SEED).normal(0, 0.1, duration_s * TARGET_SAMPLE_RATE).astype(np.float32)
        times_s = []
        for _ in range(10):
            started_s = time.perf_counter()
            network(sound)
            times_s.append(time.perf_counter() - started_s)
        costs[f"turn_of_{duration_s}_s"] = round(1000 * float(np.median(times_s)) / duration_s, 2)
    return costs


def _many_turns(number: int) -> Results:
    """Time and memory of grouping so many turns."""
    rng = np.random.default_rng(SEED)
    voices = _vectors(rng, MANY_VOICES)
    clustering = Clustering(ALIKE)
    tracemalloc.start()
    started_s = time.perf_counter()
    for one in range(number):
        clustering.add(unit(2 * voices[one % MANY_VOICES] + _vectors(rng, 1)[0]))
    groups = clustering.groups()
    took_s = time.perf_counter() - started_s
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return {"turns": number, "took_s": round(took_s, 1), "peak_mb": round(peak / 1e6, 1), "groups": len(set(groups))}


def _vectors(rng: np.random.Generator, number: int) -> Samples:
    """As unlike each other as voices."""
    return unit(np.maximum(0, rng.standard_normal((number, SIZE), np.float32)))


def _sentence(samples: Samples, said: Sequence[tuple[str, float, float]]) -> Sentence:
    first_s, end_s = said[0][1], said[-1][2]
    place = slice(round(first_s * TARGET_SAMPLE_RATE), round(end_s * TARGET_SAMPLE_RATE))
    words = (
        Word(word=word, start=start_s - first_s, end=stop_s - first_s, confidence=None)
        for word, start_s, stop_s in said
    )
    return Sentence(samples[place], tuple(words))


def _moved(words: Sequence[Word], by_s: float) -> list[Word]:
    return [word.model_copy(update={"start": word.start + by_s, "end": word.end + by_s}) for word in words]


def _finals(sentences: Sequence[list[Word]]) -> list[Final]:
    """Windows as long as can be, cut between sentences."""
    windows: list[list[Word]] = [[]]
    for words in sentences:
        if windows[-1] and words[-1].end - windows[-1][0].start > WINDOW_S:
            windows.append([])
        windows[-1] += words
    starts = [0.0, *(window[0].start for window in windows[1:]), windows[-1][-1].end + PAUSE_S]
    return [
        _final(segment, words, round(start_s * TARGET_SAMPLE_RATE), round(end_s * TARGET_SAMPLE_RATE))
        for segment, (words, (start_s, end_s)) in enumerate(zip(windows, pairwise(starts), strict=True))
    ]


def _final(segment: int, words: Sequence[Word], start: int, end: int) -> Final:
    return Final(
        stream="job=1", session="1", rate=TARGET_SAMPLE_RATE, start_frame=start, frames=end - start,
        start=start / TARGET_SAMPLE_RATE, duration=(end - start) / TARGET_SAMPLE_RATE, received_at="2026-01-01T00:00:00Z",
        segment=segment, rev=0, text=" ".join(word.word for word in words), suppressed=None, words=tuple(words), language="en",
        confidence=None, avg_logprob=None, no_speech_prob=None, speech_final=True, speaker=None, model="made up",
        timing=Timing(queue_ms=0, processing_ms=0, handover_ms=0, end_to_end_ms=0, rtf=0), captured_at=None,
    )  # fmt: skip


if __name__ == "__main__":
    run("voices", measure)
