"""A module that is run, and says on SIGUSR1 what it holds: ``python -m bench.lib.watched``.

In: ``WATCHED_COMMAND``, a module and its arguments; ``WATCHED_FILE``, a path. Out: that file, JSON: tasks of the event loop, objects that the garbage collector knows once it has run,
and how many of the commonest types.
"""

import asyncio
import gc
import json
import os
import runpy
import signal
import sys
from collections import Counter
from pathlib import Path

TYPES = 400
"""Commonest types that are named."""


def say(*_: object) -> None:
    """Handler of SIGUSR1: in the main thread, in which the event loop runs; between two steps of it or within one."""
    gc.collect()
    objects = gc.get_objects()
    types = Counter(f"{type(one).__module__}.{type(one).__qualname__}" for one in objects)
    path = Path(os.environ["WATCHED_FILE"])
    fresh = path.with_suffix(".new")
    fresh.write_text(
        json.dumps(
            {"tasks": len(asyncio.all_tasks()), "objects": len(objects), "types": dict(types.most_common(TYPES))}
        )
    )
    fresh.replace(path)


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, say)
    sys.argv = os.environ["WATCHED_COMMAND"].split()
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
