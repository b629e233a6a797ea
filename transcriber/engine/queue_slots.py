"""Waiting for a slot in a lane of a worker's queue. In: the queue. Out: waiters are woken, in order, when there is room."""

import asyncio
from collections import deque

from transcriber.engine.job import Lane
from transcriber.engine.worker import Worker


class QueueSlots:
    """Event loop only.

    Attributes:
        lane: of the slots.
    """

    def __init__(self, worker: Worker, lane: Lane = Lane.FINAL) -> None:
        self._queue, self.lane = worker.queue, lane
        self._waiting: deque[asyncio.Future[None]] = deque()
        worker.on_room.append(self.wake)

    async def free(self) -> None:
        """Wait until there is a slot; it must be taken before anything else is awaited."""
        if not self._waiting and self._room:
            return
        turn = self._new_turn()
        self._waiting.append(turn)
        while True:
            try:
                await turn
            except asyncio.CancelledError:
                if turn in self._waiting:
                    self._waiting.remove(turn)
                else:
                    self.wake()
                raise
            if self._room:
                return
            # A caller that did not wait took the slot.
            turn = self._new_turn()
            self._waiting.appendleft(turn)

    @property
    def _room(self) -> bool:
        return self._queue.has_room(self.lane)

    @staticmethod
    def _new_turn() -> asyncio.Future[None]:
        return asyncio.get_running_loop().create_future()

    def wake(self) -> None:
        """A job has left the lane. One waiter at a time: it takes the slot before the next job is taken."""
        while self._waiting and self._room:
            turn = self._waiting.popleft()
            if not turn.done():  # a waiter may be cancelled and not have run yet
                turn.set_result(None)
                return
