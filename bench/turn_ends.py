"""End of turn as an aid to the end of speech: would a daemon gain by asking a network whether a sentence is complete?

In: Smart Turn v3.2 (``smart-turn-v3.2-cpu.onnx`` from the wheel of ``pipecat-ai`` 1.14.0), a model, and recordings: dialogues and readings in
other accents of ``bench.lib.speech.corpora`` with pauses of 0.3 to 1.5 s put in, between sentences and within half of them; people
as they are; and a user's own (``--corpus``; ``bench.lib.recordings`` says how they lie). ``lib/turn_ends/meetings.json`` is the
``transcripts.json`` of seven half minutes of meetings in the tests of ``pyannote.audio`` 4.0.7's source archive: where sentences end and
where they go on, by hand, from what base heard; pauses of which that is not clear are not in it, nor are the words.

Out, by corpus. ``pauses``: of those the detector hears, how likely the network calls the sentence complete where it is and where it is
not, after 0.26 s of silence and later: the area under the curve (0.5 is a guess), and shares by threshold. ``ways``: windows cut after
silence alone, or where the network says so, else after a longer silence; windows an hour, how many of them end within a
sentence, how often the network is asked and what share of a core that takes; from the end of a sentence to the end of its window, and
to its ``final``, by how long whisper takes for a window (``WHISPER_S``; a window that silence ends is transcribed during the second
half of it, as in the daemon; one that is held open, after the network's answer); and with ``--words`` the word errors. No broker, no
queue: delays count audio, so the machine's load matters to the network's own share of them alone.
"""

from argparse import ArgumentParser
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench.lib.offline import Offline, Remembering
from bench.lib.playing import Played
from bench.lib.recordings import SEED, Recording, read_folder
from bench.lib.report import Results, note, quantiles, run
from bench.lib.speech.material import share, spoken_to
from bench.lib.turn_ends.cutter import TurnEnds, cut_by
from bench.lib.turn_ends.pauses import pauses, sentence_ends_s, with_pauses, with_silence_after
from bench.lib.turn_ends.smart_turn import COMPLETE, SmartTurn
from bench.lib.windows import final_of, windows_of
from bench.lib.words.normal import split_for
from bench.lib.words.scoring import percent, score
from transcriber.audio.session import Window
from transcriber.audio.vad import THRESHOLD
from transcriber.audio.vad.detector import FRAME_SAMPLES, SpeechDetector
from transcriber.audio.vad.silero import Silero
from transcriber.config import Settings, load_settings
from transcriber.engine.job import WHISPER_SAMPLE_RATE
from transcriber.engine.whisper.model import load_model
from transcriber.models.find import find_named_model
from transcriber.pipeline.left_context import PAUSE_S

ASKED_FRAMES = (8, 16)
"""0.26 and 0.51 s of silence."""

THRESHOLDS = (COMPLETE, 0.8, 0.95)
WITH_PAUSES, AS_THEY_ARE = ("dialogues", "accents"), ("people",)
QUICK_MINUTES = 1.0

WHISPER_S = (0.05, 0.15, 0.4)
"""A GPU; tiny.en and base on two quiet cores."""

FRAME_S = FRAME_SAMPLES / WHISPER_SAMPLE_RATE
SLACK_FRAMES = 2
"""A window that ends where a turn is complete has half of the silence, and up to so many frames more where cuts are rounded."""

IN_WORD_S = 0.05
"""So shortly before its end a sentence's last word is still being said."""


@dataclass(frozen=True, slots=True)
class Way:
    """Settings; and of ``TurnEnds`` the threshold and the longest silence, where the network is asked."""

    settings: dict[str, Any] = field(default_factory=dict)
    complete: float = COMPLETE
    hold_frames: int = 0

    def ends(self, network: SmartTurn) -> TurnEnds | None:
        return TurnEnds(network, self.complete, ASKED_FRAMES[0], self.hold_frames) if self.hold_frames else None


WAYS = {
    "silence_0.5": Way(),
    "silence_0.25": Way({"endpoint_silence_secs": 0.25}),
    "turn_0.5": Way(hold_frames=16),
    "turn_1.5": Way(hold_frames=47),
    "sure_turn_1.5": Way(complete=0.8, hold_frames=47),
}
"""By the longest silence in seconds; the first one is the daemon's default."""


def add_options(parser: ArgumentParser) -> None:
    parser.add_argument("--network", type=Path, required=True, metavar="FILE", help="smart-turn-v3.2-cpu.onnx")
    parser.add_argument("--model", default="tiny.en", help="a ggml file, or a name such as base.en, downloaded once")
    parser.add_argument("--corpus", type=Path, metavar="DIR", help="recordings with their texts, beside ours")
    parser.add_argument("--minutes", type=float, default=0.0, metavar="X", help="of each corpus; default: all of it")
    parser.add_argument("--ways", default=",".join(WAYS), metavar="NAME,...", help="default: %(default)s")
    parser.add_argument("--words", action="store_true", help="count word errors, too: takes as long as whisper does")
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="of whisper")
    parser.add_argument("--answers", type=Path, metavar="FILE", help="what whisper said before, and where to keep it")


def measure(
    quick: bool,
    network: Path,
    model: str,
    corpus: Path | None,
    minutes: float,
    ways: str,
    words: bool,
    threads: int,
    answers: Path | None,
) -> Results:
    if unknown := set(ways.split(",")) - set(WAYS):
        raise SystemExit(f"--ways: {', '.join(sorted(unknown))}: none of {', '.join(WAYS)}")
    skipped: list[str] = []
    turn, ears = SmartTurn(network), None
    corpora = material(model, corpus, QUICK_MINUTES if quick else minutes, skipped)
    if words:
        path = find_named_model(load_settings(), model)
        ears = Remembering(load_model(path, load_settings(whisper_threads=threads)), answers)
    results: Results = {"network_sha256": turn.sha256, "skipped": skipped, "pauses": {}, "ways": {}}
    for name, recordings in corpora.items():
        note(f"turn ends: {name}, pauses")
        results["pauses"][name] = told_apart(recordings, turn)
    for way in ways.split(","):
        results["ways"][way] = {}
        for name, recordings in corpora.items():
            note(f"turn ends: {name}, {way}")
            results["ways"][way][name] = cut(recordings, WAYS[way], turn, ears, model)
            if ears is not None:
                ears.keep()
    print(markdown(results))
    return results


def material(model: str, folder: Path | None, minutes: float, skipped: list[str]) -> dict[str, list[Recording]]:
    """By corpus, with their pauses."""
    spoken, rng = spoken_to(model, None, minutes, skipped), np.random.default_rng(SEED)
    corpora = {name: [with_pauses(one, rng) for one in spoken[name]] for name in WITH_PAUSES if name in spoken}
    corpora |= {name: [with_silence_after(one) for one in spoken[name]] for name in AS_THEY_ARE if name in spoken}
    if folder is not None:
        corpora["yours"] = [with_silence_after(one) for one in share(read_folder(folder), minutes)]
    return corpora


def told_apart(recordings: Sequence[Recording], turn: SmartTurn) -> Results:
    """Pauses at which a sentence ends beside others."""
    silero, found = Silero(), dict[int, list[tuple[bool, float]]]()
    for one in recordings:
        detector = SpeechDetector(silero)
        speech = np.concatenate([detector.push(one.samples).speech, detector.flush().speech])
        for pause in pauses(one, speech, THRESHOLD, ASKED_FRAMES[0]):
            for frames in ASKED_FRAMES:
                if pause.first + frames < pause.last:
                    answer = turn(one.samples[: (pause.first + frames) * FRAME_SAMPLES])
                    found.setdefault(frames, []).append((pause.complete, answer))
    return {f"{frames * FRAME_S:.2f} s": figures(answers) for frames, answers in found.items()}


def figures(answers: Iterable[tuple[bool, float]]) -> Results:
    """Of answers, each with whether a sentence ends there."""
    told = list(answers)
    ends, insides = ([answer for complete, answer in told if complete is which] for which in (True, False))
    return {
        "ends": len(ends),
        "insides": len(insides),
        "area_under_curve": area_under_curve(ends, insides),
        "called_complete_percent": {
            str(threshold): {
                name: percent(sum(answer >= threshold for answer in some), len(some))
                for name, some in (("ends", ends), ("insides", insides))
            }
            for threshold in THRESHOLDS
        },
    }


def area_under_curve(ends: Sequence[float], insides: Sequence[float]) -> float | None:
    """How often an end is more likely than an inside; half where they are alike.

    >>> area_under_curve([0.9, 0.5], [0.5, 0.1])
    0.875
    """
    if not ends or not insides:
        return None
    apart = np.subtract.outer(np.array(ends), np.array(insides))
    return round(float(np.mean(apart > 0) + np.mean(apart == 0) / 2), 3)


def cut(recordings: Sequence[Recording], way: Way, turn: SmartTurn, ears: Remembering | None, model: str) -> Results:
    """One way to cut."""
    settings, ends = load_settings(**way.settings), way.ends(turn)
    turn.asked, silero = 0, Silero()
    cuts, played = Cuts(settings, ends), list[Played]()
    for one in recordings:
        offline = Offline(ears, settings, "en") if ears is not None else None
        came = Played(one, one.name)
        with cut_by(ends):
            found = list(windows_of(one, settings, silero))
        cuts.add(one, found)
        if offline is not None:
            came.came += [final_of(window, offline.hear(window), known_s) for window, known_s in found]
            played.append(came)
    duration_s = sum(one.duration_s for one in recordings)
    out = cuts.figures(duration_s, turn.call_s) | {
        "asked_per_minute": round(60 * turn.asked / duration_s, 1),
        "ms_per_call": round(1000 * turn.call_s, 1),
        "core_percent": round(100 * turn.asked * turn.call_s / duration_s, 2),
    }
    return out | {"words": score(played, None, split_for(model))} if ears is not None else out


class Cuts:
    """What becomes of recordings: windows, and the delays of the sentences in them."""

    def __init__(self, settings: Settings, ends: TurnEnds | None) -> None:
        self._hold_back_s, self._endpoint_s, self._ends = settings.hold_back_s, settings.endpoint_silence_secs, ends
        self.windows = self.inside = 0
        self.delays_s: list[tuple[float, Window]] = []

    def add(self, recording: Recording, found: Sequence[tuple[Window, float]]) -> None:
        """The windows of one recording, each with when it was known."""
        ends_s = [(window.start_frame + window.frames) / WHISPER_SAMPLE_RATE for window, _ in found]
        spoken = [(one.start_s, one.end_s) for one in recording.sentences]
        self.windows += len(found)
        self.inside += sum(any(a < end_s < b for a, b in spoken) for end_s in ends_s)
        for at_s in sentence_ends_s(recording):
            for (window, known_s), end_s in zip(found, ends_s, strict=True):
                held_back = window.cut.goes_on and at_s > end_s - min(self._hold_back_s, PAUSE_S)
                if end_s >= at_s - IN_WORD_S and not held_back:
                    self.delays_s.append((known_s - at_s, window))
                    break

    def figures(self, duration_s: float, call_s: float) -> Results:
        """Of so much audio, where the network takes ``call_s`` to answer."""
        closed_s = [delay_s for delay_s, _ in self.delays_s]
        finals = {
            str(whisper_s): [
                delay_s + max(0.0, whisper_s - self._ahead_s(window, call_s)) for delay_s, window in self.delays_s
            ]
            for whisper_s in WHISPER_S
        }
        shares = {"p50": 0.5, "p75": 0.75, "p95": 0.95}
        return {
            "windows_per_hour": round(3600 * self.windows / duration_s),
            "windows_ending_in_sentences_percent": percent(self.inside, self.windows),
            "sentences": len(closed_s),
            "sentence_to_window_s": quantiles(closed_s, **shares),
            "sentence_to_final_s": {name: quantiles(some, **shares) for name, some in finals.items()},
        }

    def _ahead_s(self, window: Window, call_s: float) -> float:
        """How long before its end is certain whisper can have a window; less than 0 where that waits for the network."""
        if not window.cut.speech_final or window.cut.speech is None:
            return 0.0
        if self._ends is None:
            return self._endpoint_s / 2
        spoken = np.flatnonzero(window.cut.speech >= THRESHOLD)
        silence = len(window.cut.speech) - int(spoken[-1]) - 1 if len(spoken) else 0
        held = silence > (self._ends.ask_frames + 1) // 2 + SLACK_FRAMES
        return (self._ends.hold_frames - self._ends.ask_frames) * FRAME_S * held - call_s


def markdown(results: Results) -> str:
    rows = [
        "| way, corpus | windows an hour | end within a sentence | sentence to window | to final at 0.05, 0.15, 0.4 s | of a core | WER |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for way, corpora in results["ways"].items():
        for name, one in corpora.items():
            finals = ", ".join(str(some["p50"]) for some in one["sentence_to_final_s"].values())
            wrong = one["words"]["wer_percent"] if "words" in one else "-"
            rows.append(
                f"| {way}, {name} | {one['windows_per_hour']} | {one['windows_ending_in_sentences_percent']} % | "
                f"{one['sentence_to_window_s']['p50']} ({one['sentence_to_window_s']['p95']}) s | {finals} s | "
                f"{one['core_percent']} % | {wrong} % |"
            )
    return "\n".join(rows)


if __name__ == "__main__":
    run("turn_ends", measure, add_options)
