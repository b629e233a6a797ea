"""The options of a clip. In: the request's headers, names in any case. Out: ``ClipOptions``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from transcriber.audio.headers import MAX_PROMPT, NO_HEADERS, AudioHeaders, parse_headers
from transcriber.engine.job import ModelFacts, unsupported_reason
from transcriber.errors import BadInputError
from transcriber.text.results import Form, Task

FORMS: tuple[Form, ...] = get_args(Form)
TASKS: tuple[Task, ...] = get_args(Task)


@dataclass(frozen=True, slots=True)
class ClipOptions:
    """Options of a clip; ``audio`` holds its language and ``traceparent``."""

    form: Form = "json"
    task: Task = "transcribe"
    prompt: str = ""
    audio: AudioHeaders = NO_HEADERS


def read_headers(headers: Mapping[str, str] | None, model: ModelFacts, allowed: Sequence[str] = ()) -> ClipOptions:
    """Check the headers of a request against what ``model`` can do; unknown and empty ones are ignored.

    ``allowed``: the languages of ``WHISPER_LANGUAGES``; empty: all.

    Raises:
        BadInputError: a header's value is not supported.
    """
    given = {name.lower(): value.strip() for name, value in (headers or {}).items() if value.strip()}
    form, task = given.get("response-format", FORMS[0]).lower(), given.get("task", TASKS[0]).lower()
    if form not in FORMS:
        raise BadInputError(f"Response-Format is none of {', '.join(FORMS)}: {form[:20]!r}")
    if task not in TASKS:
        raise BadInputError(f"Task is none of {', '.join(TASKS)}: {task[:20]!r}")
    prompt = given.get("prompt", "")
    if len(prompt) > MAX_PROMPT:
        raise BadInputError(f"Prompt has {len(prompt)} characters; {MAX_PROMPT} are allowed")
    audio = parse_headers({name: given[name] for name in ("language", "traceparent") if name in given})
    if audio.ignored:
        raise BadInputError(audio.ignored[0])
    if lack := unsupported_reason(model, audio.language, task, allowed):
        raise BadInputError(lack)
    return ClipOptions(form, task, prompt, audio)
