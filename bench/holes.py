"""Which holes may be bridged, and with what: words lost where payloads are missing and the audio continues as if none were.

In: a model, and recordings with what is said in them: people and readings of ``bench.lib.speech.corpora``, or a user's own
(``bench.lib.recordings`` says how they lie). They get holes whose length is known: single ones of one length, one every 2 s at a
random place; or payloads of 20 ms that are lost at random or in bursts. A hole is filled, by each filling at the same places,
or ends the run as a gap does. Our own cutter makes the windows, with the default settings; there is no broker.

Out: by length and filling the word error rate, the difference to the same audio without a hole and to that whose runs end,
with 95 % intervals (bootstrap over stretches of twenty words, since a hole harms the words beside it); how many windows there
were, how many of less than a second, how many silences, and how many seconds of words these silences hold.
Everything takes hours on two cores, even of tiny.en; ``--parts``, ``--fillings``, ``--lengths``, ``--percent`` and ``--minutes``
make it less, and results so far are printed as it runs.
"""

from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.lib.offline import Offline
from bench.lib.recordings import BUNDLED, SEED, Recording, Samples, read_folder
from bench.lib.report import Results, interval, note, run
from bench.lib.speech.corpora import real_corpora
from bench.lib.speech.material import share
from bench.lib.words.alignment import Spoken, align
from bench.lib.words.normal import Split, split_for
from transcriber.audio.format import AudioFormat, SampleFormat
from transcriber.audio.session import Gap, Session, Silence, Window
from transcriber.audio.vad.detector import Network
from transcriber.audio.vad.silero import Silero
from transcriber.config import Settings, load_settings
from transcriber.engine.job import WHISPER_SAMPLE_RATE, SpeechModel
from transcriber.engine.whisper.model import load_model
from transcriber.models.catalog import DEMO, model_name
from transcriber.models.find import find_named_model

PARTS = ("single", "random", "bursts")
LENGTHS_MS = (20, 40, 60, 100, 150, 200, 300, 400, 600)
EVERY_S, MARGIN_S = 2.0, 0.1
"""A single hole lies somewhere in each 2 s, and so far from the next 2 s."""

LOSS_PERCENT = (0.5, 1.0, 2.0, 5.0, 10.0)
BURST_PAYLOADS = 3.0
"""Mean length of a burst."""

PAYLOAD = WHISPER_SAMPLE_RATE // 50
"""Samples of one of 20 ms."""

FADE = WHISPER_SAMPLE_RATE * 5 // 2000
"""Samples in 2.5 ms."""

FLOOR_PAYLOADS, FLOOR_QUANTILE = 150, 0.1
"""The noise floor is as loud as this quantile of the 20 ms before, of 3 s."""

WHOLE, REFERENCES = "no_loss", ("closed", "zeros")
"""What the others are compared with: those of ``REFERENCES`` that are tried before them."""

STRETCH_WORDS = 20
SHORT_S, MINUTES = 1.0, 4.0
QUICK_MINUTES, QUICK_S, QUICK_LENGTHS_MS, QUICK_LOSS_PERCENT = 0.3, 10.0, (20, 200), (5.0,)
FORMAT = AudioFormat(SampleFormat.F32LE, WHISPER_SAMPLE_RATE)

Event = Window | Silence | Gap
Errors = NDArray[np.int64]
"""(stretches,) words to change, insert or leave out."""


class Hole(NamedTuple):
    """Samples that are missing, from ``start`` up to ``end``."""

    start: int
    end: int


Filling = Callable[[Samples, Hole], None]
"""Fills a hole, which holds zeros, in place. What comes before it is filled already; holes that come after it hold zeros."""


class Heard(NamedTuple):
    """What was transcribed of recordings with holes.

    Attributes:
        errors: of all stretches.
        holes: how many there were.
        windows, short, silences: of the cutter; ``short`` are the windows of less than a second.
        silent_words_s: seconds of words that no model was asked for.
        suppressed: windows whose text was held back.
    """

    errors: Errors
    holes: int
    windows: int
    short: int
    silences: int
    silent_words_s: float
    suppressed: int


@dataclass(frozen=True, slots=True)
class Ears:
    """A model, and the detector and settings of the daemon that asks it."""

    model: SpeechModel
    network: Network
    settings: Settings
    split: Split
    language: str

    def hear(self, recordings: Sequence[Recording], holes: Sequence[Sequence[Hole]], filling: Filling | None) -> Heard:
        """Recordings without what is in their holes; without a filling each hole ends the run."""
        errors: list[Errors] = []
        windows: list[Window] = []
        silences, silent_words_s, suppressed = 0, 0.0, 0
        for one, gone in zip(recordings, holes, strict=True):
            events = list(self._cut(filled(one.samples, gone, filling), gone if filling is None else ()))
            own = [event for event in events if isinstance(event, Window)]
            silent = [event for event in events if isinstance(event, Silence)]
            offline = Offline(self.model, self.settings, self.language)
            answers = [offline.hear(window) for window in own]
            errors.append(errors_of(self.split, one.text, " ".join(answer.text for answer in answers)))
            windows += own
            silences += len(silent)
            silent_words_s += sum(words_s(one, silence) for silence in silent)
            suppressed += sum(answer.suppressed is not None for answer in answers)
        short = sum(window.frames < SHORT_S * WHISPER_SAMPLE_RATE for window in windows)
        count = sum(map(len, holes))
        return Heard(np.concatenate(errors), count, len(windows), short, silences, round(silent_words_s, 2), suppressed)

    def _cut(self, samples: Samples, gone: Sequence[Hole]) -> Iterator[Event]:
        """The session that these samples make without ``gone``, payload by payload."""
        session = Session("holes", FORMAT, self.settings.window_policy, self.network, max_hole_s=3600.0)
        starts, ends = [0, *(hole.end for hole in gone)], [*(hole.start for hole in gone), len(samples)]
        for start, end in zip(starts, ends, strict=True):
            yield from session.feed(b"", offset=start)  # nothing is bridged to where no audio is yet
            for at in range(start, end, PAYLOAD):
                yield from session.feed(samples[at : min(at + PAYLOAD, end)].tobytes(), offset=at)
        yield from session.close()


def add_options(parser: ArgumentParser) -> None:
    parser.add_argument("--model", default="demo", help="a ggml file, or a name such as base.en, downloaded once")
    parser.add_argument("--corpus", type=Path, metavar="DIR", help="recordings with their texts, instead of ours")
    parser.add_argument("--minutes", type=float, default=MINUTES, metavar="N", help="of each corpus; 0: all of it")
    parser.add_argument("--parts", default=",".join(PARTS), metavar="NAME,...", help="default: %(default)s")
    parser.add_argument("--fillings", default=",".join(FILLINGS), metavar="NAME,...", help="default: %(default)s")
    parser.add_argument("--lengths", default=",".join(map(str, LENGTHS_MS)), metavar="MS,...", help="of single holes")
    rates = ",".join(f"{rate:g}" for rate in LOSS_PERCENT)
    parser.add_argument("--percent", default=rates, metavar="N,...", help="of the payloads are lost")
    parser.add_argument("--language", default="en", metavar="CODE")


def measure(
    quick: bool,
    model: str,
    corpus: Path | None,
    minutes: float,
    parts: str,
    fillings: str,
    lengths: str,
    percent: str,
    language: str,
) -> Results:
    settings = load_settings()
    path = find_named_model(settings, model)
    skipped: list[str] = []
    recordings = recordings_for(model, corpus, QUICK_MINUTES if quick else minutes, skipped)
    recordings = [one.opening(QUICK_S) for one in recordings] if quick else recordings
    ears = Ears(load_model(path, settings), Silero(), settings, split_for(model), language)
    said = np.concatenate([said_by_stretch(ears.split, one.text) for one in recordings])
    whole = ears.hear(recordings, [[] for _ in recordings], None)
    results: Results = {
        "model": model_name(path), "recordings": len(recordings), "minutes": minutes_of(recordings),
        "words": int(said.sum()), "skipped": skipped, WHOLE: figures(whole, said),
    }  # fmt: skip
    note(f"holes: {results}")
    lengths_ms = QUICK_LENGTHS_MS if quick else tuple(map(int, lengths.split(",")))
    names = REFERENCES if quick else fillings.split(",")
    rates = QUICK_LOSS_PERCENT if quick else tuple(map(float, percent.split(",")))
    cases: dict[str, dict[str, Callable[[int, int], list[Hole]]]] = {
        "single": {f"{ms}_ms": single_holes(ms) for ms in lengths_ms},
        "random": {f"{rate:g}_percent": lost_payloads(rate / 100, 1.0) for rate in rates},
        "bursts": {f"{rate:g}_percent": lost_payloads(rate / 100, BURST_PAYLOADS) for rate in rates},
    }
    for part in parts.split(","):
        results[part] = {name: {} for name in cases[part]}
        for name, holes_in in cases[part].items():
            holes = [holes_in(number, len(one.samples)) for number, one in enumerate(recordings)]
            others = {WHOLE: whole}
            for filling in names:
                heard = ears.hear(recordings, holes, FILLINGS[filling])
                found = results[part][name][filling] = figures(heard, said, others)
                others |= {filling: heard} if filling in REFERENCES else {}
                note(f"holes: {part}, {name}, {filling}: {found}")
    return results


def recordings_for(model: str, corpus: Path | None, minutes: float, skipped: list[str]) -> list[Recording]:
    """So many minutes of each corpus, one after the other."""
    if corpus or model == DEMO:
        return share(read_folder(corpus or BUNDLED), minutes)
    corpora = real_corpora(skipped)
    return [one for name in ("people", "readings") for one in share(corpora.get(name, []), minutes)]


def minutes_of(recordings: Sequence[Recording]) -> float:
    return round(sum(one.duration_s for one in recordings) / 60, 2)


def single_holes(length_ms: int) -> Callable[[int, int], list[Hole]]:
    """For a recording by its number and samples: holes of one length that begin at the same places, whatever it is.

    None begins in the last 2 s.
    """

    def holes(number: int, samples: int) -> list[Hole]:
        rng = np.random.default_rng([SEED, number])
        length = length_ms * WHISPER_SAMPLE_RATE // 1000
        step, room = (int(time_s * WHISPER_SAMPLE_RATE) for time_s in (EVERY_S, EVERY_S - max(LENGTHS_MS) / 1000))
        starts = [
            at + int(rng.integers(1, room - int(MARGIN_S * WHISPER_SAMPLE_RATE))) for at in range(0, samples, step)
        ]
        return [Hole(start, start + length) for start in starts if start + step <= samples]

    return holes


def lost_payloads(rate: float, burst: float) -> Callable[[int, int], list[Hole]]:
    """For a recording by its number and samples: a share ``rate`` of its payloads, in bursts of ``burst`` on average.

    The first and the last one are there. Bursts of one payload on average are lost at random, each for itself.
    """

    def holes(number: int, samples: int) -> list[Hole]:
        rng = np.random.default_rng([SEED, number])
        # Whether one is lost after one that was lost, and after one that was not.
        stays = rate if burst <= 1 else 1 - 1 / burst
        begins = rate if burst <= 1 else rate / (1 - rate) / burst
        found: list[Hole] = []
        for draw, at in zip(rng.random(samples // PAYLOAD), range(PAYLOAD, samples - PAYLOAD, PAYLOAD), strict=False):
            after_lost = bool(found) and found[-1].end == at
            if draw < (stays if after_lost else begins):
                start = found.pop().start if after_lost else at
                found.append(Hole(start, at + PAYLOAD))
        return found

    return holes


def filled(samples: Samples, holes: Sequence[Hole], filling: Filling | None) -> Samples:
    """A copy that holds nothing of what was lost."""
    out = samples.copy()
    for hole in holes:
        out[hole.start : hole.end] = 0
    if filling:
        for hole in holes:
            filling(out, hole)
    return out


def zeros(samples: Samples, hole: Hole) -> None:
    """Digital silence, which is there already."""


def faded(samples: Samples, hole: Hole) -> None:
    """Digital silence between edges without a step."""
    before, after = samples[max(0, hole.start - FADE) : hole.start], samples[hole.end : hole.end + FADE]
    before *= np.linspace(1, 0, len(before), dtype=np.float32)
    after *= np.linspace(0, 1, len(after), dtype=np.float32)


def before(samples: Samples, hole: Hole) -> None:
    """The audio before the hole, backwards and fading out."""
    samples[hole.start : hole.end] = _out_of_the_past(samples, hole)


def after(samples: Samples, hole: Hole) -> None:
    """The audio behind the hole, backwards and fading in."""
    samples[hole.start : hole.end] = _out_of_the_future(samples, hole)


def both(samples: Samples, hole: Hole) -> None:
    """From the audio before the hole to that behind it, each backwards."""
    samples[hole.start : hole.end] = _out_of_the_past(samples, hole) + _out_of_the_future(samples, hole)


def noise(samples: Samples, hole: Hole) -> None:
    """White noise as loud as the quietest of the last seconds; the same each time."""
    heard = samples[max(0, hole.start - FLOOR_PAYLOADS * PAYLOAD) : hole.start]
    parts = heard[len(heard) % PAYLOAD :].reshape(-1, PAYLOAD)
    if len(parts):
        level = np.quantile(np.sqrt(np.mean(np.square(parts), axis=1)), FLOOR_QUANTILE)
        rng = np.random.default_rng([SEED, hole.start])
        samples[hole.start : hole.end] = rng.standard_normal(hole.end - hole.start, np.float32) * np.float32(level)


FILLINGS: dict[str, Filling | None] = {
    "closed": None, "zeros": zeros, "faded": faded, "before": before, "after": after, "both": both, "noise": noise,
}  # fmt: skip


def figures(heard: Heard, said: Errors, others: Mapping[str, Heard] = MappingProxyType({})) -> Results:
    """In percent of the words; differences in points, with their intervals."""
    out: Results = heard._asdict()
    out["errors"] = int(heard.errors.sum())
    out["wer_percent"] = _points(heard.errors, said)
    for name, other in others.items():
        more = heard.errors - other.errors
        out |= {f"minus_{name}_points": _points(more, said), f"minus_{name}_interval_95": interval(more, said)}
    return out


def errors_of(split: Split, said: str, heard: str) -> Errors:
    """By stretch; a word that was invented belongs to the one before it."""
    pair = [[Spoken(word) for word in split(text)] for text in (said, heard)]
    errors = np.zeros(len(said_by_stretch(split, said)), np.int64)
    last = 0
    for i, j in align(*pair):
        last = last if i is None else i
        errors[last // STRETCH_WORDS] += i is None or j is None or pair[0][i] != pair[1][j]
    return errors


def said_by_stretch(split: Split, said: str) -> Errors:
    """(stretches,) words of each."""
    count = len(split(said))
    return np.diff([*range(0, count, STRETCH_WORDS), count])


def words_s(recording: Recording, silence: Silence) -> float:
    """Seconds of the words that are said in a silence; 0 where nobody knows when they are."""
    start_s = silence.start_frame / WHISPER_SAMPLE_RATE
    end_s = start_s + silence.frames / WHISPER_SAMPLE_RATE
    return sum(max(0.0, min(end_s, word.end_s) - max(start_s, word.start_s)) for word in recording.words or ())


def _out_of_the_past(samples: Samples, hole: Hole) -> Samples:
    length = hole.end - hole.start
    heard = samples[max(0, hole.start - length) : hole.start][::-1]
    return np.pad(heard, (0, length - len(heard))) * np.linspace(1, 0, length, dtype=np.float32)


def _out_of_the_future(samples: Samples, hole: Hole) -> Samples:
    length = hole.end - hole.start
    heard = samples[hole.end : hole.end + length][::-1]
    return np.pad(heard, (length - len(heard), 0)) * np.linspace(0, 1, length, dtype=np.float32)


def _points(errors: Errors, said: Errors) -> float:
    return round(100 * float(errors.sum() / said.sum()), 2)


if __name__ == "__main__":
    run("holes", measure, add_options)
