"""What was said as it stands in the end.

In: a session's messages, in order. Out: the same, and each revision in the place of what it replaces; no I/O.
"""

from collections.abc import Iterable

from transcriber.schema.messages import AnyMessage, Final, Gap, Revision, message_id


def with_revisions(messages: Iterable[AnyMessage]) -> list[AnyMessage]:
    """Each ``Revision`` as a ``Final`` where the first of the finals or gaps stood that it replaces; the others are left out.

    One that replaces what is not among ``messages`` is passed over: whoever came in the middle knows one part twice, or not at all.
    """
    told = list(messages)
    known = {_id(message) for message in told if isinstance(message, Final | Gap) and message.frames}
    revisions = [one for one in told if isinstance(one, Revision) and known.issuperset(one.replaces)]
    instead = {name: revision for revision in revisions for name in revision.replaces}
    out: list[AnyMessage] = []
    for message in told:
        name = _id(message) if isinstance(message, Final | Gap) and message.frames else ""
        revision = instead.get(name)
        if revision is None:
            out += [] if isinstance(message, Revision) else [message]
        elif revision.replaces[0] == name:
            fields = revision.model_dump(by_alias=True, exclude={"type", "replaces", "last_segment"})
            out.append(Final.model_validate(fields))
    return out


def _id(message: Final | Gap) -> str:
    return message_id(message.stream, message.session, message.start_frame, message.type, 0, int(message.speaker or 0))
