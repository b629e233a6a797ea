"""What a request asks for. In: the fields of a form. Out: ``SpeechOptions``; what we do not do is refused, by its name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args

from transcriber.audio.headers import MAX_PROMPT
from transcriber.gateway.api_error import ApiError
from transcriber.schema.languages import language_code
from transcriber.text.results import Task

Format = Literal["json", "text", "srt", "vtt", "verbose_json", "diarized_json"]
FORMATS: tuple[Format, ...] = get_args(Format)
STREAMED: tuple[Format, ...] = ("json", "text", "verbose_json", "diarized_json")
GRANULARITIES = ("segment", "word")
SPEAKERS = ("voices", "channels")
LISTS = frozenset({"timestamp_granularities", "languages", "keywords"})

OF_BOTH = frozenset({"model", "prompt", "response_format", "temperature"})
OF_TRANSCRIPTIONS = OF_BOTH | LISTS | {"language", "stream", "chunking_strategy", "speakers"}


@dataclass(frozen=True, slots=True)
class SpeechOptions:
    """Options of one upload.

    Attributes:
        granularities: of a ``verbose_json``: ``segment``, ``word`` or both.
        speakers: of a ``diarized_json``; None otherwise.
    """

    task: Task
    model: str
    format: Format = "json"
    language: str | None = None
    prompt: str = ""
    granularities: frozenset[str] = frozenset({"segment"})
    stream: bool = False
    speakers: Literal["voices", "channels"] | None = None

    @property
    def has_segments(self) -> bool:
        """Whether the answer has segments."""
        return self.format in {"verbose_json", "diarized_json"}


def read_options(fields: Mapping[str, Sequence[str]], task: Task) -> SpeechOptions:
    """The options in a form's fields.

    Raises:
        ApiError: 400, with ``param``.
    """
    check_names(fields, task)
    values = {name: given[0].strip() for name, given in fields.items() if name not in LISTS}
    if not values.get("model"):
        raise ApiError(400, "the model is missing", param="model")
    form = cast("Format", _one_of(values, "response_format", FORMATS, "json"))
    if form == "diarized_json" and task == "translate":
        raise _unsupported("response_format", "a translation has no speakers")
    stream = _one_of(values, "stream", ("true", "false"), "false") == "true"
    if stream and form not in STREAMED:
        raise _unsupported("response_format", f"with stream it is one of {', '.join(STREAMED)}")
    return SpeechOptions(
        task, values["model"], form, _language(values, fields.get("languages", ())),
        _prompt(values, fields.get("keywords", ())), _granularities(fields, form), stream, _speakers(values, form),
    )  # fmt: skip


def check_names(fields: Mapping[str, Sequence[str]], task: Task) -> None:
    """Refuse what needs no other field to be refused: before a large file is stored in vain.

    Raises:
        ApiError: 400, with ``param``.
    """
    known = OF_TRANSCRIPTIONS if task == "transcribe" else OF_BOTH
    for name, given in fields.items():
        if name not in known:
            raise _unsupported(name[:100], "it is not supported")
        if len(given) > 1 and name not in LISTS:
            raise ApiError(400, "it is given more than once", param=name)
    temperature = next(iter(fields.get("temperature", ())), "0")
    try:
        zero = float(temperature or 0) == 0
    except ValueError:
        zero = False
    if not zero:
        raise _unsupported("temperature", "only 0 is supported")
    strategy = next(iter(fields.get("chunking_strategy", ())), "auto")
    if strategy not in {"auto", ""}:
        raise _unsupported("chunking_strategy", "only auto is supported")


def _one_of(values: Mapping[str, str], name: str, allowed: Sequence[str], absent: str) -> str:
    value = values.get(name) or absent
    if value.lower() not in allowed:
        raise ApiError(400, f"{name} is none of {', '.join(allowed)}", param=name, code="invalid_value")
    return value.lower()


def _language(values: Mapping[str, str], languages: Sequence[str]) -> str | None:
    param = "language" if values.get("language") else "languages"
    if len(given := [*filter(None, (values.get("language"), *languages))]) > 1:
        raise _unsupported("languages", "one language, or none to have it detected")
    if not given:
        return None
    if code := language_code(given[0]):
        return code
    raise ApiError(400, f"{given[0][:40]!r} is no language", param=param, code="invalid_value")


def _prompt(values: Mapping[str, str], keywords: Sequence[str]) -> str:
    """With the keywords, in one line: it becomes a header."""
    text = f"{values.get('prompt', '')} {', '.join(keywords)}"
    prompt = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    if len(prompt) > MAX_PROMPT:
        raise ApiError(
            400, f"prompt and keywords have {len(prompt)} characters; {MAX_PROMPT} are allowed", param="prompt"
        )
    return prompt


def _granularities(fields: Mapping[str, Sequence[str]], form: Format) -> frozenset[str]:
    given = frozenset(fields.get("timestamp_granularities", ()))
    if unknown := sorted(given.difference(GRANULARITIES)):
        raise ApiError(
            400, f"{unknown[0][:40]!r} is none of {', '.join(GRANULARITIES)}", param="timestamp_granularities"
        )
    if given and form != "verbose_json":
        raise _unsupported("timestamp_granularities", "only verbose_json has them")
    return given or frozenset({"segment"})


def _speakers(values: Mapping[str, str], form: Format) -> Literal["voices", "channels"] | None:
    if form == "diarized_json":
        return cast("Literal['voices', 'channels']", _one_of(values, "speakers", SPEAKERS, "voices"))
    if values.get("speakers"):
        raise _unsupported("speakers", "only diarized_json has them")
    return None


def _unsupported(param: str, why: str) -> ApiError:
    return ApiError(400, f"{param}: {why}", param=param, code="unsupported_parameter")
