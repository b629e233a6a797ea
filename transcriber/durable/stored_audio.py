"""Audio that JetStream still has, cut as it was cut when its text was stored.

In: the message that was stored before a window. Out: the events of the audio after it: its checkpoint says where that begins.
"""

from collections.abc import AsyncIterator

from transcriber.audio.contention import REFUSALS, Contention, Verdict
from transcriber.audio.headers import parse_headers
from transcriber.audio.stream import Event, Stream
from transcriber.audio.window_policy import Changes, WindowPolicies, WindowPolicy
from transcriber.bus.jetstream.client import JetStream
from transcriber.durable.checkpoint import restore_contenders, restore_session
from transcriber.durable.transcript_log import read_checkpoint
from transcriber.errors import BadInputError
from transcriber.live_settings.live import StreamSettings
from transcriber.pipeline.runtime import Runtime
from transcriber.schema.checkpoint import Checkpoint


class _AsThen:
    """``WindowPolicies`` of windows that all begin with the same changes."""

    def __init__(self, policies: WindowPolicies, changes: Changes) -> None:
        self._policies, self._changes = policies, changes

    def latest(self) -> WindowPolicy:
        return self._policies.policy(self._changes)

    def policy(self, changes: Changes) -> WindowPolicy:
        return self._policies.policy(changes)


class StoredAudio:
    """Of one stream. Event loop only.

    Attributes:
        jetstream: has it.
    """

    def __init__(self, jetstream: JetStream, subject: str, runtime: Runtime, policies: StreamSettings) -> None:
        """``subject`` is what the audio is stored as; ``policies`` are the stream's."""
        self.jetstream = jetstream
        self._subject, self._runtime, self._policies = subject, runtime, policies

    async def checkpoint(self, previous_seq: int, session: str) -> Checkpoint | None:
        """Where audio resumes after that message; None if it is of another session, or the audio is gone.

        Raises:
            RefusedError, UnansweredError: as all that follows.
        """
        settings = self._runtime.settings
        checkpoint = read_checkpoint(await self.jetstream.message(settings.transcript_stream, seq=previous_seq))
        if checkpoint is None or checkpoint.session is None or checkpoint.session.id != session:
            return None
        # Limits remove the oldest first: where it is stored, all that follows is, too.
        return checkpoint if await self.jetstream.message(settings.audio_stream, seq=checkpoint.seq) else None

    async def is_text_kept(self, seq: int) -> bool:
        """Whether that message is still stored: where a purge has taken it, it takes what follows."""
        return await self.jetstream.message(self._runtime.settings.transcript_stream, seq=seq) is not None

    def ways(self, checkpoint: Checkpoint, channel: int) -> list[WindowPolicies]:
        """How the windows after ``checkpoint`` may have been cut, the likelier first: all as the first one, or that one alone.

        A change of settings has come after them, or, seldom, among them.
        """
        if checkpoint.session is None:
            return []
        then = tuple(sorted(checkpoint.session.places[channel].settings.items()))
        now = self._policies.latest().changes
        return [_AsThen(self._policies, then), *([] if then == now else [self._policies])]

    async def events(
        self, checkpoint: Checkpoint, last_seq: int | None, policies: WindowPolicies | None = None
    ) -> AsyncIterator[Event]:
        """Events of the audio from ``checkpoint``, which has a session, to payload ``last_seq``, and no further.

        ``policies``: of all windows but the first, whose settings the checkpoint has; None: those of now.
        """
        state, settings, network = checkpoint.session, self._runtime.settings, self._runtime.network
        policies = policies or self._policies
        if state is None:
            return
        audio = Stream(
            settings.input,
            policies,
            network,
            max_hole_s=settings.max_hole_secs,
            new_id=lambda: "",
            session=restore_session(state, settings, policies, network),
        )
        heard_at, contention = state.heard_at, Contention(settings.input, restore_contenders(state))
        async for payload in self.jetstream.messages(settings.audio_stream, self._subject, checkpoint.seq):
            if last_seq is None or payload.seq > last_seq:
                break
            silent_s = (payload.stored_at - heard_at).total_seconds() if heard_at else 0.0
            events = audio.time_out(silent_s, pause_s=settings.heartbeat_timeout_secs, end_s=settings.stream_idle_secs)
            headers = parse_headers(payload.headers)
            verdict = Verdict.ACCEPTED
            if payload.payload:
                verdict = contention.judge(headers, payload.stored_at.timestamp())
            if verdict in REFUSALS:
                events += audio.skip(contention.detail) if verdict is Verdict.CONTENTION_BEGUN else []
            else:
                try:
                    events += audio.feed(payload.payload, headers)
                    heard_at = payload.stored_at if payload.payload else heard_at
                except BadInputError as error:
                    events += audio.skip(str(error), headers, end=headers.end, flush=headers.flush)
            for event in events:
                yield event
        for event in audio.end():
            yield event
