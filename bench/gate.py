"""The speech detector: which windows it lets pass, how exactly it knows starts and ends of speech, and what it costs.

In: voices that no model was trained on (Debian's espeak-ng and flite; left out where they are missing) and the bundled
recordings, with their words' times, at -40 to 0 dBFS, alone and in white noise, pink noise and babble; and silence, noise, hum,
tones and clicks at -60 to -6 dBFS. Windows of 5 s, and of 1 to 2 s; one is with speech that holds 0.3 s of words.

Out: how many windows with speech pass and how many without are stopped, in percent, by kind, signal-to-noise ratio in dB and
window; how many ms after the truth speech is seen to start and to end; the share of frames that the network gets;
and what one stream costs in percent of a core, for which the machine should have nothing else to do.
"""

import json
import time
from collections.abc import Iterator
from itertools import pairwise, product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.demo_model.corpus import Grammar, written
from bench.lib.recordings import BUNDLED, SEED, read_folder
from bench.lib.report import Results, note, quantiles, run
from bench.lib.speech.noise import KINDS, Noise, Samples, at_level, babble, mixed, pink
from bench.lib.speech.readings import Say, held_out_voices
from transcriber.audio.vad import THRESHOLD
from transcriber.audio.vad.detector import FRAME_SAMPLES, MIN_SPEECH_FRAMES, SpeechDetector, State, has_speech
from transcriber.audio.vad.silero import Silero
from transcriber.engine.job import WHISPER_SAMPLE_RATE

THRESHOLDS = (THRESHOLD, 0.5)
SNRS_DB = (20, 10, 5, 0)
TALK_S, BLOCK_SAMPLES = 40.0, WHISPER_SAMPLE_RATE // 10
PAUSES_S = ((0.3, 4.0), (1.6, 4.0), (0.1, 0.6))
"""Between sentences, in turn from talk to talk."""

WINDOW_S, SHORT_S = 5.0, (1.0, 2.0)
WORDS_S = 0.3
"""A window with so many seconds of words has speech; one with less, but some, does not count."""

APART_S, BEFORE_S, AFTER_S = 1.0, 0.8, 0.9
"""Pause that makes an end of speech, and where around starts and ends the detector's are looked for."""


class Talk(NamedTuple):
    """Somebody speaks: (n,) float32 ``samples`` at 16 kHz and the (m, 2) ``words``, start and end in seconds."""

    samples: Samples
    words: NDArray[np.float64]


class Window(NamedTuple):
    """``kind`` is by length; ``words_s`` are the seconds of words in it."""

    kind: str
    words_s: float
    speech: NDArray[np.float32]


class CountingNetwork:
    """The network, and how many frames it got."""

    def __init__(self) -> None:
        self.heard = 0
        self._network = Silero()

    def new_state(self) -> State:
        return self._network.new_state()

    def __call__(self, rows: NDArray[np.float32], state: State) -> tuple[NDArray[np.float32], State]:
        self.heard += len(rows)
        return self._network(rows, state)


def measure(quick: bool) -> Results:
    skipped: list[str] = []
    rng, network = np.random.default_rng(SEED), CountingNetwork()
    held_out = held_out_talks(6 if quick else 36, skipped)
    talks = bundled_talks() + held_out
    voices: dict[str, Noise] = {"babble": babble} if held_out else {}
    noises = {"white": KINDS["white"], "pink": KINDS["pink"]} | voices
    results: Results = {"threshold": THRESHOLD, "frames": MIN_SPEECH_FRAMES, "skipped": skipped}
    note("gate: what a stream costs")
    results["percent_of_a_core"] = costs(talks, rng)
    note("gate: speech")
    passed: Results = {"clean": passing(network, rng, talks, None, None)}
    edges: Results = {"clean": found_edges(network, rng, talks, None)}
    for name, noise in noises.items():
        note(f"gate: speech in {name}")
        passed[name] = {str(snr_db): passing(network, rng, talks, noise, snr_db) for snr_db in SNRS_DB}
        if name != "babble":
            edges[f"{name}_10_db"] = found_edges(network, rng, talks, noise)
    results |= {"speech_passes_percent": passed, "seen_after_ms": edges}
    stopped: Results = {}
    shares: Results = {"speech": share_heard(network, [talk.samples for talk in talks])}
    for name, sound in ({"silence": silence} | KINDS | voices).items():
        note(f"gate: {name}")
        count = 10 if quick else 60
        runs = [at_level(sound(rng, int(30 * WHISPER_SAMPLE_RATE)), rng.uniform(-60, -6)) for _ in range(count)]
        stopped[name] = stopping(network, rng, runs)
        shares[name] = share_heard(network, runs)
    return results | {"without_speech_stopped_percent": stopped, "network_hears_share": shares}


def silence(_: np.random.Generator, n: int) -> Samples:
    """Digital silence."""
    return np.zeros(n, np.float32)


def bundled_talks() -> list[Talk]:
    entries = json.loads((BUNDLED / "transcripts.json").read_bytes())
    words = [[(w["start"], w["end"]) for s in entry["sentences"] for w in s["words"]] for entry in entries]
    return [Talk(one.samples, np.array(times)) for one, times in zip(read_folder(BUNDLED), words, strict=True)]


def held_out_talks(count: int, skipped: list[str]) -> list[Talk]:
    """Sentences with pauses, by each voice in turn."""
    grammar = Grammar(np.random.default_rng(SEED))
    try:
        voices = list(held_out_voices(grammar).values())
    except OSError as error:
        skipped.append(f"held-out voices and babble: {error}; install espeak-ng and flite")
        return []
    return [
        _talk(grammar, voices[number % len(voices)], PAUSES_S[number % len(PAUSES_S)], TALK_S)
        for number in range(count)
    ]


def passing(
    network: CountingNetwork, rng: np.random.Generator, talks: list[Talk], noise: Noise | None, snr_db: float | None
) -> Results:
    """By window: how many with speech pass, and of those without, in the pauses, how many are stopped."""
    windows: list[Window] = []
    for talk in talks:
        windows += _windows(rng, speech_of(network, heard_in(rng, talk, noise, snr_db)), talk.words)
    results: Results = {}
    for kind in ("5_s", "1_to_2_s"):
        passed = [has_speech(w.speech, THRESHOLD) for w in windows if w.kind == kind and w.words_s >= WORDS_S]
        results[kind] = {"windows": len(passed), "pass": percent(passed)}
    in_pauses = [not has_speech(w.speech, THRESHOLD) for w in windows if w.words_s == 0]
    return results | {"pauses": {"windows": len(in_pauses), "stopped": percent(in_pauses)}}


def stopping(network: CountingNetwork, rng: np.random.Generator, runs: list[Samples]) -> Results:
    """By window: how many of these runs without speech are stopped."""
    windows = [w for run in runs for w in _windows(rng, speech_of(network, run), np.empty((0, 2)))]
    results: Results = {}
    for kind in ("5_s", "1_to_2_s"):
        stopped = [not has_speech(w.speech, THRESHOLD) for w in windows if w.kind == kind]
        results[kind] = {"windows": len(stopped), "stopped": percent(stopped)}
    return results


def found_edges(network: CountingNetwork, rng: np.random.Generator, talks: list[Talk], noise: Noise | None) -> Results:
    """How long after the truth the first frame with speech begins, and the first one without is complete, by threshold."""
    starts_ms: dict[float, list[float]] = {threshold: [] for threshold in THRESHOLDS}
    ends_ms: dict[float, list[float]] = {threshold: [] for threshold in THRESHOLDS}
    for talk in talks:
        speech = speech_of(network, heard_in(rng, talk, noise, 10))
        pauses = [(a[1], b[0]) for a, b in pairwise(talk.words) if b[0] - a[1] > APART_S]
        for threshold, (end_s, start_s) in product(THRESHOLDS, pauses):
            first = _frame(start_s - BEFORE_S)
            spoken = np.flatnonzero(speech[first : _frame(start_s + AFTER_S)] >= threshold)
            if len(spoken):
                starts_ms[threshold].append(1000 * (_at_s(first + int(spoken[0])) - start_s))
            first = _frame(end_s - BEFORE_S)
            spoken = np.flatnonzero(speech[first : _frame(end_s + AFTER_S)] >= threshold)
            if len(spoken):
                ends_ms[threshold].append(1000 * (_at_s(first + int(spoken[-1]) + 2) - end_s))
    shares = {"p05": 0.05, "median": 0.5, "p95": 0.95}
    return {
        str(threshold): {
            "start": quantiles(starts_ms[threshold], **shares),
            "end": quantiles(ends_ms[threshold], **shares),
        }
        for threshold in THRESHOLDS
    }


def share_heard(network: CountingNetwork, runs: list[Samples]) -> float:
    """Of the frames of these runs, how many the network got, pre-roll included."""
    network.heard = 0
    frames = sum(len(speech_of(network, run)) for run in runs)
    return round(network.heard / frames, 4)


def costs(talks: list[Talk], rng: np.random.Generator) -> Results:
    """In percent of a core, in blocks of 100 ms: the best of five times."""
    length = 30 * WHISPER_SAMPLE_RATE
    spoken = np.concatenate([talk.samples[_word(talk, 0) : _word(talk, -1)] for talk in talks])
    sounds = {
        "speech": np.resize(spoken, length), "silence": silence(rng, length), "pink": at_level(pink(rng, length), -20),
    }  # fmt: skip
    network = Silero()

    def seconds(samples: Samples) -> float:
        blocks = np.split(samples, range(BLOCK_SAMPLES, len(samples), BLOCK_SAMPLES))
        detector = SpeechDetector(network)
        started_s = time.process_time()
        for block in blocks:
            detector.push(block)
        return time.process_time() - started_s

    return {
        name: round(100 * min(seconds(sound) for _ in range(5)) * WHISPER_SAMPLE_RATE / length, 4)
        for name, sound in sounds.items()
    }


def heard_in(rng: np.random.Generator, talk: Talk, noise: Noise | None, snr_db: float | None) -> Samples:
    """The talk in noise, its peak at -40 to 0 dBFS, in 16 bits."""
    samples = talk.samples
    if noise is not None and snr_db is not None:
        samples = mixed(samples, noise(rng, len(samples)), snr_db)
    return at_level(samples / np.abs(samples).max(), rng.uniform(-40, 0))


def speech_of(network: CountingNetwork, samples: Samples) -> NDArray[np.float32]:
    """Of every frame of a run."""
    detector = SpeechDetector(network)
    return np.concatenate([detector.push(samples).speech, detector.flush().speech])


def percent(yes: list[bool]) -> float | None:
    return round(100 * float(np.mean(yes)), 2) if yes else None


def _talk(grammar: Grammar, speak: Say, pauses_s: tuple[float, float], duration_s: float) -> Talk:
    pieces: list[Samples] = []
    words: list[NDArray[np.float64]] = []
    at = 0
    while at < duration_s * WHISPER_SAMPLE_RATE:
        said = speak(written(grammar.sentence()))
        if said is None:
            continue
        pause = int(grammar.rng.uniform(*pauses_s) * WHISPER_SAMPLE_RATE)
        pieces += [np.zeros(pause, np.float32), said.audio.astype(np.float32) / np.float32(32768)]
        words.append(np.stack([said.starts, said.ends], axis=1).astype(np.float64) + (at + pause) / WHISPER_SAMPLE_RATE)
        at += pause + len(said.audio)
    return Talk(np.concatenate(pieces), np.concatenate(words))


def _windows(rng: np.random.Generator, speech: NDArray[np.float32], words: NDArray[np.float64]) -> Iterator[Window]:
    """All of 5 s, one after the other, and one short window in every second."""
    duration_s = _at_s(len(speech))
    places = [("5_s", at_s, at_s + WINDOW_S) for at_s in np.arange(0, duration_s - WINDOW_S, WINDOW_S)]
    places += [("1_to_2_s", at_s, at_s + rng.uniform(*SHORT_S)) for at_s in np.arange(0, duration_s - SHORT_S[1])]
    for kind, start_s, end_s in places:
        inside = np.minimum(words[:, 1], end_s) - np.maximum(words[:, 0], start_s)
        yield Window(kind, float(np.maximum(inside, 0).sum()), speech[_frame(start_s) : _frame(end_s) + 1])


def _frame(at_s: float) -> int:
    return max(0, int(at_s * WHISPER_SAMPLE_RATE / FRAME_SAMPLES))


def _at_s(frame: int) -> float:
    return frame * FRAME_SAMPLES / WHISPER_SAMPLE_RATE


def _word(talk: Talk, number: int) -> int:
    """Where a talk's words begin (0) or end (-1), in samples."""
    return int(talk.words[number, number] * WHISPER_SAMPLE_RATE)


if __name__ == "__main__":
    run("gate", measure)
