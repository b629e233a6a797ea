"""Published times of words, beside when they are said: by whisper's time stamps alone, and kept out of pauses.

In: a model, and recordings whose words have times (``bench.lib.speech.material``): as they are, and with 20 s of quiet before them and 8 s of it after
every third sentence. They are cut as live audio and as files are. Out: seconds by which the start of a word that was transcribed right is off, the
same of first words after the quiet that was put in, and how many words are timed where there is nothing but that quiet. Nothing of it depends
on how fast the machine is. ``--table`` prints Markdown.
"""

from argparse import ArgumentParser
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from bench.lib.offline import Offline
from bench.lib.playing import Played
from bench.lib.recordings import Recording, Samples, Word
from bench.lib.report import Results, note, run
from bench.lib.speech.material import spoken_to
from bench.lib.windows import final_of, windows_of
from bench.lib.words.alignment import Spoken, align
from bench.lib.words.normal import Split, split_for, timed
from bench.lib.words.scoring import raw_words, said_in
from transcriber.audio.vad.silero import Silero
from transcriber.config import Settings, load_settings
from transcriber.engine.job import WHISPER_SAMPLE_RATE, SpeechModel
from transcriber.engine.whisper.model import load_model
from transcriber.models.find import find_named_model

CORPORA = ("readings", "dialogues")
BEFORE_S, PAUSE_S, SENTENCES = 20.0, 8.0, 3
QUIET_DB, SEED = -60.0, 7
EDGE_S = 0.3
"""A word that reaches so little into the quiet does not count as in it."""

QUICK_MINUTES = 1.0
WAYS = ("whisper", "published")


@dataclass
class Times:
    """Of one way.

    Attributes:
        off_s: of each word that was transcribed right, how far its start is off.
        first_off_s: of those among them that are the first after quiet.
        in_quiet: words that are timed within quiet that was put in, of ``words``.
    """

    off_s: list[float] = field(default_factory=list)
    first_off_s: list[float] = field(default_factory=list)
    in_quiet: int = 0
    words: int = 0

    def add(self, said: Sequence[Spoken], heard: Sequence[Spoken], quiet: Sequence[tuple[float, float]]) -> None:
        """One recording, in which there is ``quiet`` from and to."""
        firsts = {next(n for n, one in enumerate(said) if one.start_s >= end_s - EDGE_S) for _, end_s in quiet}
        for i, j in align(said, heard):
            if i is not None and j is not None and said[i].word == heard[j].word:
                off_s = abs(heard[j].start_s - said[i].start_s)
                self.off_s.append(off_s)
                if i in firsts:
                    self.first_off_s.append(off_s)
        self.words += len(heard)
        self.in_quiet += sum(any(a + EDGE_S < one.middle_s < b - EDGE_S for a, b in quiet) for one in heard)

    def figures(self) -> Results:
        return {
            "words": len(self.off_s),
            "off_s": _quantiles(self.off_s),
            "first_after_quiet_off_s": _quantiles(self.first_off_s),
            "in_quiet_percent": round(100 * self.in_quiet / max(1, self.words), 2),
        }


def add_options(parser: ArgumentParser) -> None:
    parser.add_argument("--model", default="tiny.en")
    parser.add_argument("--minutes", type=float, default=0.0, help="of each corpus; 0: all")
    parser.add_argument("--table", action="store_true", help="print Markdown, too")


def measure(*, quick: bool, model: str, minutes: float, table: bool) -> Results:
    skipped: list[str] = []
    spoken = spoken_to(model, None, QUICK_MINUTES if quick else minutes, skipped)
    recordings = [one for name in CORPORA for one in spoken[name] if one.words and one.sentences]
    live = load_settings()
    # As bus/file_text has it.
    filed = live.model_copy(
        update={"buffer_duration_secs": live.file_window_secs, "left_context_secs": 0.0, "endpoint_silence_secs": 0.0}
    )
    ears = load_model(find_named_model(live, model), live)
    results: Results = {"model": model, "skipped": skipped, "cuts": {}}
    for cut, settings in (("live", live), ("files", filed)):
        for kind, put_in in (("as they are", False), ("with quiet put in", True)):
            times = {way: Times() for way in WAYS}
            for one in recordings:
                recording, quiet = with_quiet(one) if put_in else (one, [])
                _hear(recording, quiet, times, settings, ears, split_for(model))
            results["cuts"][f"{cut}, {kind}"] = figures = {way: found.figures() for way, found in times.items()}
            note(f"word_times: {cut}, {kind}: {figures}")
    ears.close()
    if table:
        print(markdown(results))
    return results


def with_quiet(recording: Recording) -> tuple[Recording, list[tuple[float, float]]]:
    """The recording with quiet before it and within, and where that is."""
    places_s = [0.0, *(sentence.end_s + 0.1 for sentence in recording.sentences[SENTENCES - 1 : -1 : SENTENCES])]
    pieces: list[Samples] = []
    quiet: list[tuple[float, float]] = []
    words: list[Word] = []
    added_s = 0.0
    for place_s, until_s in zip(places_s, [*places_s[1:], recording.duration_s], strict=True):
        length_s = PAUSE_S if place_s else BEFORE_S
        quiet.append((place_s + added_s, place_s + added_s + length_s))
        added_s += length_s
        pieces += [_hiss(length_s), recording.samples[_sample(place_s) : _sample(until_s)]]
        words += [
            replace(word, start_s=word.start_s + added_s, end_s=word.end_s + added_s)
            for word in recording.words or ()
            if place_s <= word.start_s < until_s
        ]
    return replace(recording, samples=np.concatenate(pieces), words=tuple(words), sentences=()), quiet


def markdown(results: Results) -> str:
    rows = [
        "| start of a word, off by: median / 95th / 99th percentile | whisper's stamps | as published | first word after quiet | words timed in the quiet |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, ways in results["cuts"].items():
        off = [" / ".join(f"{value}" for value in ways[way]["off_s"].values()) for way in WAYS]
        first = " → ".join(f"{ways[way]['first_after_quiet_off_s'].get('p95', '-')}" for way in WAYS)
        within = " → ".join(f"{ways[way]['in_quiet_percent']} %" for way in WAYS)
        rows.append(f"| {name} | {off[0]} s | {off[1]} s | p95 {first} s | {within} |")
    return "\n".join(rows)


def _hear(
    recording: Recording,
    quiet: Sequence[tuple[float, float]],
    times: dict[str, Times],
    settings: Settings,
    ears: SpeechModel,
    split: Split,
) -> None:
    """One recording in both ways: of each answer once with the phrases it needs to know, and once without."""
    offline, bare = Offline(ears, settings, "en"), Offline(ears, settings, "en")
    played = {way: Played(recording, recording.name) for way in WAYS}
    for window, known_s in windows_of(recording, settings, Silero()):
        _, answer = offline.ask(window)
        played["published"].came.append(final_of(window, offline.follow(window, answer), known_s))
        unplaced = bare.follow(window, replace(answer, phrases=()))
        played["whisper"].came.append(final_of(window, unplaced, known_s))
    for way, one in played.items():
        heard = timed(split, [word for _, final in one.finals for word in raw_words(final)])
        times[way].add(said_in(recording, split), heard, quiet)


def _hiss(seconds: float) -> Samples:
    noise = np.random.default_rng(SEED).standard_normal(_sample(seconds)) * 10 ** (QUIET_DB / 20)
    return noise.astype(np.float32)


def _sample(time_s: float) -> int:
    return round(time_s * WHISPER_SAMPLE_RATE)


def _quantiles(values: Iterable[float]) -> dict[str, float]:
    found = np.array(list(values))
    if not len(found):
        return {}
    return {
        name: round(float(np.quantile(found, share)), 2) for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
    }


if __name__ == "__main__":
    run("word_times", measure, add_options)
