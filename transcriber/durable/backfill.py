"""Completeness later: what was dropped while the worker was busy is heard again when it is not.

In: the gaps and ends that a stream has stored, those of earlier daemons too. Out: a ``revision`` for each gap whose audio
JetStream still has, and when a session owes nothing more, a second ``end`` with what was reached.

A gap is found again by the message that was stored before it: its checkpoint says where the window begins, and from there on
audio is cut as it was cut then.
"""

import asyncio
import contextlib
import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from transcriber.audio.session import Window
from transcriber.bus.jetstream.client import FENCE, Stored
from transcriber.durable.stored_audio import StoredAudio
from transcriber.engine.job import Job, Lane, Outcome
from transcriber.engine.transcript import Transcript
from transcriber.engine.worker import Worker
from transcriber.errors import EngineError, RefusedError, UnansweredError
from transcriber.pipeline.runtime import Runtime
from transcriber.pipeline.session_output import SessionOutput
from transcriber.pipeline.sinks import MessageSink
from transcriber.pipeline.stream_output import StreamOutput
from transcriber.schema.arrival import Arrival
from transcriber.schema.checkpoint import Checkpoint
from transcriber.schema.messages import (
    ANY_MESSAGE,
    LOST_REASONS,
    AnyMessage,
    End,
    Gap,
    Revision,
    Status,
    message_id,
)
from transcriber.telemetry import session_traceparent

log = logging.getLogger(__name__)

OWED = frozenset({"queue_full", "engine_error"})
"""Reasons of gaps whose audio came, and may be heard better later."""

IDLE_POLL_S = 0.1
RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class _Debt:
    """A gap that may become text.

    Attributes:
        previous_seq: of the message that was stored before it.
    """

    gap: Gap
    previous_seq: int


class _Account:
    """What a session still owes, and has paid.

    Attributes:
        end: its latest; None while it is open.
        owed: gaps to be heard again.
        lost: gaps that cannot be, for good.
        holes: gaps of what never came; what of them lies within a window is not the window's.
        paid: revisions since ``end``, or since the session began.
        tries: by gap, daemons that began with it first of all and, if they did not pay it, did not come back.
    """

    def __init__(self) -> None:
        self.end: End | None = None
        self.owed: dict[str, Gap] = {}
        self.lost: list[Gap] = []
        self.holes: list[Gap] = []
        self.paid = 0
        self.tries: Counter[str] = Counter()

    def reached(self, end: End) -> End:
        """What ``end`` is by now."""
        holes = _ranges(self.holes)
        dropped = _union(_ranges(self.lost) + holes) - _union(holes)
        frames = {"transcribed": end.transcribed_frames + end.dropped_frames - dropped, "dropped": dropped}
        return end.model_copy(
            update={"rev": end.rev + 1}
            | {f"{name}_frames": count for name, count in frames.items()}
            | {f"{name}_s": count / end.rate for name, count in frames.items()}
        )


class Backfill:
    """Of one stream. Event loop only."""

    def __init__(
        self,
        name: str,
        worker: Worker,
        audio: StoredAudio,
        runtime: Runtime,
        outbox: MessageSink,
        may_try: Callable[[], bool],
    ) -> None:
        """What is put into ``outbox`` is stored after all that was told before.

        ``may_try`` says whether the death of us would not be laid to the charge of something else.
        """
        self._may_try = may_try
        self._name, self._worker, self._audio = name, worker, audio
        self._runtime, self._outbox = runtime, outbox
        self._debts: deque[_Debt] = deque()
        self._accounts: dict[str, _Account] = {}
        self._news = asyncio.Event()
        self._suspicious = False  # the first debt of an earlier daemon may be what it died of
        self._marked: asyncio.Future[None] | None = None  # resolves when that we try it is stored

    @property
    def done(self) -> bool:
        """Whether nothing is owed."""
        return not self._debts

    def stored(self, message: AnyMessage, previous_seq: int) -> None:
        """``message`` was stored, right after that of ``previous_seq``."""
        if isinstance(message, Status) and self._marked and not self._marked.done():
            self._marked.set_result(None)
        if isinstance(message, Revision) and message.session not in self._accounts:
            return  # of a second pass; the session owes nothing
        self._enter(message, previous_seq)
        self._close(message.session)

    async def read_back(self) -> None:
        """What earlier daemons dropped, and nobody has made up for.

        Raises:
            UnansweredError, RefusedError.
        """
        settings = self._runtime.settings
        found: list[Stored] = []
        for kind in ("gap", "revision", "end", "status"):
            subject = f"{settings.transcript_subject_prefix}.{self._name}.{kind}"
            found += [stored async for stored in self._audio.jetstream.messages(settings.transcript_stream, subject, 1)]
        for stored in sorted(found, key=lambda stored: stored.seq):
            with contextlib.suppress(ValueError):  # of another version, or not ours
                self._enter(ANY_MESSAGE.validate_json(stored.payload), int(stored.headers.get(FENCE, 0)))
        self._debts = deque(debt for debt in self._debts if _id(debt.gap) in self._accounts[debt.gap.session].owed)
        self._suspicious = bool(self._debts)
        for session in list(self._accounts):
            self._close(session)

    async def run(self) -> None:
        """Pay what is owed while nothing else is to be done, until cancelled."""
        while True:
            if not self._debts:
                self._news.clear()
                await self._news.wait()
            elif not (self._worker.queue.idle and self._may_try()):
                await asyncio.sleep(IDLE_POLL_S)
            else:
                await self._pay_first()

    def _enter(self, message: AnyMessage, previous_seq: int) -> None:
        account = self._accounts.setdefault(message.session, _Account())
        match message:
            case Gap() if message.reason in OWED and message.frames:
                account.owed[_id(message)] = message
                self._debts.append(_Debt(message, previous_seq))
                self._news.set()
            case Gap() if message.reason in LOST_REASONS:
                account.holes.append(message)
            case Gap():
                account.lost.append(message)
            case Revision():
                account.paid += sum(account.owed.pop(name, None) is not None for name in message.replaces)
            case Status() if message.state == "resumed":
                account.tries.update(
                    name for name, gap in account.owed.items() if gap.start_frame == message.start_frame
                )
            case End():
                account.end, account.paid = message, 0 if message.rev else account.paid

    def _close(self, session: str) -> None:
        """Say what was reached, once a session owes nothing any more."""
        account = self._accounts[session]
        if account.end is None or account.owed:
            return
        if account.paid:
            account.paid = 0
            end = account.reached(account.end)
            self._outbox.put(lambda: end, session_traceparent(self._name, session), end.rev)
        else:
            del self._accounts[session]

    async def _pay_first(self) -> None:
        try:
            await self._pay(self._debts[0])
        except (UnansweredError, RefusedError) as error:
            log.debug("%s: %s", self._name, error)
            await asyncio.sleep(RETRY_S)
        else:
            self._debts.popleft()

    async def _pay(self, debt: _Debt) -> None:
        """Hear a gap again, and tell."""
        gap, why = debt.gap, "its audio is gone, or not to be touched"
        mark = await self._mark_before(debt)
        if mark and mark.session and (window := await self._cut_again(gap, mark)):
            report = StreamOutput(self._name, self._runtime, self._outbox)
            report.add(window.session).restore(mark.session)
            if self._suspicious:
                self._suspicious = False
                await self._mark(debt, report.sessions[window.session])
            job, outcome = await self._hear(report, window)
            if isinstance(outcome, Transcript):
                self._runtime.telemetry.counters(self._name).revisions += 1
                own = report.sessions[window.session].speakers[window.channel].final(window, outcome, again=True)
                report.sessions[window.session].revision(window, job, own, instead=gap, model=self._runtime.model.name)
                return
            why = str(outcome)
        account = self._accounts[gap.session]
        account.lost.append(account.owed.pop(_id(gap)))
        log.warning("a gap stays one: %s", why, extra={"stream": self._name, "start_s": gap.start})
        self._close(gap.session)

    async def _mark(self, debt: _Debt, report: SessionOutput) -> None:
        """Whoever comes after us knows that we tried, even if this is the death of us."""
        # The session told less than one status for each message that was stored before the gap.
        report.statuses = debt.previous_seq + self._accounts[debt.gap.session].tries[_id(debt.gap)]
        self._marked = asyncio.get_running_loop().create_future()
        report.status("resumed", debt.gap.start_frame)
        await self._marked

    async def _mark_before(self, debt: _Debt) -> Checkpoint | None:
        """Where the stream stood before the gap; None if it must not be heard again, or cannot be."""
        settings = self._runtime.settings
        if self._accounts[debt.gap.session].tries[_id(debt.gap)] >= settings.max_attempts:
            return None  # daemons died of it
        mark = await self._audio.mark(debt.previous_seq, debt.gap.session)
        # Daemons had died of it when it became a gap.
        return None if mark is None or mark.attempts >= settings.max_attempts else mark

    async def _cut_again(self, gap: Gap, mark: Checkpoint) -> Window | None:
        """The window that became ``gap``."""
        place = gap.start_frame, gap.frames, _channel(gap)
        async for event in self._audio.events(mark, gap.last_seq):
            if not isinstance(event, Window) or event.session.id != gap.session:
                continue
            if (event.start_frame, event.frames, event.channel) == place:
                return event
        return None

    async def _hear(self, report: StreamOutput, window: Window) -> tuple[Job, Outcome]:
        """Ask whisper, and not only once if it fails.

        Raises:
            UnansweredError: something that is new came first.
        """
        tries = 0
        while True:
            answered = await self._worker.transcribe(
                lambda settle: report.job(window, settle, Lane.FILE, Arrival.now())
            )
            if answered is None:
                raise UnansweredError("the worker has other things to do")
            if isinstance(answered[1], EngineError) and answered[1].reason == "shutdown":
                raise UnansweredError("the worker stops")
            tries += 1
            if isinstance(answered[1], Transcript) or tries >= self._runtime.settings.max_attempts:
                return answered


def _id(gap: Gap) -> str:
    return message_id(gap.stream, gap.session, gap.start_frame, gap.type, 0, _channel(gap))


def _channel(gap: Gap) -> int:
    return int(gap.speaker or 0)


def _ranges(gaps: Iterable[Gap]) -> list[tuple[int, int]]:
    return [(gap.start_frame, gap.start_frame + gap.frames) for gap in gaps]


def _union(ranges: list[tuple[int, int]]) -> int:
    """Frames in any of these ranges (start, end)."""
    total = reached = 0
    for start, end in sorted(ranges):
        total += max(0, end - max(start, reached))
        reached = max(reached, end)
    return total
