"""The parsers of the client commands. In: a command line. Out: a call of its command; each imports only what it needs."""

import argparse
import asyncio
from contextlib import suppress
from pathlib import Path
from typing import get_args

from pydantic import ValidationError

from transcriber.audio.format import AudioFormat, SampleFormat, parse_content_type
from transcriber.cli_arguments import CLIENT_SETTINGS, add_settings
from transcriber.config import Settings
from transcriber.errors import ConfigError
from transcriber.schema.file_jobs import Submission
from transcriber.schema.messages import JobState
from transcriber.tasks import interrupt_on_sigterm
from transcriber.text.results import Form


def add_publish(publish: argparse.ArgumentParser) -> None:
    publish.set_defaults(run=_publish)
    publish.add_argument(
        "file",
        metavar="FILE",
        help="an audio file (WAV, FLAC, MP3, M4A, Ogg, WebM and more), raw PCM (*.pcm, *.raw), or - for any of them on stdin",
    )
    publish.add_argument("--stream", required=True, metavar="NAME", help="the subject's last token")
    publish.add_argument("--fast", action="store_true", help="as fast as the broker takes it, not in real time")
    publish.add_argument(
        "--durable", action="store_true", default=None, help="have JetStream store it all, however long that takes"
    )
    publish.add_argument("--session", metavar="ID", help="id of this recording; default: a new ULID")
    publish.add_argument("--language", metavar="CODE", help="what is spoken, such as en")
    publish.add_argument("--prompt", default="", metavar="TEXT", help="names and terms that may occur")
    publish.add_argument("--chunk-ms", type=int, metavar="MS", help="length of a payload (20; durable 100)")
    publish.add_argument("--format", choices=[str(f) for f in SampleFormat], help="of raw PCM; default INPUT_FORMAT")
    publish.add_argument("--rate", type=int, metavar="HZ", help="of raw PCM; default INPUT_SAMPLE_RATE")
    publish.add_argument("--channels", type=int, metavar="N", help="of raw PCM; default INPUT_CHANNELS")
    add_settings(publish, CLIENT_SETTINGS)


def add_listen(listen: argparse.ArgumentParser) -> None:
    listen.set_defaults(run=_listen)
    listen.add_argument("stream", nargs="?", metavar="STREAM", help="one stream; default: all")
    listen.add_argument("--format", choices=("text", "json", "srt", "vtt"), default="text", help="(text)")
    listen.add_argument("--once", action="store_true", help="stop at the end of the first session")
    listen.add_argument(
        "--revised", action="store_true", help="subtitles when the session ends, with what revisions say instead"
    )
    add_settings(listen, CLIENT_SETTINGS)


def add_transcribe(transcribe: argparse.ArgumentParser) -> None:
    transcribe.set_defaults(run=_transcribe)
    transcribe.add_argument("file", nargs="+", metavar="FILE", help="of any container; - is stdin")
    transcribe.add_argument("--format", choices=get_args(Form), default="text", help="(text)")
    out = transcribe.add_mutually_exclusive_group()
    out.add_argument("-o", "--output", type=Path, metavar="PATH", help="a file, or a directory; default: stdout")
    out.add_argument("--detach", action="store_true", help="print the id of the job and leave; implies --store")
    transcribe.add_argument("--language", metavar="CODE", help="what is spoken, such as en")
    transcribe.add_argument(
        "--task", choices=("transcribe", "translate"), default="transcribe", help="translate: to English"
    )
    transcribe.add_argument("--prompt", default="", metavar="TEXT", help="names and terms that may occur")
    transcribe.add_argument(
        "--speakers",
        dest="apart",  # not the daemon's setting
        choices=("mix", "channels", "voices"),
        help="how speakers are separated; implies --store",
    )
    transcribe.add_argument("--store", action="store_true", help="as a job through the object store, however small")
    transcribe.add_argument("--urgent", action="store_true", help="if it is a job: before others that are not urgent")
    transcribe.add_argument("--keep", action="store_true", help="leave the file in the store; implies --store")
    transcribe.add_argument(
        "--timeout", type=_seconds, metavar="SECS", help="to wait for a file's text; default: 60, of a job no limit"
    )
    add_settings(transcribe, CLIENT_SETTINGS)


def add_jobs(jobs: argparse.ArgumentParser) -> None:
    jobs.set_defaults(run=_jobs)
    which = jobs.add_mutually_exclusive_group()
    which.add_argument("job", nargs="?", metavar="ID", help="all that is known of one; default: a list")
    which.add_argument("--cancel", metavar="ID", help="stop it")
    which.add_argument("--get", metavar="ID", help="its text")
    jobs.add_argument("--state", choices=get_args(JobState), help="list these only")
    jobs.add_argument("--json", action="store_true", help="the records as they are, one a line")
    jobs.add_argument("--format", choices=get_args(Form), default="text", help="with --get (text)")
    jobs.add_argument("-o", "--output", type=Path, metavar="PATH", help="with --get: a file or a directory")
    add_settings(jobs, CLIENT_SETTINGS)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError("must be seconds, more than 0")
    return seconds


def _publish(settings: Settings, arguments: argparse.Namespace) -> int:
    from transcriber.clients.publish import publish_file  # noqa: PLC0415

    interrupt_on_sigterm()
    return asyncio.run(
        publish_file(
            settings,
            None if arguments.file == "-" else Path(arguments.file),
            arguments.stream,
            raw=_raw_format(settings, arguments),
            session=arguments.session,
            language=arguments.language,
            prompt=arguments.prompt,
            chunk_ms=arguments.chunk_ms,
            fast=arguments.fast,
            durable=settings.durable,
        )
    )


def _raw_format(settings: Settings, arguments: argparse.Namespace) -> AudioFormat | None:
    """The format of headerless samples; None for files with a header: unless the name or a flag says otherwise."""
    given = arguments.format, arguments.rate, arguments.channels
    if not any(given) and not arguments.file.lower().endswith((".pcm", ".raw")):
        return None
    return parse_content_type(
        ";".join(
            [
                "audio/x-raw",
                *(
                    f"{name}={value}"
                    for name, value in zip(("format", "rate", "channels"), given, strict=True)
                    if value
                ),
            ]
        ),
        settings.input,
    )


def _listen(settings: Settings, arguments: argparse.Namespace) -> int:
    from transcriber.clients.listen import listen_and_print  # noqa: PLC0415

    interrupt_on_sigterm()
    with suppress(KeyboardInterrupt):
        asyncio.run(
            listen_and_print(
                settings, arguments.stream, form=arguments.format, once=arguments.once, revised=arguments.revised
            )
        )
    return 0


def _transcribe(settings: Settings, arguments: argparse.Namespace) -> int:
    from transcriber.clients.transcribe import TranscribeOptions, transcribe_files  # noqa: PLC0415

    asked = {name: getattr(arguments, name) for name in ("language", "task", "prompt", "keep")}
    try:
        submission = Submission(object="-", speakers=arguments.apart, **asked)
    except ValidationError as error:
        wrong = error.errors()[0]
        raise ConfigError(f"--{wrong['loc'][0]}={wrong['input']!r}: {wrong['msg']}") from None
    wanted = TranscribeOptions(
        submission,
        arguments.format,
        store=bool(arguments.store or arguments.keep or arguments.detach or arguments.apart),
        detach=arguments.detach,
        urgent=arguments.urgent,
        timeout_s=arguments.timeout,
    )
    files = [None if file == "-" else Path(file) for file in arguments.file]
    interrupt_on_sigterm()
    return asyncio.run(transcribe_files(settings, files, arguments.output, wanted))


def _jobs(settings: Settings, arguments: argparse.Namespace) -> int:
    from transcriber.clients.jobs_command import cancel_job, get_result, show_jobs  # noqa: PLC0415

    if arguments.cancel is not None:
        return asyncio.run(cancel_job(settings, arguments.cancel))
    if arguments.get is not None:
        return asyncio.run(get_result(settings, arguments.get, arguments.format, arguments.output))
    return asyncio.run(show_jobs(settings, arguments.job, state=arguments.state, as_json=arguments.json))
