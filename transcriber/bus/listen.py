"""The listening client. In: transcripts on NATS. Out: captions, a line or a cue as each comes."""

import os
import sys
from collections.abc import AsyncIterator
from typing import Literal, TextIO

from transcriber.bus.client import Received, connected, parse_transcript, subscribe
from transcriber.captions import Cues, text_line
from transcriber.config import STREAM_NAME, Settings
from transcriber.errors import ConfigError

Form = Literal["text", "json", "srt", "vtt"]


async def listen_and_print(settings: Settings, stream: str | None, *, form: Form = "text", once: bool = False) -> int:
    """The command ``listen``: captions on stdout until Ctrl-C; ``stream`` None means all of them.

    ``once`` ends with the first ``end``. SRT and WebVTT are of one session and end with it.

    Raises:
        StartError: a wrong name, cues of all streams, or no broker.
    """
    if stream is not None and not STREAM_NAME.fullmatch(stream):
        raise ConfigError(f"STREAM={stream!r}: must be [A-Za-z0-9_-], at most 64")
    if stream is None and form in {"srt", "vtt"}:
        raise ConfigError(f"--format={form}: name the stream; subtitles are of one recording")
    subject = f"{settings.transcript_subject_prefix}.{stream or '*'}.*"
    try:
        async with connected(settings, "transcriber listen") as connection:
            await listen(await subscribe(connection, subject), sys.stdout, form=form, once=once)
    except BrokenPipeError:
        # Whoever read has read enough. Python would complain when it flushes stdout at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


async def listen(messages: AsyncIterator[Received], out: TextIO, *, form: Form, once: bool) -> None:
    """Write what comes to ``out``, at once, until the messages end; or with ``once`` until a session does."""
    cues = Cues("vtt" if form == "vtt" else "srt")
    out.write(cues.head if form == "vtt" else "")
    out.flush()
    async for message in messages:
        if text := _render(message, form, cues, on_terminal=out.isatty()):
            out.write(text)
            out.flush()
        if cues.ended or (once and message.subject.endswith(".end")):
            return


def _render(message: Received, form: Form, cues: Cues, *, on_terminal: bool) -> str:
    if form == "json":
        return message.data.decode(errors="replace").replace("\n", " ") + "\n"
    parsed = parse_transcript(message)
    if parsed is None:
        return ""
    if form != "text":
        return cues.add(parsed)
    line = text_line(parsed)
    if line is None:
        return ""
    return f"\x1b[2m{line.text}\x1b[0m\n" if line.dim and on_terminal else line.text + "\n"
