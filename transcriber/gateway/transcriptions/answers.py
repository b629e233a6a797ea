"""The daemons' results in OpenAI's forms. In: a ``verbose_json``, options. Out: an answer, or events of a stream. No I/O."""

import json
import zlib
from collections.abc import Iterator
from typing import Any

from transcriber.errors import ObjectError
from transcriber.gateway.transcriptions.options import SpeechOptions

MEDIA_TYPES = {"text": "text/plain", "srt": "application/x-subrip", "vtt": "text/vtt"}
"""Of the forms that are given as the daemon makes them."""

SEEK_HZ = 100
"""``seek`` counts frames of the spectrogram."""


def parse_verbose(data: bytes, *, segments: bool = True) -> dict[str, Any]:
    """A ``verbose_json``; without ``segments`` these are None, as parsed they would take six times the memory of ``data``.

    Raises:
        ObjectError: it is none.
    """
    try:
        whole: dict[str, Any] = json.loads(data, object_pairs_hook=None if segments else _without_words)
        for name in ("text", "segments", "duration", "language", "suppressed", "gaps"):
            whole[name]
    except (ValueError, LookupError, TypeError):
        raise ObjectError("the result cannot be read") from None
    return whole


def json_answer(whole: dict[str, Any], options: SpeechOptions) -> dict[str, Any]:
    """The answer in one of the three forms that are JSON."""
    usage = {"usage": {"type": "duration", "seconds": whole["duration"]}}
    match options.format:
        case "verbose_json":
            return _verbose(whole, options) | usage
        case "diarized_json":
            found = {"task": "transcribe", "duration": whole["duration"], "text": whole["text"]}
            return found | {"segments": list(speaker_segments(whole))} | usage
        case _:
            suppressed = {"suppressed": held} if (held := whole["suppressed"]) else {}
            return {"text": whole["text"], **usage, **suppressed}


def speaker_segments(whole: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Segments of a ``diarized_json``, which are also events of a stream."""
    speaker = next((segment["speaker"] for segment in whole["segments"] if segment["speaker"]), "A")
    for segment in whole["segments"]:
        speaker = segment["speaker"] or speaker  # the protocol has no word for nobody
        yield {
            "type": "transcript.text.segment",
            "id": f"seg_{segment['id']}",
            "start": segment["start"],
            "end": segment["end"],
            "text": segment["text"],
            "speaker": speaker,
        }


def delta(text: str) -> dict[str, Any]:
    """A piece of text, which follows those before it."""
    return {"type": "transcript.text.delta", "delta": text}


def done(whole: dict[str, Any], options: SpeechOptions) -> dict[str, Any]:
    """The last event: the whole text, and of a ``verbose_json`` all of it."""
    rest = json_answer(whole, options) if options.format == "verbose_json" else {}
    return {"type": "transcript.text.done", "text": whole["text"]} | rest


def _verbose(whole: dict[str, Any], options: SpeechOptions) -> dict[str, Any]:
    wanted = options.granularities
    words = [word for segment in whole["segments"] for word in segment["words"]]
    segments = [
        {name: value for name, value in segment.items() if name != "words"}
        | {
            "seek": round(SEEK_HZ * segment["start"]),
            "tokens": [],
            "compression_ratio": _compression_ratio(segment["text"]),
        }
        for segment in whole["segments"]
    ]
    return {
        "task": whole["task"],
        "language": whole["language"],
        "duration": whole["duration"],
        "text": whole["text"],
        **({"segments": segments} if "segment" in wanted else {}),
        **({"words": words} if "word" in wanted else {}),
        "gaps": whole["gaps"],
        "suppressed": whole["suppressed"],
    }


def _without_words(pairs: list[tuple[str, Any]]) -> dict[str, Any] | None:
    """An object, unless it is a word or a segment."""
    found = dict(pairs)
    return None if "word" in found or ("words" in found and "segments" not in found) else found


def _compression_ratio(text: str) -> float:
    data = text.encode()
    return round(len(data) / len(zlib.compress(data)), 3)
