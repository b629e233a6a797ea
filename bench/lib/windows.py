"""Windows as the daemon cuts them. In: a recording, settings. Out: its windows, when each was known, and what whisper transcribes in them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bench.lib.offline import Offline
from bench.lib.playing import Came, Played
from bench.lib.recordings import Recording
from transcriber.audio.format import AudioFormat, SampleFormat
from transcriber.audio.session import Gap, Session, Silence, Window
from transcriber.audio.vad.detector import Network
from transcriber.config import Settings
from transcriber.engine.job import WHISPER_SAMPLE_RATE, SpeechModel
from transcriber.engine.transcript import Transcript
from transcriber.schema.messages import Final, Word

CORPORA = ("readings", "dialogues")
FORMAT = AudioFormat(SampleFormat.F32LE, WHISPER_SAMPLE_RATE)
BLOCK = WHISPER_SAMPLE_RATE // 10
QUICK_MINUTES = 1.0


@dataclass(slots=True)
class Cost:
    """What whisper took for some recordings."""

    processing_s: float = 0.0
    suppressed: int = 0


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
    session, samples = (
        Session(recording.name, FORMAT, settings.window_policy, network, max_hole_s=1.0),
        recording.samples,
    )
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


def final_of(window: Window, own: Transcript, known_s: float) -> Came:
    """What the daemon would say of it, as far as it is scored."""
    start_s, duration_s = window.start_frame / WHISPER_SAMPLE_RATE, window.frames / WHISPER_SAMPLE_RATE
    words = tuple(
        Word(word=one.word, start=start_s + one.start_s, end=start_s + one.end_s, confidence=one.confidence)
        for one in own.words or ()
    )
    scored: dict[str, Any] = {"start": start_s, "duration": duration_s, "text": own.text, "words": words}
    return Came(known_s, Final.model_construct(**scored))
