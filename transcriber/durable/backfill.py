"""Backfill: windows that were dropped while the worker was busy are transcribed when it is idle.

In: the gaps and ends that a stream has stored, by earlier daemons too. Out: a ``revision`` for each gap whose audio JetStream
still has, and when a session owes nothing more, a second ``end`` with its final figures.

The checkpoint of the message that was stored before a gap says where its window begins; from there the audio is cut as it was
cut then.
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
"""Reasons of gaps whose audio arrived, and may be transcribed later."""

IDLE_POLL_S = 0.1
RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class _OwedGap:
    """A gap that may be filled.

    Attributes:
        previous_seq: of the message that was stored before it.
    """

    gap: Gap
    previous_seq: int


class _SessionAccount:
    """What a session still owes, and what was filled.

    Attributes:
        end: its latest; None while it is open.
        owed: gaps to be filled.
        lost: gaps that cannot be filled.
        holes: gaps of audio that never arrived; what of them lies within a window is not the window's.
        filled: revisions since ``end``, or since the session began.
        attempts: by gap, daemons that began with it before all others and, if they did not fill it, did not come back.
    """

    def __init__(self) -> None:
        self.end: End | None = None
        self.owed: dict[str, Gap] = {}
        self.lost: list[Gap] = []
        self.holes: list[Gap] = []
        self.filled = 0
        self.attempts: Counter[str] = Counter()

    def updated(self, end: End) -> End:
        """``end`` with the figures of now."""
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
        sink: MessageSink,
        may_attempt: Callable[[], bool],
    ) -> None:
        """What is put into ``sink`` is stored after all messages before.

        ``may_attempt`` returns False while a crash would be blamed on something else.
        """
        self._may_attempt = may_attempt
        self._name, self._worker, self._audio = name, worker, audio
        self._runtime, self._sink = runtime, sink
        self._gaps: deque[_OwedGap] = deque()
        self._accounts: dict[str, _SessionAccount] = {}
        self._owing = asyncio.Event()
        self._suspicious = False  # the first gap of an earlier daemon may be what it died of
        self._attempt_stored: asyncio.Future[None] | None = None  # resolves when the record of our attempt is stored

    @property
    def done(self) -> bool:
        """Whether nothing is owed."""
        return not self._gaps

    def stored(self, message: AnyMessage, previous_seq: int) -> None:
        """``message`` was stored, right after that of ``previous_seq``."""
        if isinstance(message, Status) and self._attempt_stored and not self._attempt_stored.done():
            self._attempt_stored.set_result(None)
        if isinstance(message, Revision) and message.session not in self._accounts:
            return  # of a second pass; the session owes nothing
        self._enter(message, previous_seq)
        self._close(message.session)

    async def read_back(self) -> None:
        """Find the gaps of earlier daemons that were not filled.

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
        self._gaps = deque(owed for owed in self._gaps if _id(owed.gap) in self._accounts[owed.gap.session].owed)
        self._suspicious = bool(self._gaps)
        for session in list(self._accounts):
            self._close(session)

    async def run(self) -> None:
        """Fill gaps while the worker is idle, until cancelled."""
        while True:
            if not self._gaps:
                self._owing.clear()
                await self._owing.wait()
            elif not (self._worker.queue.idle and self._may_attempt()):
                await asyncio.sleep(IDLE_POLL_S)
            else:
                await self._fill_first()

    def _enter(self, message: AnyMessage, previous_seq: int) -> None:
        account = self._accounts.setdefault(message.session, _SessionAccount())
        match message:
            case Gap() if message.reason in OWED and message.frames:
                account.owed[_id(message)] = message
                self._gaps.append(_OwedGap(message, previous_seq))
                self._owing.set()
            case Gap() if message.reason in LOST_REASONS:
                account.holes.append(message)
            case Gap():
                account.lost.append(message)
            case Revision():
                account.filled += sum(account.owed.pop(name, None) is not None for name in message.replaces)
            case Status() if message.state == "resumed":
                account.attempts.update(
                    name for name, gap in account.owed.items() if gap.start_frame == message.start_frame
                )
            case End():
                account.end, account.filled = message, 0 if message.rev else account.filled

    def _close(self, session: str) -> None:
        """Publish the final figures, once a session owes nothing more."""
        account = self._accounts[session]
        if account.end is None or account.owed:
            return
        if account.filled:
            account.filled = 0
            end = account.updated(account.end)
            self._sink.put(lambda: end, session_traceparent(self._name, session), end.rev)
        else:
            del self._accounts[session]

    async def _fill_first(self) -> None:
        try:
            await self._fill(self._gaps[0])
        except (UnansweredError, RefusedError) as error:
            log.debug("%s: %s", self._name, error)
            await asyncio.sleep(RETRY_S)
        else:
            self._gaps.popleft()

    async def _fill(self, owed: _OwedGap) -> None:
        """Transcribe the audio of a gap, and publish its revision."""
        gap, why = owed.gap, "its audio is gone, or must not be tried again"
        checkpoint = await self._checkpoint_before(owed)
        if checkpoint and checkpoint.session and (window := await self._cut_again(gap, checkpoint)):
            output = StreamOutput(self._name, self._runtime, self._sink)
            session_output = output.add(window.session)
            session_output.restore(checkpoint.session)
            if self._suspicious:
                self._suspicious = False
                await self._record_attempt(owed, session_output)
            job, outcome = await self._transcribe(output, window)
            if not await self._audio.is_text_kept(owed.previous_seq):
                self._forget(gap)
                return
            if isinstance(outcome, Transcript):
                output.note_speakers(job)
                output.counters.revisions += 1
                own = session_output.speakers[window.channel].final(window, outcome, again=True)
                session_output.revision(window, job, own, instead=gap)
                return
            why = str(outcome)
        elif not await self._audio.is_text_kept(owed.previous_seq):
            self._forget(gap)
            return
        account = self._accounts[gap.session]
        account.lost.append(account.owed.pop(_id(gap)))
        log.warning("a gap stays: %s", why, extra={"stream": self._name, "start_s": gap.start})
        self._close(gap.session)

    def _forget(self, gap: Gap) -> None:
        """It was purged: neither text of it is stored nor an account in which it would be."""
        account = self._accounts[gap.session]
        account.lost.append(account.owed.pop(_id(gap)))
        account.filled = 0
        self._close(gap.session)

    async def _record_attempt(self, owed: _OwedGap, output: SessionOutput) -> None:
        """Store that we try, first of all, so that a crash counts."""
        # The session has published less than one status for each message that was stored before the gap.
        output.statuses = owed.previous_seq + self._accounts[owed.gap.session].attempts[_id(owed.gap)]
        self._attempt_stored = asyncio.get_running_loop().create_future()
        output.status("resumed", owed.gap.start_frame)
        await self._attempt_stored

    async def _checkpoint_before(self, owed: _OwedGap) -> Checkpoint | None:
        """Of the message before the gap; None if the gap must not be tried again, or cannot be filled."""
        settings = self._runtime.settings
        if self._accounts[owed.gap.session].attempts[_id(owed.gap)] >= settings.max_attempts:
            return None  # daemons died of it
        checkpoint = await self._audio.checkpoint(owed.previous_seq, owed.gap.session)
        # Daemons had died of it when it became a gap.
        return None if checkpoint is None or checkpoint.attempts >= settings.max_attempts else checkpoint

    async def _cut_again(self, gap: Gap, checkpoint: Checkpoint) -> Window | None:
        """The window that became ``gap``."""
        wanted = gap.start_frame, gap.frames, _channel(gap)
        async for event in self._audio.events(checkpoint, gap.last_seq):
            if not isinstance(event, Window) or event.session.id != gap.session:
                continue
            if (event.start_frame, event.frames, event.channel) == wanted:
                return event
        return None

    async def _transcribe(self, output: StreamOutput, window: Window) -> tuple[Job, Outcome]:
        """Give the window to the worker, and retry where whisper fails.

        Raises:
            UnansweredError: live audio went first.
        """
        tries = 0
        while True:
            answered = await self._worker.transcribe(
                lambda settle: output.job(window, settle, Lane.FILE, Arrival.now())
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
