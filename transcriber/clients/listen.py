"""The command ``listen``. In: transcripts on NATS. Out: captions, a line or a cue as each arrives."""

import sys
from collections.abc import AsyncIterator
from typing import Literal, TextIO

from transcriber.bus.client_session import connected, parse_transcript, subscribe
from transcriber.bus.connection import NatsMessage
from transcriber.clients.listen_advice import advised, missing
from transcriber.config import Settings
from transcriber.errors import ConfigError
from transcriber.schema.file_jobs import is_job_id
from transcriber.schema.messages import ENDED_STATES, AnyMessage, End, Partial, Progress
from transcriber.schema.subjects import STREAM_NAME
from transcriber.terminal.caption_lines import CaptionLines
from transcriber.terminal.output_files import reader_may_leave
from transcriber.text.captions import Cues
from transcriber.text.revisions import with_revisions

Form = Literal["text", "json", "srt", "vtt"]


async def listen_and_print(
    settings: Settings, stream: str | None, *, form: Form = "text", once: bool = False, revised: bool = False
) -> int:
    """The command ``listen``: captions on stdout until Ctrl-C; ``stream`` None means all of them.

    ``once`` ends with the first ``end``, or when a job has ended. SRT and WebVTT are of one session and end with it; ``revised``
    writes them only then, with all revisions.

    Raises:
        StartError: a wrong name, subtitles of all streams, ``revised`` without subtitles, or no broker.
    """
    if stream is not None and not (STREAM_NAME.fullmatch(stream) or is_job_id(stream)):
        raise ConfigError(f"STREAM={stream!r}: must be [A-Za-z0-9_-], at most 64, or the id of a job")
    if stream is None and form in {"srt", "vtt"}:
        raise ConfigError(f"--format={form}: name the stream; subtitles are of one recording")
    if revised and form not in {"srt", "vtt"}:
        raise ConfigError(f"--revised with --format={form}: only subtitles can wait for the end; lines show revisions")
    subject = f"{settings.transcript_subject_prefix}.{stream or '*'}.*"
    with reader_may_leave():
        async with connected(settings, "transcriber listen") as connection:
            messages = await subscribe(connection, subject)
            if sys.stderr.isatty():
                which = f"stream {stream}" if stream else "all streams"
                sys.stderr.write(f"listening to {which} ({subject}) at {connection.server}; Ctrl-C ends it\n")
            awaited = advised(messages, lambda: missing(connection, settings, stream))
            await listen(awaited, sys.stdout, form=form, once=once, revised=revised)
    return 0


async def listen(
    messages: AsyncIterator[NatsMessage], out: TextIO, *, form: Form, once: bool, revised: bool = False
) -> None:
    """Write captions to ``out`` as messages arrive, until the messages end; or with ``once`` until a session does.

    ``revised``: subtitles, written when their session ends.
    """
    cues = Cues("vtt" if form == "vtt" else "srt")
    out.write(cues.head if form == "vtt" else "")
    out.flush()
    if revised:
        session = await _to_its_end(messages)
        out.write("".join(map(cues.add, with_revisions(session))))
        return
    with CaptionLines(out) as lines:
        async for message in messages:
            if form == "text":
                if parsed := parse_transcript(message):
                    lines.show(parsed)
            elif text := _render(message, form, cues):
                out.write(text)
                out.flush()
            if cues.ended or (once and _ends(message)):
                return


async def _to_its_end(messages: AsyncIterator[NatsMessage]) -> list[AnyMessage]:
    """The first session, up to its ``end``."""
    session: list[AnyMessage] = []
    async for message in messages:
        parsed = parse_transcript(message)
        if parsed is None or isinstance(parsed, Progress) or (session and parsed.session != session[0].session):
            continue
        session += [] if isinstance(parsed, Partial) else [parsed]
        if isinstance(parsed, End):
            break
    return session


def _ends(message: NatsMessage) -> bool:
    """Whether this message ends a session, or a job: its results follow its ``end``."""
    _, stream, kind = message.subject.rsplit(".", 2)
    if not is_job_id(stream):
        return kind == "end"
    progress = parse_transcript(message) if kind == "progress" else None
    return isinstance(progress, Progress) and progress.state in ENDED_STATES


def _render(message: NatsMessage, form: Form, cues: Cues) -> str:
    """A message as JSON or as subtitles."""
    if form == "json":
        return message.data.decode(errors="replace").replace("\n", " ") + "\n"
    parsed = parse_transcript(message)
    return "" if parsed is None or isinstance(parsed, Progress) else cues.add(parsed)
