"""What it costs a gateway that much is stored: a session is resumed, and captions are asked for, with ever more text before them.

Out: from the request to the answer, by the number of stored messages, of one stream and of sessions of 50 messages each; of the
latest session, of one in the middle, and of one that is not there.
"""

import asyncio
import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime

from websockets.asyncio.client import connect

from bench.lib.daemon import storing_broker
from bench.lib.report import Results, note, quantiles, run
from transcriber.bus.client_session import connected
from transcriber.bus.jetstream import provision
from transcriber.bus.jetstream.client import JetStream
from transcriber.config import Settings, load_settings
from transcriber.gateway.embedded import EmbeddedGateway
from transcriber.schema.messages import AnyMessage, End, Final, Gap, Message, Status, Timing, Word

COUNTS = (1_000, 10_000, 100_000)
SESSION = 50
"""Messages of a session: its start, a gap, finals and its end."""
IN_A_ROW = 200
"""Messages that are stored before their acknowledgement is awaited."""
RATE = 16_000
STREAM = "radio"
TIMING = Timing(queue_ms=1, processing_ms=40, handover_ms=1, end_to_end_ms=45, rtf=0.01)
WORDS = tuple(Word(word="over", start=0.4 * n, end=0.4 * n + 0.4, confidence=0.9) for n in range(12))


def measure(quick: bool) -> Results:
    return {str(count): asyncio.run(_measure(count, 3 if quick else 10)) for count in COUNTS[: 2 if quick else None]}


async def _measure(count: int, rounds: int) -> Results:
    with storing_broker() as broker:
        settings = load_settings(nats_url=broker.url, durable=True, gateway_port=_free_port())
        await _store(settings, count)
        with EmbeddedGateway(broker.url, settings) as gateway:
            sessions = count // SESSION
            rows: dict[str, list[float]] = {}
            for _ in range(rounds):
                began_s = time.monotonic()
                await _resume(gateway, f"session-{sessions - 1}")
                rows.setdefault("resume", []).append(1000 * (time.monotonic() - began_s))
                asked = {"latest": "", "middle": f"?session=session-{sessions // 2}", "absent": "?session=none"}
                for name, query in asked.items():
                    began_s = time.monotonic()
                    await asyncio.to_thread(_captions, gateway, query)
                    rows.setdefault(f"captions_{name}", []).append(1000 * (time.monotonic() - began_s))
    results = {f"{name}_ms": quantiles(row, median=0.5, max=1.0) for name, row in rows.items()}
    note(f"resume: {count} stored: {results}")
    return results


async def _store(settings: Settings, count: int) -> None:
    """A payload of the last session, and so many messages."""
    async with connected(settings, "bench resume") as connection:
        await provision.ensure_streams(connection, settings)
        jetstream = JetStream(connection)
        last = count // SESSION - 1
        headers = {"Audio-Session": f"session-{last}", "Audio-Offset": "0", "Content-Type": _CONTENT_TYPE}
        await jetstream.store(f"audio.{STREAM}", bytes(2 * RATE), headers)
        for number, message in enumerate(_messages(count), 1):
            subject, payload = f"transcripts.{STREAM}.{message.type}", message.model_dump_json(by_alias=True).encode()
            if number % IN_A_ROW and number < count:
                await connection.publish(subject, payload)
            else:
                await jetstream.store(subject, payload, {})


def _messages(count: int) -> Iterator[AnyMessage]:
    for number in range(count):
        place = number % SESSION
        common = Message(
            stream=STREAM, session=f"session-{number // SESSION}", rate=RATE, start_frame=place * RATE, frames=RATE,
            start=place, duration=1, received_at=datetime.now(UTC),
        ).model_dump(by_alias=True)  # fmt: skip
        if place == 0:
            yield Status(**common | {"frames": 0, "duration": 0}, state="started")
        elif place == 1:
            yield Gap(**common, reason="lost_input", speaker=None)
        elif place == SESSION - 1 and number < count - 1:  # the last session goes on
            yield End(
                **common, segments=SESSION - 3, received_frames=0, lost_frames=0, transcribed_frames=0, silent_frames=0,
                dropped_frames=0, received_s=0, lost_s=0, transcribed_s=0, silent_s=0, dropped_s=0,
            )  # fmt: skip
        else:
            yield Final(
                **common, segment=place, rev=0, text="over " * len(WORDS), suppressed=None, words=WORDS, language="en",
                confidence=0.9, avg_logprob=-0.1, no_speech_prob=None, speech_final=True, speaker=None, model="demo",
                timing=TIMING, captured_at=None,
            )  # fmt: skip


_CONTENT_TYPE = f"audio/x-raw;format=S16LE;rate={RATE};channels=1"


async def _resume(gateway: EmbeddedGateway, session: str) -> None:
    url = f"{gateway.url.replace('http', 'ws', 1)}/v1/streams/{STREAM}/audio?session={session}&content_type={_CONTENT_TYPE}"
    async with connect(url, additional_headers={"Authorization": f"Bearer {gateway.key}"}) as socket:
        said = json.loads(await socket.recv())
    if (said["position"], len(said["missing"])) != (RATE, 1):
        raise SystemExit(f"resumed at another place: {said}")


def _captions(gateway: EmbeddedGateway, query: str) -> None:
    request = urllib.request.Request(  # noqa: S310 - our own
        f"{gateway.url}/v1/streams/{STREAM}/transcript.vtt{query}", headers={"Authorization": f"Bearer {gateway.key}"}
    )
    try:
        with urllib.request.urlopen(request) as answer:  # noqa: S310
            cues = answer.read().count(b" --> ")
    except urllib.error.HTTPError as refused:
        cues = 0 if refused.code == 404 and query.endswith("none") else -1
    if (cues > 0) == query.endswith("none") or cues < 0:
        raise SystemExit(f"{cues} cues of {query}")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


if __name__ == "__main__":
    run("resume", measure)
