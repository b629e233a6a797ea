"""How soon a changed setting is followed by three daemons, and what looking settings up costs a window.

In: a bucket with 100 keys. Out: seconds from the put until each daemon says that it follows, asked every few milliseconds; and
microseconds of what a stream looks up when a window begins, with and without live settings.
"""

import asyncio
import time
import timeit
from contextlib import ExitStack
from typing import Any

from bench.lib.daemon import PLAIN, StubbedDaemon, storing_broker
from bench.lib.report import Results, note, quantiles, run
from transcriber.bus.client_session import connected
from transcriber.bus.config_bucket import ConfigBucket
from transcriber.bus.jetstream.client import JetStream
from transcriber.bus.jetstream.provision import ready_config
from transcriber.clients.admin_command import ask, daemons
from transcriber.config import load_settings
from transcriber.live_settings.layers import Entry
from transcriber.live_settings.live import LiveSettings, StreamSettings
from transcriber.schema.admin import StatusRequest

BUCKET = "TRANSCRIBER_CONFIG"
DAEMONS, KEYS = 3, 100
CALLS = 20_000

LOOK = StatusRequest(action="status")


def measure(quick: bool) -> Results:
    return {"followed_s": asyncio.run(_followed_s(10 if quick else 100)), "looked_up_us": _looked_up_us()}


async def _followed_s(changes: int) -> Results:
    with storing_broker() as broker, ExitStack() as stack:
        settings = load_settings(nats_url=broker.url, config_bucket=BUCKET, provision=True)
        async with connected(settings, "bench") as connection:
            await ready_config(connection, settings)
            bucket = ConfigBucket(JetStream(connection), BUCKET)
            for number in range(KEYS):
                await bucket.put(f"stream.s{number}.whisper_prompt", f"names {number}", by="bench")
            processes = [
                stack.enter_context(StubbedDaemon(broker.url, **PLAIN, CONFIG_BUCKET=BUCKET)) for _ in range(DAEMONS)
            ]
            if not all(await asyncio.gather(*(process.ready() for process in processes))):
                raise RuntimeError("a daemon did not start")
            names = sorted(await daemons(connection))
            taken_s: list[float] = []
            for number in range(changes):
                await asyncio.sleep(number % 7 * 0.1)  # anywhere between two looks of a daemon
                began_s = time.monotonic()
                revision = (await bucket.put("global.speech_threshold", f"0.{number + 1}", by="bench")).seq
                for name in names:  # the time of the last one counts
                    while ((await ask(connection, name, LOOK)).revision or 0) < revision:  # noqa: ASYNC110 - it is in another process
                        await asyncio.sleep(0.005)
                taken_s.append(time.monotonic() - began_s)
        note(f"{len(names)} daemons followed {changes} changes")
        return {"daemons": len(names), "changes": changes} | quantiles(taken_s, median=0.5, p95=0.95, most=1.0)


def _looked_up_us() -> dict[str, Any]:
    base = load_settings(config_bucket=BUCKET)
    live = LiveSettings(base, "pod-1", lambda _: True)
    live.take(Entry(f"stream.s{number}.whisper_prompt", "names", number) for number in range(KEYS))

    def look(settings: StreamSettings) -> float:
        def once() -> None:
            settings.of(settings.policy(settings.latest().changes).changes)

        return round(1e6 * min(timeit.repeat(once, number=CALLS, repeat=5)) / CALLS, 3)

    return {"fixed": look(StreamSettings(base)), "live": look(live.stream("s7"))}


if __name__ == "__main__":
    run("live_settings", measure)
