"""The demo: a broker, the daemon and three streams of bundled speech, in real time. Out: exit status.

Nothing is simulated: a real nats-server, ``transcriber serve`` as a process, audio and captions through
the bus. Status 0 means that the daemon stopped cleanly, that every frame of every recording is accounted
for, and that the bundled model heard well enough.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterable

from transcriber.bus.client import Received, connected, parse_transcript, subscribe
from transcriber.bus.connection import Connection
from transcriber.clients.publish import publish
from transcriber.clients.source import AudioSource
from transcriber.config import Settings
from transcriber.demo.account import account_errors
from transcriber.demo.broker import EmbeddedBroker
from transcriber.demo.daemon import DaemonProcess
from transcriber.demo.screen import Score, Screen
from transcriber.demo.speech import SPEECH_FORMAT, Recording, load_speech
from transcriber.demo.wer import word_errors, words
from transcriber.messages import AnyMessage, End, Final, Metrics
from transcriber.text.captions import Line, text_line

DEMO_MODEL = "demo"
STREAMS = 3
MAX_WER = 0.15
"""Of the bundled model; another model does not know harbour radio."""

LAST_WORD_S = 60.0
"""Seconds for the last windows to come back, with whatever model."""


async def demo(*, model: str = DEMO_MODEL) -> int:
    """The command ``demo``, with the bundled model or another one by name.

    Raises:
        StartError: the extra ``demo`` is not installed, or the broker does not start.
    """
    recordings = load_speech()
    with EmbeddedBroker() as broker, DaemonProcess(broker.url, model) as daemon:
        with Screen() as screen:
            screen.line(Line(f"broker at {broker.url}; the daemon loads the model {model}", dim=True))
            if not await daemon.ready():
                sys.stderr.write(daemon.log())
                return daemon.stop()
            async with connected(_settings(broker.url), "transcriber demo") as connection:
                sessions = await _perform(connection, daemon, recordings, screen)
        status = daemon.stop()
        if status:
            sys.stderr.write(daemon.log())
    scores = [_score(recording, sessions[recording.name]) for recording in recordings]
    finals = [message for messages in sessions.values() for message in messages if isinstance(message, Final)]
    screen.results(scores, [final.timing.end_to_end_ms for final in finals])
    problems = [f"{score.name}: {error}" for score in scores for error in score.account]
    if status:
        problems.append(f"the daemon ended with status {status}")
    if model == DEMO_MODEL and sum(score.errors for score in scores) > MAX_WER * sum(score.words for score in scores):
        problems.append(f"more than {MAX_WER:.0%} of the words are wrong")
    for problem in problems:
        screen.line(Line(f"FAILED: {problem}"))
    return 1 if problems else 0


def _settings(nats_url: str) -> Settings:
    """Our own broker and subjects, whatever the environment says."""
    mine = {name: field.default for name, field in Settings.model_fields.items() if name.startswith("nats_")}
    return Settings.model_validate(mine | {"nats_url": nats_url})


async def _perform(
    connection: Connection, daemon: DaemonProcess, recordings: list[Recording], screen: Screen
) -> dict[str, list[AnyMessage]]:
    """Play all recordings; returns what came back of each, complete unless the daemon died or hangs."""
    sessions: dict[str, list[AnyMessage]] = {recording.name: [] for recording in recordings}
    messages = await subscribe(connection, "transcripts.*.*", "transcriber.metrics.*")
    listening = asyncio.create_task(_listen(messages, sessions, screen))
    programmes = [recordings[number::STREAMS] for number in range(STREAMS)]
    playing = asyncio.gather(
        *(_play(connection, f"radio-{number}", programme) for number, programme in enumerate(programmes, 1))
    )
    deadline_s = LAST_WORD_S + max(sum(r.duration_s for r in programme) for programme in programmes)
    try:
        async with asyncio.timeout(deadline_s):
            while daemon.running and not listening.done():
                await asyncio.wait({listening}, timeout=0.5)
                if playing.done():
                    playing.result()  # raises what went wrong
            if listening.done():
                listening.result()
    except TimeoutError:
        pass  # what has not come is missing in the account
    finally:
        playing.cancel()
        listening.cancel()
        await asyncio.gather(playing, listening, return_exceptions=True)
    return sessions


async def _play(connection: Connection, stream: str, programme: Iterable[Recording]) -> None:
    """One recording after the other, each a session."""
    for recording in programme:
        source = AudioSource(SPEECH_FORMAT, recording.frames, _whole(recording.pcm))
        await publish(connection, f"audio.{stream}", source, session=recording.name)


async def _whole(pcm: bytes) -> AsyncIterator[bytes]:
    yield pcm


async def _listen(messages: AsyncIterator[Received], sessions: dict[str, list[AnyMessage]], screen: Screen) -> None:
    """Show and keep what comes, until every session has ended."""
    ended = 0
    while ended < len(sessions):
        message = await anext(messages)
        if message.subject.startswith("transcriber.metrics."):
            screen.figures(Metrics.model_validate_json(message.data))
        elif parsed := parse_transcript(message):
            sessions[parsed.session].append(parsed)
            ended += isinstance(parsed, End)
            if line := text_line(parsed):
                screen.line(line)


def _score(recording: Recording, messages: list[AnyMessage]) -> Score:
    finals = [message for message in messages if isinstance(message, Final)]
    heard = " ".join(final.text for final in finals)
    return Score(
        name=recording.name,
        stream=messages[0].stream if messages else "?",
        words=len(words(recording.text)),
        errors=word_errors(recording.text, heard),
        account=account_errors(messages, recording.frames),
    )
