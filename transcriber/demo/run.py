"""The demo: a broker, a daemon for each model, and streams of bundled speech, in real time. Out: exit status.

Nothing is simulated: a real nats-server, ``transcriber serve`` as a process, audio and captions through
the bus. Real speech is transcribed by a Whisper model, harbour radio by the bundled model, which was trained on nothing else.
Status 0 means that the daemons stopped cleanly, that every frame of every recording is accounted
for, and that the models with a known word error rate stayed below their limit. With ``web`` the gateway's page shows it, and
the streams go on until Ctrl-C.
"""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import count

from transcriber.bus.client_session import connected, parse_transcript, subscribe
from transcriber.bus.connection import Connection, NatsMessage
from transcriber.clients.audio_input import AudioSource
from transcriber.clients.publish import publish
from transcriber.config import Settings, access_to
from transcriber.demo.screen import Score, Screen
from transcriber.errors import ModelError
from transcriber.gateway.embedded import OF_THE_BUS, EmbeddedGateway
from transcriber.models.catalog import DEMO
from transcriber.models.command import shown
from transcriber.models.find import find_named_model
from transcriber.schema.messages import AnyMessage, End, Final, Metrics
from transcriber.testing.broker import EmbeddedBroker
from transcriber.testing.daemon import DaemonProcess
from transcriber.testing.speech import Recording, load_public_speech, load_speech
from transcriber.testing.verify import account_errors
from transcriber.testing.wer import word_errors, words
from transcriber.text.captions import Line, text_lines

WHISPER = "tiny.en"
"""For real speech, unless another model is named."""

MAX_WER = {DEMO: 0.15, WHISPER: 0.10}
"""Limits of known models; no other can fail the demo by its word errors."""

LAST_WORD_S = 60.0
"""Seconds for the last transcripts to arrive, with any model."""

Sessions = dict[str, list[AnyMessage]]
"""By recording: its messages, in order."""


@dataclass(frozen=True, slots=True)
class Station:
    """One daemon and its recordings.

    Attributes:
        model: its name.
        subject: ``AUDIO_SUBJECT`` without the last token.
        streams: recordings by stream, one after the other, each a session.
    """

    model: str
    subject: str
    streams: Mapping[str, Sequence[Recording]]

    @property
    def recordings(self) -> list[Recording]:
        return [recording for programme in self.streams.values() for recording in programme]


def demo(settings: Settings, *, model: str | None = None, web: bool = False) -> int:
    """The command ``demo``, with a model by name; by default tiny.en, or the bundled one where that cannot be downloaded.

    With ``web`` the streams go on after the summary, or the page would be over before anybody has opened it.

    Raises:
        ConfigError: there is no such model.
        ModelError: the named model cannot be downloaded.
        StartError: the extra ``demo`` is not installed, or the broker or the gateway does not start.
    """
    # Before the event loop starts: it would delay Ctrl-C until the model is downloaded.
    return asyncio.run(_demo(*_model_to_use(settings, model), _of_our_gateway(settings) if web else None))


async def _demo(model: str, instead_of: str | None, web: Settings | None) -> int:
    stations = _stations(model)
    with Screen() as screen:
        if instead_of:
            screen.line(Line(instead_of))
        with EmbeddedBroker() as broker, ExitStack() as stack:
            gateway = stack.enter_context(EmbeddedGateway(broker.url, web, logging.WARNING)) if web else None
            if gateway:
                screen.line(Line(gateway.line))
            daemons = {
                one.model: stack.enter_context(DaemonProcess(broker.url, one.model, f"{one.subject}.*"))
                for one in stations
            }
            screen.line(Line(f"broker at {broker.url}; daemons load the models {', '.join(daemons)}", dim=True))
            for daemon in daemons.values():
                if not await daemon.ready():
                    sys.stderr.write(daemon.log())
                    return daemon.stop()
            async with connected(Settings.model_validate(access_to(broker.url)), "transcriber demo") as connection:
                sessions = await _publish_and_collect(connection, daemons.values(), stations, screen)
                problems = _summary(stations, sessions, screen)
                if gateway and all(daemon.running for daemon in daemons.values()):
                    screen.line(Line("the page shows the same streams again and again, until Ctrl-C"))
                    await _repeat_until_interrupted(connection, daemons.values(), stations)
            for name, daemon in daemons.items():
                if status := daemon.stop():
                    problems.append(f"the daemon with {name} ended with status {status}")
                    sys.stderr.write(daemon.log())
            if gateway and (status := gateway.stop()):
                problems.append(f"the gateway ended with status {status}")
    for problem in problems:
        screen.line(Line(f"FAILED: {problem}"))
    return 1 if problems else 0


def _model_to_use(settings: Settings, model: str | None) -> tuple[str, str | None]:
    """The name of a model whose file exists now; and why it is not the requested one, if so."""
    try:
        with shown() as draw:
            find_named_model(settings, model or WHISPER, draw)
    except ModelError as error:
        if model is not None:
            raise
        return DEMO, f"without {WHISPER} the bundled model transcribes harbour radio alone: {error}"
    return model or WHISPER, None


def _stations(model: str) -> list[Station]:
    harbour = load_speech()
    if model == DEMO:
        return [Station(DEMO, "audio", {f"radio-{number + 1}": harbour[number::3] for number in range(3)})]
    address, *readings = load_public_speech()
    people = {"address": [address, readings[1]], "reading": readings[:1]}
    return [Station(model, "audio", people), Station(DEMO, "harbour", {"harbour": harbour[:2]})]


def _of_our_gateway(settings: Settings) -> Settings:
    """The user's settings of a gateway and its daemons are not meant: of them only the port counts."""
    theirs = [name for name in Settings.model_fields if name in OF_THE_BUS or name.startswith("gateway_")]
    defaults = {name: Settings.model_fields[name].default for name in theirs if name != "gateway_port"}
    return settings.model_copy(update=defaults)


async def _publish_and_collect(
    connection: Connection, daemons: Iterable[DaemonProcess], stations: Sequence[Station], screen: Screen
) -> Sessions:
    """Publish all recordings; returns the messages of each, complete unless a daemon died or hangs."""
    sessions: Sessions = {recording.name: [] for station in stations for recording in station.recordings}
    messages = await subscribe(connection, "transcripts.*.*", "transcriber.metrics.*")
    listening = asyncio.create_task(_collect(messages, sessions, screen))
    programmes = _programmes(stations)
    playing = asyncio.gather(*(_publish(connection, subject, programme) for subject, programme in programmes.items()))
    longest_s = max(sum(recording.duration_s for recording in programme) for programme in programmes.values())
    try:
        async with asyncio.timeout(LAST_WORD_S + longest_s):
            while all(daemon.running for daemon in daemons) and not listening.done():
                await asyncio.wait({listening}, timeout=0.5)
                if playing.done():
                    playing.result()  # raises its error
            if listening.done():
                listening.result()
    except TimeoutError:
        pass  # missing messages fail the account
    finally:
        playing.cancel()
        listening.cancel()
        await asyncio.gather(playing, listening, return_exceptions=True)
    return sessions


async def _repeat_until_interrupted(
    connection: Connection, daemons: Iterable[DaemonProcess], stations: Sequence[Station]
) -> None:
    """Publish all recordings again and again, each time as other sessions, until Ctrl-C or until a daemon has ended."""
    with suppress(asyncio.CancelledError):
        for round_ in count(2):
            if not all(daemon.running for daemon in daemons):
                return
            async with asyncio.TaskGroup() as playing:
                for subject, programme in _programmes(stations).items():
                    playing.create_task(_publish(connection, subject, programme, f"-{round_}"))


def _programmes(stations: Sequence[Station]) -> dict[str, Sequence[Recording]]:
    """Recordings by subject, one after the other."""
    return {
        f"{station.subject}.{stream}": programme
        for station in stations
        for stream, programme in station.streams.items()
    }


async def _publish(connection: Connection, subject: str, programme: Iterable[Recording], suffix: str = "") -> None:
    """One recording after the other, each a session, which has its name and ``suffix``."""
    for recording in programme:
        source = AudioSource(recording.format, recording.frames, _whole(recording.pcm))
        await publish(connection, subject, source, session=recording.name + suffix)


async def _whole(pcm: bytes) -> AsyncIterator[bytes]:
    yield pcm


async def _collect(messages: AsyncIterator[NatsMessage], sessions: Sessions, screen: Screen) -> None:
    """Show and collect messages, until every session has ended."""
    ended = 0
    while ended < len(sessions):
        message = await anext(messages)
        if message.subject.startswith("transcriber.metrics."):
            screen.figures(Metrics.model_validate_json(message.data))
        elif parsed := parse_transcript(message):
            sessions[parsed.session].append(parsed)
            ended += isinstance(parsed, End)
            for line in text_lines(parsed):
                screen.line(line)


def _summary(stations: Sequence[Station], sessions: Sessions, screen: Screen) -> list[str]:
    """Show the scores; returns what is wrong with them."""
    scores = [
        _score(station.model, recording, sessions[recording.name])
        for station in stations
        for recording in station.recordings
    ]
    finals = [message for messages in sessions.values() for message in messages if isinstance(message, Final)]
    screen.results(scores, [final.timing.end_to_end_ms for final in finals])
    problems = [f"{score.name}: {error}" for score in scores for error in score.account]
    for station in stations:
        of_it = [score for score in scores if score.model == station.model]
        most = MAX_WER.get(station.model)
        if most is not None and sum(score.errors for score in of_it) > most * sum(score.words for score in of_it):
            problems.append(f"{station.model}: more than {most:.0%} of the words are wrong")
    return problems


def _score(model: str, recording: Recording, messages: list[AnyMessage]) -> Score:
    finals = [message for message in messages if isinstance(message, Final)]
    text = " ".join(final.text for final in finals)
    return Score(
        name=recording.name,
        stream=messages[0].stream if messages else "?",
        model=model,
        words=len(words(recording.text)),
        errors=word_errors(recording.text, text),
        account=account_errors(messages, recording.frames),
    )
