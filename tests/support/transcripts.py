"""A subscriber to all that the daemon publishes, which checks every message and the account of every session."""

import asyncio
import json
from collections import Counter, defaultdict

from tests.support.audio import speak
from tests.support.connections import client_of
from tests.support.waiting import settled, until
from transcriber.schema.messages import ANY_MESSAGE, End, Final, Partial, Progress, Status, Transcribed
from transcriber.testing.verify import account_errors


class TranscriptListener:
    """Everything published, by session, parsed and checked against the models."""

    def __init__(self, url, **options):
        self._connection = client_of(url, **options)
        self.messages = []
        self.ids = []
        self.traceparents = []
        self.metrics = []

    async def __aenter__(self):
        self.client = await self._connection.__aenter__()
        await self.client.subscribe("transcripts.>", cb=self._hear)
        await self.client.subscribe("transcriber.metrics.>", cb=self._measure)
        await settled(self.client)
        return self

    async def __aexit__(self, *raised):
        await self._connection.__aexit__(*raised)

    async def _hear(self, message):
        parsed = ANY_MESSAGE.validate_json(message.data)
        assert message.subject == f"transcripts.{parsed.stream}.{parsed.type}"
        self.messages.append(parsed)
        self.ids.append(message.headers["Nats-Msg-Id"])
        self.traceparents.append(message.headers["traceparent"])

    async def _measure(self, message):
        self.metrics.append(json.loads(message.data)["metrics"])

    def of(self, kind, stream=None):
        return [m for m in self.messages if isinstance(m, kind) and stream in {None, m.stream}]

    async def ends(self, count):
        """Wait for so many sessions to end; returns their ends."""
        return await until(lambda: len(self.of(End)) >= count and self.of(End), f"{count} ends")

    def text(self, stream):
        return " ".join(final.text for final in self.of(Final, stream))

    def check_accounts(self):
        """Each session that ended is tiled by the finals, silences and gaps of each speaker, and its sums are right.

        Partials are of open windows: none comes after the final of its segment, and each knows more than the one before.

        Publishers that use one ``Audio-Session`` for several recordings get what they ask for, and are left out.
        """
        starts = Counter((m.stream, m.session) for m in self.of(Status) if m.state == "started")
        sessions, ids = defaultdict(list), []
        for message, message_id in zip(self.messages, self.ids, strict=True):
            if starts[message.stream, message.session] == 1 and not isinstance(message, Progress):
                sessions[message.stream, message.session].append(message)
                ids.append(message_id)
        assert len(set(ids)) == len(ids)
        for key, messages in sessions.items():
            if isinstance(messages[-1], End):
                check_session(messages)
            assert not any(isinstance(m, End) for m in messages[:-1]), f"{key}: something came after the end"
        return sessions


def check_session(messages):
    *before, end = messages
    assert isinstance(before[0], Status)
    assert before[0].state == "started"
    for speaker in {m.speaker for m in before if isinstance(m, Transcribed)}:
        check_speaker([m for m in before if isinstance(m, Transcribed) and m.speaker == speaker])
    assert account_errors(messages, end.frames) == []
    for name in ("received", "lost", "transcribed", "silent", "dropped"):
        assert getattr(end, f"{name}_s") == getattr(end, f"{name}_frames") / end.rate


def check_speaker(transcribed):
    """Finals come in order, each after its own partials."""
    segments = [m.segment for m in transcribed if isinstance(m, Final)]
    assert segments == sorted(set(segments))
    starts = {m.segment: m.start_frame for m in transcribed if isinstance(m, Final)}
    revisions: dict[int, int] = defaultdict(int)
    heard: dict[int, int] = defaultdict(int)
    for message in transcribed:
        segment = message.segment
        if isinstance(message, Final):
            revisions[segment] = -1
        elif isinstance(message, Partial):
            assert revisions[segment] >= 0, f"a partial of segment {segment} after its final"
            assert message.rev == revisions[segment] + 1
            assert message.frames > heard[segment]
            assert message.start_frame == starts.get(segment, message.start_frame)
            assert not message.speech_final
            revisions[segment], heard[segment] = message.rev, message.frames


async def until_heard(publisher, stream, condition):
    """A guess is asked for when something comes, if the worker happens to be idle: heartbeats until it was."""
    while not (found := condition()):
        await speak(publisher, stream, b"")
        await asyncio.sleep(0.02)
    return found
