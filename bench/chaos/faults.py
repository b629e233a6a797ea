"""What can go wrong, and how long it lasts. In: a seed's random numbers. Out: faults, for the world to carry out."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What can go wrong."""

    DAEMON_KILLED = "daemon killed"
    DAEMON_REPLACED = "daemon stopped, then another started"
    DAEMON_ROLLED = "another daemon started, then the first stopped"
    DAEMON_FROZEN = "daemon frozen"
    TWO_DAEMONS = "daemon frozen, another started, both awake"
    SLOW_WORKER = "worker too slow"
    CLOCK_SET_BACK = "daemon's clock set back"
    BROKER_KILLED = "broker killed"
    BROKER_FROZEN = "broker frozen"
    DISK_FULL = "disk full, then freed, broker restarted"
    CONNECTION_CUT = "connection cut"
    CONNECTION_HUNG = "connection hung"
    CONNECTION_SLOW = "connection slow"
    STREAM_LEADER_KILLED = "leader of a JetStream stream killed"
    CONSUMER_LEADER_KILLED = "leader of a consumer killed"
    META_LEADER_KILLED = "leader of the meta group killed"
    LEADER_FROZEN = "leader of a JetStream stream frozen"
    HOST_LOST = "broker killed, its store lost"
    TWO_AWAY = "two brokers of three killed"
    BROKER_PARTED = "broker cut off from the others"
    ALL_ROLLED = "all brokers restarted in turn"
    LAME_DUCK = "broker in lame-duck mode, then restarted"
    REPLICAS_CHANGED = "replicas changed from 1 to 3"


Lasting = dict[Kind, tuple[float, float]]
"""Seconds that each lasts, from and to."""

DAEMON_FAULTS: Lasting = {
    Kind.DAEMON_KILLED: (0.0, 3.0),
    Kind.DAEMON_REPLACED: (0.0, 1.0),
    Kind.DAEMON_ROLLED: (0.0, 1.0),
    Kind.DAEMON_FROZEN: (1.0, 6.0),
    Kind.TWO_DAEMONS: (0.5, 3.0),
    Kind.SLOW_WORKER: (1.0, 4.0),
}
BROKER_FAULTS: Lasting = {
    Kind.BROKER_KILLED: (0.0, 3.0),
    Kind.BROKER_FROZEN: (0.5, 4.0),
    Kind.DISK_FULL: (0.5, 2.0),
    Kind.CONNECTION_CUT: (0.0, 0.0),
    Kind.CONNECTION_HUNG: (0.5, 4.0),
    Kind.CONNECTION_SLOW: (0.5, 3.0),
}
CLUSTER_FAULTS: Lasting = {
    Kind.STREAM_LEADER_KILLED: (0.0, 4.0),
    Kind.CONSUMER_LEADER_KILLED: (0.0, 4.0),
    Kind.META_LEADER_KILLED: (0.0, 4.0),
    Kind.LEADER_FROZEN: (2.0, 14.0),
    Kind.HOST_LOST: (0.5, 4.0),
    Kind.TWO_AWAY: (0.0, 4.0),
    Kind.BROKER_PARTED: (2.0, 14.0),
    Kind.ALL_ROLLED: (0.0, 0.0),
    Kind.LAME_DUCK: (0.0, 2.0),
    Kind.REPLICAS_CHANGED: (0.0, 0.0),
    Kind.CONNECTION_CUT: (0.0, 0.0),
    Kind.CONNECTION_HUNG: (0.5, 8.0),
    Kind.CONNECTION_SLOW: (0.5, 3.0),
}
"""Of three brokers in a cluster. Without its leader a group of JetStream's elects another one within 4 to 9 s."""

CLOCK_FAULTS: Lasting = {Kind.CLOCK_SET_BACK: (2.0, 6.0)}
"""Where there is libfaketime."""

_LASTING = DAEMON_FAULTS | BROKER_FAULTS | CLUSTER_FAULTS | CLOCK_FAULTS


@dataclass(frozen=True, slots=True)
class Fault:
    """Something goes wrong ``after_s`` seconds after the one before it, for ``hold_s`` seconds.

    Attributes:
        chance: from 0 to 1, for what is left open: which daemon, which end, which broker.
    """

    kind: Kind
    after_s: float
    hold_s: float
    chance: float = 0.0


def drawn(rng: random.Random, kinds: list[Kind], length_s: float, *, quick: bool) -> tuple[Fault, ...]:
    """What one hand does, beginning while audio is published: one to three of ``kinds``."""
    number = rng.randint(1, 1 if quick else 3)
    shares = [rng.uniform(0.1, 0.8) * length_s / number for _ in range(number)]
    picked = rng.sample(kinds, number)
    return tuple(timed(rng, kind, after_s, quick=quick) for kind, after_s in zip(picked, shares, strict=True))


def timed(rng: random.Random, kind: Kind, after_s: float, *, quick: bool) -> Fault:
    """A fault of that kind, which lasts as long as such a one may."""
    return Fault(kind, after_s, _held(rng, *_LASTING[kind], quick=quick), rng.random())


def of_cluster(rng: random.Random, seed: int, length_s: float, *, quick: bool) -> tuple[Fault, ...]:
    """What is done to three brokers: in every fourth seed a host is lost, and in every eighth the copies are made meanwhile."""
    changed = seed % 8 == 5
    others = [kind for kind in CLUSTER_FAULTS if kind not in {Kind.HOST_LOST, Kind.REPLICAS_CHANGED}]
    kinds: Sequence[Kind] = rng.sample(others, 1 if quick else rng.randint(1, 2))
    if seed % 4 == 3:
        kinds = rng.sample([*kinds, Kind.HOST_LOST], len(kinds) + 1)
    if changed:
        kinds = [Kind.REPLICAS_CHANGED, *kinds]
    return tuple(timed(rng, kind, rng.uniform(0.1, 0.5) * length_s / len(kinds), quick=quick) for kind in kinds)


def _held(rng: random.Random, least_s: float, most_s: float, *, quick: bool) -> float:
    """Where a fault may be over at once it often is."""
    if not least_s and rng.random() < 0.5:
        return 0.0
    return rng.uniform(least_s, min(most_s, least_s + 1.0) if quick else most_s)
