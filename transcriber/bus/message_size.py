"""Messages that fit the broker's ``max_payload``.

In: a message, and the bytes it may have. Out: the same; or, if it is larger, without its ``words`` and ``turns``, then without the left
context of its checkpoint, then without the voices there, then with its text cut, which its ``suppressed`` then says.
"""

from bisect import bisect_right
from collections.abc import Callable

from transcriber.logs import RateLimited
from transcriber.schema.checkpoint import SpeakerState
from transcriber.schema.messages import AnyMessage, Final, Partial, Revision
from transcriber.telemetry import Counters
from transcriber.text.lines import clusters


def fitted(message: AnyMessage, room_bytes: int, counters: Callable[[], Counters], warnings: RateLimited) -> AnyMessage:
    """As ``fitting``; what is left out is logged, and counted in ``counters`` if it is text."""
    fits = fitting(message, room_bytes)
    if fits is not message:
        shortened = isinstance(fits, Final | Revision) and fits.suppressed == "max_payload"
        if shortened:
            counters().text_suppressed["max_payload"] += 1
        what = "the end of its text is" if shortened else "the times of its words are"
        warnings.warning(
            "max_payload", "a %s is too large for the broker: %s left out", fits.type, what, stream=fits.stream
        )
    return fits


def fitting(message: AnyMessage, room_bytes: int) -> AnyMessage:
    """``message`` shortened until its JSON fits ``room_bytes``; where these are few it may still be too large."""
    for smaller in (_without_words, _without_written, _without_voices, _shortened):
        if _size_bytes(message) <= room_bytes:
            break
        message = smaller(message, room_bytes)
    return message


def _size_bytes(message: AnyMessage) -> int:
    return len(message.model_dump_json(by_alias=True).encode())


def _without_words(message: AnyMessage, _: int) -> AnyMessage:
    if not isinstance(message, Final | Partial | Revision):
        return message
    return message.model_copy(update={"words": None, "turns": None})


def _without_written(message: AnyMessage, _: int) -> AnyMessage:
    """Without the published words of its checkpoint: a daemon that resumes then goes by the times in its first window."""
    return _with_speakers(message, lambda one: {"written": one.written.model_copy(update={"words": ()})})


def _without_voices(message: AnyMessage, _: int) -> AnyMessage:
    """Without the voices of its checkpoint: a daemon that resumes then begins again with ``A``."""
    return _with_speakers(message, lambda _: {"voices": ()})


def _with_speakers(message: AnyMessage, changes: Callable[[SpeakerState], dict[str, object]]) -> AnyMessage:
    """With ``changes`` of each speaker of its checkpoint."""
    mark = message.checkpoint
    if mark is None or mark.session is None:
        return message
    speakers = tuple(speaker.model_copy(update=changes(speaker)) for speaker in mark.session.speakers)
    session = mark.session.model_copy(update={"speakers": speakers})
    return message.model_copy(update={"checkpoint": mark.model_copy(update={"session": session})})


def _shortened(message: AnyMessage, room_bytes: int) -> AnyMessage:
    if not isinstance(message, Final | Partial | Revision):
        return message
    pieces = list(clusters(message.text))

    def first(count: int) -> AnyMessage:
        text = "".join(pieces[:count]).rstrip()
        return message.model_copy(update={"text": text, "suppressed": message.suppressed or "max_payload"})

    fits = bisect_right(range(len(pieces) + 1), room_bytes, key=lambda count: _size_bytes(first(count))) - 1
    return first(max(0, fits))
