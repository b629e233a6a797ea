"""What the gateway costs, carries and endures: a real gateway and a real broker; the daemon's engine is stubbed.

Out, by part:

* ``overhead``: what a clip of 5 s takes by HTTP, beside the same NATS request, asked in turn.
* ``streams``: 20 ms payloads of many WebSockets: what arrived on NATS, when, the processor time, and memory by time.
* ``listeners``: one stream's text at many WebSockets: whether each got each message once and in order, when, and memory.
* ``upload``: gigabytes up as a job, and down as a result: the gateway's memory, and the digests.
* ``hostile``: thousands of requests and frames that mean no good: what came back, and what is left of them in the gateway.
"""

import argparse
import importlib

from bench.lib.report import Results, note

PARTS = ("overhead", "streams", "listeners", "upload", "hostile")


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--parts", default=",".join(PARTS), help="which, separated by commas: %(default)s")
    parser.add_argument("--minutes", type=float, default=3.0, help="of streams and of listeners (%(default)s)")
    parser.add_argument("--streams", type=int, default=200, help="WebSockets with audio (%(default)s)")
    parser.add_argument("--listeners", type=int, default=1000, help="of one stream (%(default)s)")
    parser.add_argument("--gigabytes", type=float, default=5.0, help="of the upload, and of the result (%(default)s)")
    parser.add_argument("--attacks", type=int, default=10_000, help="hostile requests and frames (%(default)s)")


def measure(
    quick: bool, parts: str, minutes: float, streams: int, listeners: int, gigabytes: float, attacks: int
) -> Results:
    live_s = 10.0 if quick else 60 * minutes
    sizes: dict[str, tuple[float, ...]] = {
        "overhead": (60 if quick else 400,),
        "streams": (streams, live_s),
        "listeners": (listeners, live_s),
        "upload": (0.1 if quick else gigabytes,),
        "hostile": (1000 if quick else attacks,),
    }
    results: Results = {}
    for part in parts.split(","):
        if part not in sizes:
            raise SystemExit(f"--parts={part}: none of {', '.join(PARTS)}")
        # Here, so that the gateway's process, whose module is among them, is not imported twice.
        results[part] = importlib.import_module(f"bench.gateway.{part}").measure(*sizes[part])
        note(f"gateway: {part}: {results[part]}")
    return results
