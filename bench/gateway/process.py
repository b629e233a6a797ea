"""The gateway as a child process that is watched. In: a broker, settings. Out: its memory, descriptors, tasks and log.

``python -m bench.gateway.process`` is the real gateway with one route more, which counts its tasks.
"""

import asyncio
import json
import os
import urllib.request
from collections import Counter

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bench.lib.daemon import MeasuredDaemon
from transcriber.config import load_settings
from transcriber.gateway import server
from transcriber.logs import configure

TASKS = "/bench/tasks"


class MeasuredGateway(MeasuredDaemon):
    """``transcriber gateway`` as long as the ``with`` block lasts, with these settings. Any thread.

    Attributes:
        port: on 127.0.0.1.
        url: ``http://127.0.0.1:PORT``.
    """

    arguments = ("-m", "bench.gateway.process")

    def __init__(self, nats_url: str, cores: set[int] | None = None, /, **settings: str) -> None:
        super().__init__(nats_url, cores, LOG_FORMAT="json", **settings)
        self.port = self._port
        self.url = f"http://127.0.0.1:{self.port}"
        self._environment["GATEWAY_PORT"] = str(self.port)

    @property
    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))  # noqa: PTH208 - names of files that come and go

    @property
    def tasks(self) -> dict[str, int]:
        """Of the event loop, by what they run, that of this very question included."""
        with urllib.request.urlopen(self.url + TASKS, timeout=30) as answer:  # noqa: S310 - our own
            found: dict[str, int] = json.load(answer)["names"]
        return found

    def state(self) -> dict[str, int]:
        """What must not grow."""
        return {"rss_kb": self.rss_kb, "descriptors": self.descriptors, "tasks": sum(self.tasks.values())}

    def unusual(self) -> list[str]:
        """Lines of its log that are neither of its life nor of a request: tracebacks, above all."""
        return sorted((line for line in self.log_lines() if not _usual(line)), key=lambda line: "exception" not in line)

    def log_lines(self) -> list[str]:
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), size, 0).decode(errors="replace").splitlines()


def _usual(line: str) -> bool:
    try:
        entry = json.loads(line)
    except ValueError:
        return False
    return entry.get("level") == "INFO" and "exception" not in entry


async def _tasks(_: Request) -> Response:
    names = Counter(getattr(task.get_coro(), "__qualname__", "-") for task in asyncio.all_tasks())
    return JSONResponse({"tasks": names.total(), "names": names})


def main() -> int:
    settings = load_settings()
    configure(settings.log_level, settings.log_format)
    ours = server.routes
    server.routes = lambda: [*ours(), Route(TASKS, _tasks)]
    return server.run(settings)


if __name__ == "__main__":
    raise SystemExit(main())
