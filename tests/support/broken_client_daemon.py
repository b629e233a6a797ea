"""The daemon of ``fake_daemon``, whose NATS client breaks at SIGUSR1 in the way that ZOMBIE names.

``reader dies``, ``reader hangs``: once; the client still believes to be connected. ``readers die``, ``nobody tries``:
for good, whatever is mended.
"""

import asyncio
import logging
import os
import signal

from transcriber import service
from transcriber.bus.connection import Connection
from transcriber.testing.fake_daemon import main

log = logging.getLogger(__name__)


async def for_ever(*_: object, **__: object) -> None:
    await asyncio.Event().wait()


async def at_once() -> None:
    pass


def strike(client):
    match os.environ["ZOMBIE"]:
        case "reader dies":
            client._reading_task.cancel()
            log.info("struck")
        case "reader hangs":

            async def hang_once():
                del client._process_pong
                log.info("struck")
                await for_ever()

            client._process_pong = hang_once
        case "readers die":
            client._read_loop = at_once
            client._reading_task.cancel()
            log.info("struck")
        case "nobody tries":
            client._attempt_reconnect = at_once
            client._reading_task.cancel()
            log.info("struck")


class Breakable(Connection):
    async def open(self, settings, name):
        await super().open(settings, name)
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, strike, self.client)


if __name__ == "__main__":
    service.Connection = Breakable  # type: ignore[attr-defined]
    main()
