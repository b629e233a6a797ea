"""A session's final text. In: its messages, in order. Out: the same, with revisions applied; no I/O."""

from collections.abc import Iterable

from transcriber.schema.messages import AnyMessage, Final, Gap, Revision, message_id
from transcriber.text.phrases import channel_of


def with_revisions(messages: Iterable[AnyMessage]) -> list[AnyMessage]:
    """The messages, with each ``Revision`` as a ``Final`` in place of the first final or gap that it replaces, and without the others.

    One that replaces messages which are not among ``messages`` is ignored, as in a session that was joined in the middle.
    """
    published = list(messages)
    known = {_id(message) for message in published if isinstance(message, Final | Gap) and message.frames}
    revisions = [one for one in published if isinstance(one, Revision) and known.issuperset(one.replaces)]
    instead = {name: revision for revision in revisions for name in revision.replaces}
    out: list[AnyMessage] = []
    for message in published:
        name = _id(message) if isinstance(message, Final | Gap) and message.frames else ""
        revision = instead.get(name)
        if revision is None:
            out += [] if isinstance(message, Revision) else [message]
        elif revision.replaces[0] == name:
            fields = revision.model_dump(by_alias=True, exclude={"type", "replaces", "last_segment"})
            out.append(Final.model_validate(fields))
    return out


def _id(message: Final | Gap) -> str:
    channel = int(channel_of(message.speaker) or 0)
    return message_id(message.stream, message.session, message.start_frame, message.type, 0, channel)
