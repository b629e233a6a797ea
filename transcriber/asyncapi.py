"""The bus interface as documents. In: the models of ``schema``, and the settings. Out: AsyncAPI 3, JSON Schema."""

from typing import Any, get_args

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from transcriber import __version__
from transcriber.audio.format import SampleFormat
from transcriber.audio.headers import MAX_PROMPT
from transcriber.config import Settings
from transcriber.schema.admin import AdminAnswer, StatusRequest, SwapRequest
from transcriber.schema.audit import REQUESTED_BY, AuditEntry, AuditEvent
from transcriber.schema.file_jobs import Answer, Cancellation, JobRecord, Submission
from transcriber.schema.messages import (
    ANY_MESSAGE,
    BRIDGED_S,
    MAX_HELD_BACK,
    End,
    Final,
    Gap,
    HeldBack,
    Metrics,
    Partial,
    Progress,
    Revision,
    Silence,
    Status,
)
from transcriber.schema.stream_figures import StreamFigures
from transcriber.schema.subjects import (
    ADMIN_SUBJECT,
    AUDIT_SUBJECT,
    CANCEL_SUBJECT,
    RECORD_SUBJECT,
    REQUEST_SUBJECT,
    STREAMS_SUBJECT,
    SUBMIT_SUBJECT,
    SUBMIT_URGENT_SUBJECT,
)
from transcriber.text.results import Form, Task

TRANSCRIPT_MODELS = (Final, Partial, Silence, Gap, Revision, Status, Progress, End)
JOB_MODELS: dict[str, type[BaseModel]] = {
    "submission": Submission,
    "cancellation": Cancellation,
    "answer": Answer,
    "record": JobRecord,
}

ADMIN_MODELS: dict[str, type[BaseModel]] = {"adminStatus": StatusRequest, "adminSwap": SwapRequest}

_AUDIO_HEADERS = {
    "Content-Type": (
        "format of the payload; absent: the session's last one, else the daemon's `INPUT_*` settings. In live mode also "
        "`audio/webm` and `audio/ogg`, where payloads are consecutive bytes of one container with Opus, as browsers "
        "record it, and `audio/opus`, where each is one bare Opus packet. For `audio/wav` a WAV header in the payload gives the format"
    ),
    "Audio-Offset": (
        "index of the payload's first frame; absent: contiguous with the message before. For `audio/opus` at 48 kHz; for "
        "`audio/webm` and `audio/ogg` ignored, as they have a clock of their own"
    ),
    "Audio-Time": "capture time of the first frame, RFC 3339 with its zone; or Unix time, in s, ms, us or ns",
    "Audio-Session": "the publisher's own id for this recording",
    "Audio-End": "`1`: the stream ends after this payload",
    "Language": "this stream's language, such as `en`; absent: the daemon's setting",
    "Prompt": "names and terms that may occur on this stream, from the next window on; empty: none; absent: as before",
    "traceparent": "W3C trace context",
}
_HEADER_RULES: dict[str, dict[str, Any]] = {
    "Content-Type": {
        "examples": ["audio/x-raw;format=S16LE;rate=48000;channels=1", "audio/webm;codecs=opus", "audio/opus"]
    },
    "Audio-Offset": {"pattern": "^[0-9]{1,16}$"},
    "Audio-Session": {"pattern": "^[ -~]{1,128}$"},
    "Audio-End": {"enum": ["0", "1", "false", "true"]},
    "Prompt": {"maxLength": MAX_PROMPT},
    "Response-Format": {"enum": list(get_args(Form))},
    "Task": {"enum": list(get_args(Task))},
    "Nats-Service-Error-Code": {"pattern": "^[45][0-9]{2}$"},
    "Retry-After": {"pattern": "^[0-9]+$"},
}
_REQUEST_HEADERS = {
    "Response-Format": "format of the text; absent: `json`",
    "Language": "what is spoken, such as `en`; absent: the daemon's setting",
    "Task": "`translate`: into English; absent: `transcribe`",
    "Prompt": "names and terms that may occur, at most 1000 characters",
    "traceparent": "W3C trace context",
}
_TEXT_HEADERS = {
    "Suppressed": (
        f"the first {MAX_HELD_BACK} windows with suppressed text, as JSON: a list of objects with `start` and `end`, in "
        "seconds, and `reason`; absent: there is none"
    ),
    "Gaps": (
        f"the first {MAX_HELD_BACK} gaps of more than {BRIDGED_S:g} s, or of unknown length, as JSON: a list of objects with "
        "`start` and `end`, in seconds, and `reason`; absent: there is none"
    ),
}
_REFUSAL_HEADERS = {
    "Nats-Service-Error": "what is wrong, one line",
    "Nats-Service-Error-Code": (
        "`400` cannot be read, `404` no such file or job, `409` the id belongs to another job, `413` too long or too large, "
        "`429` the queue is full, `500` an internal error, `503` this daemon is stopping, `504` too late"
    ),
    "Retry-After": "seconds after which a retry may succeed; absent: not known",
}
_TRANSCRIPT_HEADERS = {
    "Nats-Msg-Id": "`<stream>:<session>:<channel>:<start_frame>:<type>:<rev>`; the same audio always has the same one",
    "traceparent": "W3C trace context, continued from the audio",
}


def message_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of any message on ``transcripts.<stream>.<type>``."""
    schema = ANY_MESSAGE.json_schema(mode="serialization", by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def asyncapi_document(settings: Settings) -> dict[str, Any]:
    """The AsyncAPI 3.0 document of a daemon with these settings, as plain JSON data."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "transcriber",
            "version": __version__,
            "description": "Audio on a NATS subject in, text on a NATS subject out.",
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "channels": _channels(settings),
        "operations": {
            "receiveAudio": _operation("receive", "audio", "Audio to be transcribed."),
            "sendTranscript": _operation("send", "transcripts", "Text, and the outcome of every frame."),
            "sendMetrics": _operation("send", "metrics", "The daemon's metrics, every `METRICS_NATS_SECS` seconds."),
            "sendStreams": _operation(
                "send",
                "streams",
                "The state of all streams, every `STREAM_STATUS_SECS` seconds while anything changes.",
            ),
            "answerStreams": _request("streamRequests", "streams", "The same at once, from each daemon; in pages."),
            "answerRequest": _request("requests", "text", "The text of a clip, in one message (`SERVICE=1`)."),
            "answerSubmission": _request(
                "submissions", "answer", "Submit a file of the bucket AUDIO_FILES as a job (`FILES=1`)."
            ),
            "answerUrgentSubmission": _request(
                "urgentSubmissions", "answer", "The same, to run before jobs that are not urgent."
            ),
            "answerCancellation": _request("cancellations", "answer", "Cancel a job."),
            "answerAdmin": _admin("admin", "An admin request to one daemon (`ADMIN_REQUESTS=1`)."),
            "answerAdminOfAll": _admin(
                "adminOfAll", "`status`, to all daemons, each of which answers; a swap is refused here."
            ),
            "sendRecord": _operation("send", "records", "The record of a job, stored at each change."),
            "sendAudit": _operation(
                "send", "audit", "Who submitted, cancelled, purged, swapped or read what (`AUDIT=1`)."
            ),
        },
        "components": {"messages": _messages(), "schemas": _schemas()},
    }


def _channels(settings: Settings) -> dict[str, Any]:
    stream = {"description": "name of the stream, `[A-Za-z0-9_-]{1,64}`"}
    stream_or_job = {"description": f"{stream['description']}; for a file, the id of its job"}
    types = [model.model_fields["type"].default for model in TRANSCRIPT_MODELS]
    return {
        "audio": {
            "address": settings.audio_subject.replace("*", "{stream}"),
            "messages": {"audio": _ref("messages", "audio")},
            **({"parameters": {"stream": stream}} if settings.wildcard else {}),
        },
        "transcripts": {
            "address": f"{settings.transcript_subject_prefix}.{{stream}}.{{type}}",
            "messages": {name: _ref("messages", name) for name in types},
            "parameters": {"stream": stream_or_job, "type": {"description": "the message's `type`", "enum": types}},
        },
        "metrics": {
            "address": "transcriber.metrics.{instance}",
            "messages": {"metrics": _ref("messages", "metrics")},
            "parameters": {"instance": {"description": "name of the daemon"}},
        },
        "streams": {
            **_channel(f"{STREAMS_SUBJECT}.{{instance}}", "streams"),
            "parameters": {"instance": {"description": "name of the daemon"}},
        },
        "streamRequests": _channel(STREAMS_SUBJECT, "streamRequest"),
        "requests": _channel(REQUEST_SUBJECT, "request"),
        "submissions": _channel(SUBMIT_SUBJECT, "submission"),
        "urgentSubmissions": _channel(SUBMIT_URGENT_SUBJECT, "submission"),
        "cancellations": _channel(CANCEL_SUBJECT, "cancellation"),
        "admin": {
            **_channel(f"{ADMIN_SUBJECT}.{{instance}}", *ADMIN_MODELS),
            "parameters": {"instance": {"description": "name of the daemon"}},
        },
        "adminOfAll": _channel(ADMIN_SUBJECT, "adminStatus"),
        # Each request names the subject of its reply.
        "replies": _channel(None, "text", "answer", "streams", "adminAnswer", "refusal"),
        "records": {
            **_channel(f"{RECORD_SUBJECT}.{{job}}", "record"),
            "parameters": {"job": {"description": "id of the job, `job=` and then `[A-Za-z0-9_-]{1,60}`"}},
        },
        "audit": {
            **_channel(f"{AUDIT_SUBJECT}.{{event}}", "audit"),
            "parameters": {"event": {"description": "the entry's `event`", "enum": list(get_args(AuditEvent))}},
        },
    }


def _channel(address: str | None, *messages: str) -> dict[str, Any]:
    return {"address": address, "messages": {name: _ref("messages", name) for name in messages}}


def _operation(action: str, channel: str, summary: str) -> dict[str, Any]:
    return {"action": action, "channel": {"$ref": f"#/channels/{channel}"}, "summary": summary}


def _request(channel: str, answer: str, summary: str) -> dict[str, Any]:
    """A request that is answered, or refused."""
    return _answered(channel, summary, answer, "refusal")


def _admin(channel: str, summary: str) -> dict[str, Any]:
    """A request whose answer says itself why it is refused."""
    return _answered(channel, summary, "adminAnswer")


def _answered(channel: str, summary: str, *answers: str) -> dict[str, Any]:
    replies = [{"$ref": f"#/channels/replies/messages/{name}"} for name in answers]
    reply = {"channel": {"$ref": "#/channels/replies"}, "messages": replies}
    return _operation("receive", channel, summary) | {"reply": reply}


def _messages() -> dict[str, Any]:
    formats = ", ".join(SampleFormat)
    audio = {
        "name": "audio",
        "summary": f"Raw interleaved PCM, whole frames ({formats}), or encoded audio; an empty payload is a heartbeat.",
        "contentType": "audio/x-raw",
        "headers": _headers(_AUDIO_HEADERS),
        "payload": {"type": "string", "format": "binary"},
    }
    messages: dict[str, Any] = {"audio": audio, **_service_messages()}
    for model in (*TRANSCRIPT_MODELS, Metrics):
        name = model.model_fields["type"].default
        messages[name] = {
            "name": name,
            "summary": (model.__doc__ or "").partition("\n")[0],
            "payload": _ref("schemas", model.__name__),
        }
        if model is not Metrics:
            messages[name]["headers"] = _headers(_TRANSCRIPT_HEADERS) | {"required": list(_TRANSCRIPT_HEADERS)}
    return messages


def _service_messages() -> dict[str, Any]:
    """Requests and their answers."""
    requests = {
        name: {
            "name": name,
            "summary": (model.__doc__ or "").partition("\n")[0],
            "payload": _ref("schemas", model.__name__),
        }
        for name, model in (JOB_MODELS | ADMIN_MODELS | {"adminAnswer": AdminAnswer}).items()
    }
    requests["cancellation"]["headers"] = _headers({REQUESTED_BY: "who asks for it, for the audit"})
    requests["submission"]["headers"] = _headers({"traceparent": "W3C trace context, which the job's spans continue"})
    return requests | {
        "request": {
            "name": "request",
            "summary": "The bytes of an audio file: WAV, FLAC, MP3, M4A, Ogg, WebM and others.",
            "contentType": "application/octet-stream",
            "headers": _headers(_REQUEST_HEADERS),
            "payload": {"type": "string", "format": "binary"},
        },
        "streamRequest": {
            "name": "streamRequest",
            "summary": "A request for the state of all streams; what it holds is ignored.",
            "payload": {"type": "string"},
        },
        "streams": {
            "name": "streams",
            "summary": (StreamFigures.__doc__ or "").partition("\n")[0],
            "payload": _ref("schemas", StreamFigures.__name__),
        },
        "audit": {
            "name": "audit",
            "summary": (AuditEntry.__doc__ or "").partition("\n")[0],
            "payload": _ref("schemas", AuditEntry.__name__),
        },
        "text": {
            "name": "text",
            "summary": "The text in the requested format: `json` and `verbose_json` are an object, the others are plain text.",
            "headers": _headers(_TEXT_HEADERS),
            "payload": {
                "oneOf": [
                    {
                        "type": "object",
                        "properties": {
                            "text": {"type": "string"},
                            "suppressed": {"type": "array", "items": _ref("schemas", HeldBack.__name__)},
                        },
                        "required": ["text"],
                    },
                    {"type": "string"},
                ]
            },
        },
        "refusal": {
            "name": "refusal",
            "summary": "Why a request is refused; the payload is empty.",
            "headers": _headers(_REFUSAL_HEADERS) | {"required": ["Nats-Service-Error", "Nats-Service-Error-Code"]},
            "payload": {"type": "string", "maxLength": 0},
        },
    }


def _headers(descriptions: dict[str, str]) -> dict[str, Any]:
    properties = {
        name: {"type": "string", "description": text, **_HEADER_RULES.get(name, {})}
        for name, text in descriptions.items()
    }
    return {"type": "object", "properties": properties}


def _schemas() -> dict[str, Any]:
    models: list[tuple[type[BaseModel], JsonSchemaMode]] = [
        *((model, "serialization") for model in (*TRANSCRIPT_MODELS, Metrics, StreamFigures, AuditEntry, AdminAnswer)),
        *((model, "validation") for model in (*JOB_MODELS.values(), *ADMIN_MODELS.values())),
    ]
    _, definitions = models_json_schema(models, by_alias=True, ref_template="#/components/schemas/{model}")
    schemas: dict[str, Any] = definitions["$defs"]
    return schemas


def _ref(kind: str, name: str) -> dict[str, str]:
    return {"$ref": f"#/components/{kind}/{name}"}
