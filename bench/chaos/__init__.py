"""Is nothing lost, doubled or reordered when everything goes wrong at once? ``python -m bench.chaos --seeds 0-199``.

A seed is a run: a real nats-server with JetStream on its own disk, real daemons in durable mode, publishers that store audio
at 20 times real time, and faults at random moments. Out: how many faults of each kind there were, and what the broker has
stored afterwards, checked to the frame. A failed run leaves its folder and says how to repeat it.
"""

from bench.chaos.command import measure

__all__ = ["measure"]
