"""The publishing client. In: an audio source. Out: its payloads on NATS, as a live source would send them.

Every payload says its format, its place and its recording, so that a daemon that starts late, starts
again or loses one still knows where it is.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from transcriber.audio.format import AudioFormat
from transcriber.audio.headers import MAX_PROMPT
from transcriber.bus.client_session import connected
from transcriber.bus.connection import Connection
from transcriber.clients.audio_input import AudioSource, open_source
from transcriber.clients.durable_publish import store_all
from transcriber.clients.payloads import end_payload, timed_payloads
from transcriber.config import STREAM_NAME, Settings
from transcriber.errors import BadInputError, BrokerError, ConfigError
from transcriber.terminal.progress_bar import bar, notes
from transcriber.ulid import new_ulid

FLUSH_EVERY_BYTES = 2**18
"""With ``fast``: so much may be under way to the broker."""

CHUNK_MS = 20
STORED_CHUNK_MS = 100
"""Each payload waits for the broker to have stored the one before."""

_FLUSH_TIMEOUT_S = 5.0
_STUCK = "the broker does not take the audio"


@dataclass(frozen=True, slots=True)
class Published:
    """What became of a source.

    Attributes:
        session: its ``Audio-Session``.
        frames: its length; also the ``Audio-Offset`` of its end.
        unsent: payloads lost here, because the broker was away too long.
    """

    session: str
    frames: int
    unsent: int


async def publish_file(
    settings: Settings,
    path: Path | None,
    stream: str,
    *,
    raw: AudioFormat | None = None,
    session: str | None = None,
    language: str | None = None,
    prompt: str = "",
    chunk_ms: int | None = None,
    fast: bool = False,
    durable: bool = False,
) -> int:
    """The command ``publish``: a file, or stdin where ``path`` is None, with a progress bar on a terminal.

    Args:
        settings: where the broker is, and which subject audio goes to.
        path: an audio file of any kind, or PCM of the format ``raw``.
        stream: last token of the subject.
        raw: format of headerless samples; None for files that tell theirs.
        session: id of this recording; default a new ULID.
        language: this stream's language.
        prompt: names and terms that may come up on it.
        chunk_ms: length of a payload; default 20, and 100 if ``durable``.
        fast: as fast as the broker takes it, instead of in real time.
        durable: have each payload stored by JetStream, however long the broker is away.

    Returns:
        Exit status: 1 if payloads were lost on our side.

    Raises:
        StartError: a wrong name, an unreadable file, or no broker.
    """
    if not STREAM_NAME.fullmatch(stream):
        raise ConfigError(f"--stream={stream!r}: must be [A-Za-z0-9_-], at most 64")
    subject = f"{settings.audio_subject.rpartition('.')[0]}.{stream}".lstrip(".")
    console = notes()
    hint = "" if raw else "; for raw PCM name its --format, --rate and --channels"
    try:
        async with open_source(path, raw) as source, connected(settings, "transcriber publish") as connection:
            hint = ""
            rate, total_s = source.format.rate, source.frames and source.frames / source.format.rate
            with bar(console) as draw:
                done = await publish(
                    connection, subject, source,
                    session=session, language=language, prompt=prompt, chunk_ms=chunk_ms, fast=fast, durable=durable,
                    on_sent=lambda frames: draw(f"{frames / rate:.0f} s", frames / rate, total_s),
                )  # fmt: skip
    except BadInputError as error:
        raise ConfigError(f"{path or 'stdin'}: {error}{hint}") from None
    lost = f", {done.unsent} payloads lost: the broker was away" if done.unsent else ""
    console.print(f"{done.frames / source.format.rate:.1f} s sent to {subject} as session {done.session}{lost}")
    return 1 if done.unsent else 0


async def publish(
    connection: Connection,
    subject: str,
    source: AudioSource,
    *,
    session: str | None = None,
    language: str | None = None,
    prompt: str = "",
    chunk_ms: int | None = None,
    fast: bool = False,
    durable: bool = False,
    on_sent: Callable[[int], None] = lambda _: None,
) -> Published:
    """Send ``source`` and its end, also when cancelled halfway: nobody then waits for the rest.

    ``on_sent`` is called with the frames sent, or if ``durable`` stored, so far.

    Raises:
        ConfigError: payloads of ``chunk_ms`` are larger than the broker allows, or ``prompt`` is too long.
        BrokerError: with ``fast`` the broker takes no more; with ``durable`` no stream stores this subject.
        ConnectionError: the connection is closed for good.
    """
    fmt = source.format
    if chunk_ms is None:
        chunk_ms = STORED_CHUNK_MS if durable else CHUNK_MS
    if not 1 <= chunk_ms <= 1000:  # noqa: PLR2004 - a second
        raise ConfigError(f"--chunk-ms={chunk_ms}: must be from 1 to 1000")
    prompt = _one_line(prompt)
    size_bytes = fmt.rate * chunk_ms // 1000 * fmt.frame_bytes
    if size_bytes > connection.room({"Prompt": prompt}):
        raise ConfigError(f"--chunk-ms={chunk_ms}: {size_bytes} bytes are more than the broker's max_payload allows")
    session = session or new_ulid()
    wishes = {"Language": language, "Prompt": prompt}
    always = {"Content-Type": fmt.content_type, "Audio-Session": session} | {k: v for k, v in wishes.items() if v}
    payloads = timed_payloads(source, size_bytes, always, fast=fast)
    if durable:
        frames = await store_all(connection, subject, payloads, always, fast=fast, on_stored=on_sent)
        return Published(session, frames, unsent=0)
    frames, unsent, unflushed_bytes = 0, 0, 0
    try:
        async for payload in payloads:
            frames = payload.end_frame
            unsent += not await connection.publish(subject, payload.data, payload.headers)
            unflushed_bytes += len(payload.data)
            if fast and unflushed_bytes >= FLUSH_EVERY_BYTES:
                unflushed_bytes = 0
                if not await connection.flush(_FLUSH_TIMEOUT_S):
                    raise BrokerError(_STUCK)
            if connection.closed.done():
                connection.closed.result()
            on_sent(frames)
    finally:
        end = end_payload(always, frames)
        await connection.publish(subject, end.data, end.headers)
        flushed = await connection.flush(_FLUSH_TIMEOUT_S)
    if not flushed:
        raise BrokerError(_STUCK)
    return Published(session, frames, unsent)


def _one_line(prompt: str) -> str:
    """As it fits a header."""
    line = " ".join(prompt.split())
    if len(line) > MAX_PROMPT:
        raise ConfigError(f"--prompt has {len(line)} characters; {MAX_PROMPT} are allowed")
    return line
