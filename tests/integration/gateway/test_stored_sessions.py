"""The sessions of a stream, found among whatever else is stored, with a real JetStream."""

import asyncio
import itertools
from datetime import UTC, datetime
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from transcriber.bus.client_session import connected
from transcriber.bus.jetstream.client import JetStream
from transcriber.bus.jetstream.provision import ensure_streams
from transcriber.config import load_settings
from transcriber.gateway.streams import sessions
from transcriber.gateway.streams.storage import text_storage_of
from transcriber.schema.messages import End, Gap, Message, Revision, Silence, Status, Timing
from transcriber.testing.broker import EmbeddedBroker

RATE = 16_000
SUMS = {name: 0 for name in End.model_fields if name.endswith(("_frames", "_s", "segments")) and name != "lag_s"}
STREAM = map("s{}".format, itertools.count())


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with EmbeddedBroker(store=tmp_path_factory.mktemp("store")) as broker:
        yield broker.url


def message(kind, stream, session, number):
    common = Message(
        stream=stream, session=session, rate=RATE, start_frame=number, frames=1, start=0, duration=0,
        received_at=datetime.now(UTC),
    ).model_dump(by_alias=True)  # fmt: skip
    match kind:
        case "status":
            return Status(**common, state="stalled" if number else "started")
        case "end":
            return End(**common, **SUMS)
        case "revision":
            return Revision(
                **common, segment=0, last_segment=0, replaces=("x",), rev=1, text="", suppressed=None, words=None,
                language=None, confidence=None, avg_logprob=None, no_speech_prob=None, speech_final=True, speaker=None,
                model="demo", timing=Timing(**dict.fromkeys(Timing.model_fields, 0)), captured_at=None,
            )  # fmt: skip
        case "gap":
            return Gap(**common, reason="lost_input", speaker=None)
        case _:
            return Silence(**common, speaker=None)


class Log:
    """What is stored of a stream of its own: a list of (sequence, session, number)."""

    def __init__(self, jetstream, connection):
        self.name = next(STREAM)
        self.rows = []
        self._jetstream, self._connection = jetstream, connection

    async def add(self, kind, session, number, stream=None):
        one = message(kind, stream or self.name, session, number)
        payload = one.model_dump_json(by_alias=True).encode()
        seq = (await self._jetstream.store(f"transcripts.{one.stream}.{kind}", payload, {})).seq
        if stream is None:
            self.rows.append((seq, session, number))
        return seq

    async def add_session(self, session, kinds):
        """Its start, then a message of each kind."""
        for number, kind in enumerate(("status", *kinds)):
            await self.add(kind, session, number)

    async def delete(self, *seqs):
        for seq in seqs:
            await self._jetstream.call("STREAM.MSG.DELETE.TRANSCRIPTS", {"seq": seq})
        self.rows = [row for row in self.rows if row[0] not in seqs]

    def numbers(self, session):
        return [number for _, of, number in self.rows if of == session]

    async def read(self, session):
        text = await self._text()
        return [one.start_frame async for one in sessions.session_messages(self._jetstream, text, session)]

    async def latest(self):
        text = await self._text()
        return await sessions.latest_session(self._jetstream, text)

    async def gaps(self, session):
        text = await self._text()
        return [gap.start_frame for gap in await sessions.latest_gaps(self._jetstream, text, session)]

    async def _text(self):
        found = await text_storage_of(self._connection, f"transcripts.{self.name}")
        assert found is not None
        return found


def with_log(url, test, reach=4):
    """Run ``test(log)`` where a few sequences are far away, and a gap or two are many."""

    async def run():
        configured = load_settings(nats_url=url, durable=True)
        async with connected(configured, "test") as connection:
            await ensure_streams(connection, configured)
            await test(Log(JetStream(connection), connection))

    with patch.object(sessions, "FIRST_REACH", reach), patch.object(sessions, "MOST_GAPS", 3):
        asyncio.run(run())


KINDS = st.lists(st.sampled_from(["silence", "gap", "status"]), max_size=8)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(KINDS, st.booleans(), st.integers(0, 6)), min_size=1, max_size=5),
    st.sets(st.integers(0, 40), max_size=6),
    st.integers(0, 12),
)
def test_each_session_has_its_own_messages_whatever_is_deleted_or_too_old(url, log_of, deleted, too_old):
    async def check(log):
        for session, (kinds, ended, others) in enumerate(log_of):
            await log.add_session(f"take-{session}", (*kinds, *(["end"] if ended else [])))
            for number in range(others):
                await log.add("status", "take-0", number, stream=f"{log.name}-other")
        last = f"take-{len(log_of) - 1}"
        known = {session for _, session, number in log.rows[too_old:] if number == 0}
        cut = {row[0] for row in log.rows[:too_old]}
        gone = {row[0] for at, row in enumerate(log.rows) if at in deleted and row[2] > 0}
        oldest = next((row[1] for row in log.rows if row[0] not in cut | gone), None)
        await log.delete(*(cut | gone))

        for session in range(len(log_of)):
            name = f"take-{session}"
            assert await log.read(name) == (log.numbers(name) if name in known | {oldest} else [])
        assert await log.read("take-") == []
        assert await log.latest() == (last if log.numbers(last) else None)

    with_log(url, check)


def test_of_several_sessions_of_one_name_the_last_is_meant(url):
    async def check(log):
        await log.add_session("a", ["silence", "silence", "end"])
        await log.add_session("b", ["silence", "end"])
        first = len(log.rows)
        await log.add_session("a", ["silence"])

        assert await log.read("a") == [number for _, _, number in log.rows[first:]]

    with_log(url, check)


def test_without_its_start_a_session_is_behind_the_one_before(url):
    async def check(log):
        await log.add_session("a", ["silence", "end"])
        start = len(log.rows)
        await log.add_session("b", ["silence", "status", "status", "silence", "end"])
        await log.add_session("c", [])
        await log.delete(log.rows[start][0])

        assert await log.read("b") == [1, 2, 3, 4, 5]

    with_log(url, check)


def test_what_comes_after_the_end_is_not_read_but_for_revisions(url):
    async def check(log):
        await log.add_session("a", ["silence", "end"])
        await log.add_session("b", ["silence"])
        await log.add("silence", "a", 7)
        await log.add("revision", "b", 8)
        await log.add("revision", "a", 9)

        assert await log.read("a") == [0, 1, 2, 9]

    with_log(url, check)


def test_gaps_are_the_last_ones_of_the_latest_session(url):
    async def check(log):
        await log.add_session("a", ["gap", "gap", "end"])
        assert await log.gaps("a") == [1, 2]
        await log.add_session("b", ["gap"] * 9)
        await log.add("gap", "a", 1, stream=f"{log.name}-other")

        assert await log.gaps("a") == await log.gaps("c") == []
        assert await log.gaps("b") == [7, 8, 9]

    with_log(url, check)
