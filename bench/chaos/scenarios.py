"""Runs that are not left to chance: each what an operator will see one day, compressed or in full length."""

from bench.chaos.cluster import BROKERS
from bench.chaos.faults import Fault, Kind
from bench.chaos.plan import SPEED, Plan, steady

DUELS = ROLLOUTS = 5


def outage(*, quick: bool) -> Plan:
    """The broker is away for a minute, while publishers keep what they cannot store."""
    away_s = 6.0 if quick else 60.0
    return steady("outage", away_s + 3.0, (Fault(Kind.BROKER_KILLED, 1.5, away_s),))


def overload(*, quick: bool) -> Plan:
    """The worker is too slow for ten minutes of audio, and then catches up: text comes late, but it comes."""
    slow_s = 5.0 if quick else 600.0 / SPEED["fake"]
    return steady("overload", slow_s + 2.0, (Fault(Kind.SLOW_WORKER, 1.0, slow_s),), streams=1)


def rollouts(*, quick: bool) -> Plan:
    """The daemon is replaced again and again, while audio is published."""
    pause_s = 0.5 if quick else 5.0
    hand = tuple(Fault(Kind.DAEMON_ROLLED if n % 2 else Kind.DAEMON_REPLACED, pause_s, 0.0) for n in range(ROLLOUTS))
    return steady("rollouts", ROLLOUTS * (pause_s + 2.5), hand)


def duels(*, quick: bool) -> Plan:
    """A daemon that was given up wakes up beside the one that took over, again and again."""
    count = DUELS if quick else 10 * DUELS
    hand = tuple(Fault(Kind.TWO_DAEMONS, 0.4, 0.6, n % 2 / 2) for n in range(count))
    return steady("duels", 1.5 * count, hand, streams=3)


def hosts(*, quick: bool) -> Plan:
    """Of three brokers one host after the other is lost, with all that it has stored."""
    count = BROKERS if quick else 20 * BROKERS
    hand = tuple(Fault(Kind.HOST_LOST, 0.5, 0.5, (n + 0.5) / 997) for n in range(count))
    return steady("hosts", 3.0 * count, hand, brokers=BROKERS)


ALL = {"duels": duels, "hosts": hosts, "outage": outage, "overload": overload, "rollouts": rollouts}
