"""Three brokers in a cluster, and the bad network between them and before them. In: faults. Out: the same cluster, repaired.

JetStream keeps what it confirms on two of three brokers at least, so one of them may be lost for good, if the other two have
all that is confirmed. That takes time after each fault: a fault is repaired once every copy is complete.
"""

import asyncio
import json
import shutil
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path
from typing import Any

import nats

from bench.chaos.faults import Fault, Kind
from bench.chaos.one_broker import spoil
from bench.lib.staged import Staged
from transcriber.errors import BrokerError
from transcriber.testing.broker import EmbeddedBroker
from transcriber.testing.faulty_proxy import FaultyProxy

BROKERS = 3
SETTLED_S = 90.0
"""For all copies to be complete again; a run in which they are not has failed."""

LAME_DUCK_S = 60.0
"""For a broker in lame-duck mode to end."""

_POLL_S = 0.3
_STARTS = 5
_HTTP_S = 2.0
_NOWHERE = "127.0.0.1:1"
"""What a broker says of where it takes routes: else the others would connect past the bad network."""

_CONFIG = """
server_name: {name}
http: "127.0.0.1:{monitor}"
lame_duck_grace_period: "100ms"
jetstream {{ store_dir: "{store}", max_file_store: 2G, max_memory_store: 64M }}
cluster {{
  name: chaos, listen: "127.0.0.1:{route}", advertise: "{advertised}", no_advertise: true
  routes: [{routes}]
}}
ping_interval: "5s"
"""


@dataclass(slots=True)
class _Node:
    """One broker: what it is called, where its disk is, where it listens.

    Attributes:
        route, monitor: ports.
        before: the network between daemons and it.
        to: the network from it to each other broker, by name.
    """

    name: str
    store: Path
    log: Path
    route: int
    monitor: int
    before: FaultyProxy
    to: dict[str, FaultyProxy] = field(default_factory=dict)
    broker: EmbeddedBroker | None = None

    @property
    def running(self) -> bool:
        return self.broker is not None and self.broker.process.poll() is None


@dataclass(frozen=True, slots=True)
class _Group:
    """A group of JetStream's, as its leader sees it.

    Attributes:
        complete: whether all other copies have what it has.
    """

    leader: str
    copies: int
    complete: bool


class Cluster(Staged):
    """Event loop only.

    Attributes:
        restarts: brokers started again.
        errors: copies that were not complete in time.
        binary: the nats-server to run; empty: the one installed.
    """

    binary = ""

    def __init__(self, folder: Path, *, parted: bool) -> None:
        """``parted``: the brokers can be cut off from each other; what they send each other then costs twice the processor time."""
        super().__init__()
        self.restarts = 0
        self._parted = parted
        self.errors: list[str] = []
        self._folder = folder
        self._nodes: dict[str, _Node] = {}

    @property
    def urls(self) -> list[str]:
        return [node.broker.url for node in self._nodes.values() if node.broker]

    @property
    def daemon_url(self) -> str:
        return ",".join(node.before.url for node in self._nodes.values())

    async def _enter(self) -> None:
        self._stack.callback(self._stop_all)
        ports = _free_ports(2 * BROKERS)
        for number in range(BROKERS):
            name = f"n{number}"
            before = await self._stack.enter_async_context(FaultyProxy(0))
            store, log = self._folder / f"store-{name}", self._folder / f"broker-{name}.log"
            self._nodes[name] = _Node(name, store, log, ports.pop(), ports.pop(), before)
        for one, other in permutations(self._nodes.values(), 2) if self._parted else ():
            one.to[other.name] = await self._stack.enter_async_context(FaultyProxy(other.route))
        await asyncio.gather(*(self._start(node) for node in self._nodes.values()))
        await self.settle()

    async def do(self, fault: Fault) -> None:
        """As ``Brokers.do``."""
        match fault.kind:
            case Kind.STREAM_LEADER_KILLED | Kind.CONSUMER_LEADER_KILLED | Kind.META_LEADER_KILLED:
                await self._restart(await self._leader(fault), fault.hold_s)
            case Kind.LEADER_FROZEN:
                await self._freeze(await self._leader(fault), fault.hold_s)
            case Kind.HOST_LOST:
                await self._restart(self._any(fault), fault.hold_s, wiped=True)
            case Kind.TWO_AWAY:
                stays = self._any(fault)
                away = [node for node in self._nodes.values() if node is not stays]
                await asyncio.gather(*(self._restart(node, fault.hold_s) for node in away))
            case Kind.BROKER_PARTED:
                async with self.parted((await self._leader(fault)).name, cut=fault.chance * 10 % 1 < 0.5):
                    await asyncio.sleep(fault.hold_s)
            case Kind.ALL_ROLLED:
                for node in self._nodes.values():
                    await self._replace(node, signal.SIGTERM, 0.0)
                    await self.settle()
            case Kind.LAME_DUCK:
                await self._replace(self._any(fault), signal.SIGUSR2, fault.hold_s)
            case Kind.REPLICAS_CHANGED:
                await self._copy_all()
            case _:  # of one broker, or of all
                spoilt = [self._any(fault)] if fault.chance < 0.7 else list(self._nodes.values())
                await asyncio.gather(*(spoil(node.before, fault) for node in spoilt))
        await self.settle()

    async def settle(self) -> None:
        """Wait until every copy is complete."""
        deadline_s = time.monotonic() + SETTLED_S
        while not await self._is_complete():
            if time.monotonic() > deadline_s:
                self.errors.append(f"copies are not complete within {SETTLED_S:.0f} s: {await self._groups()}")
                return
            await asyncio.sleep(_POLL_S)

    def _any(self, fault: Fault) -> _Node:
        """One of the brokers, by the chance of a fault."""
        return list(self._nodes.values())[int(fault.chance * 997) % BROKERS]

    async def _leader(self, fault: Fault) -> _Node:
        """The leader of a group that the fault is meant for; any broker if there is none."""
        groups = await self._groups()
        match fault.kind:
            case Kind.META_LEADER_KILLED:
                wanted = [name for name in groups if name == "meta"]
            case Kind.CONSUMER_LEADER_KILLED:
                wanted = [name for name in groups if "/" in name]
            case _:
                wanted = [name for name in groups if name != "meta" and "/" not in name]
        if not wanted:
            return self._any(fault)
        return self._nodes[groups[sorted(wanted)[int(fault.chance * len(wanted))]].leader]

    async def _restart(self, node: _Node, away_s: float, *, wiped: bool = False) -> None:
        """Kill it, and bring it back on its ports, with its disk or with an empty one."""
        if node.broker:
            node.broker.process.kill()
            await asyncio.to_thread(node.broker.stop)
        if wiped:
            await asyncio.to_thread(shutil.rmtree, node.store)
        await asyncio.sleep(away_s)
        await self._start(node)
        self.restarts += 1

    async def _replace(self, node: _Node, number: signal.Signals, away_s: float) -> None:
        """Have it end by itself, and bring it back."""
        if node.broker:
            node.broker.process.send_signal(number)
            deadline_s = time.monotonic() + LAME_DUCK_S
            while node.running:
                if time.monotonic() > deadline_s:
                    self.errors.append(f"{node.name} did not end within {LAME_DUCK_S:.0f} s of {number.name}")
                    break
                await asyncio.sleep(_POLL_S)
        await self._restart(node, away_s)

    async def _freeze(self, node: _Node, seconds: float) -> None:
        if node.broker:
            node.broker.process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(seconds)
            node.broker.process.send_signal(signal.SIGCONT)

    @asynccontextmanager
    async def parted(self, name: str, *, cut: bool = False) -> AsyncIterator[None]:
        """Nothing goes between a broker and the others; what was on its way comes afterwards, or with ``cut`` never."""
        others = [node for node in self._nodes.values() if node.name != name]
        between = [*self._nodes[name].to.values(), *(other.to[name] for other in others)]
        for proxy in between:
            proxy.black_hole(True)
        try:
            yield
        finally:
            for proxy in between:
                if cut:
                    await proxy.cut()
                proxy.black_hole(False)

    async def leader_of(self, group: str) -> str:
        """The name of the broker that leads ``STREAM``, ``STREAM/consumer`` or ``meta``."""
        await self.settle()
        return (await self._groups())[group].leader

    def url_of(self, name: str) -> str:
        """Of one broker, without the bad network before it."""
        broker = self._nodes[name].broker
        return broker.url if broker else ""

    async def _copy_all(self) -> None:
        """Three copies of every stream, while they are used."""
        client = await nats.connect(self.urls)
        try:
            admin = client.jetstream()
            for info in await admin.streams_info():
                await admin.update_stream(info.config.evolve(num_replicas=BROKERS))
        finally:
            await client.close()

    async def _start(self, node: _Node) -> None:
        """On the ports that it had, once it has had some; again with another for monitoring, where somebody else has taken that."""
        for left in reversed(range(_STARTS)):
            broker = self._broker(node)
            try:
                await asyncio.to_thread(broker.start)
            except BrokerError:
                if not left:
                    raise
                (node.monitor,) = _free_ports(1)
            else:
                node.broker = broker
                node.before.target_port = broker.port
                return

    def _broker(self, node: _Node) -> EmbeddedBroker:
        """Not yet started."""
        others = [f"nats://127.0.0.1:{other.route}" for other in self._nodes.values() if other is not node]
        config = _CONFIG.format(
            name=node.name, monitor=node.monitor, store=node.store, route=node.route, advertised=_NOWHERE,
            routes=", ".join([proxy.url for proxy in node.to.values()] or others),
        )  # fmt: skip
        port = node.broker.port if node.broker else -1
        return EmbeddedBroker("--log", str(node.log), port=port, config=config, binary=self.binary)

    def _stop_all(self) -> None:
        for node in self._nodes.values():
            if node.broker:
                node.broker.process.kill()
                node.broker.stop()

    async def _is_complete(self) -> bool:
        """Whether each broker is healthy, and each group has a leader who says that all its copies are complete."""
        healthy = await asyncio.gather(*(_get(node.monitor, "/healthz") for node in self._nodes.values()))
        if any(answer is None or answer.get("status") != "ok" for answer in healthy):
            return False
        groups = await self._groups()
        return (
            "meta" in groups and groups["meta"].copies == BROKERS and all(group.complete for group in groups.values())
        )

    async def _groups(self) -> dict[str, _Group]:
        """By name: ``meta``, ``STREAM``, ``STREAM/consumer``; as those see it who call themselves leaders."""
        nodes = [node for node in self._nodes.values() if node.running]
        found: dict[str, _Group] = {}
        answers = await asyncio.gather(*(_get(node.monitor, "/jsz?consumers=true") for node in nodes))
        for node, answer in zip(nodes, answers, strict=True):
            for name, cluster in _clusters(answer or {}):
                if cluster.get("leader") == node.name:
                    others = cluster.get("replicas") or []
                    complete = all(other.get("current") and not other.get("offline") for other in others)
                    found[name] = _Group(node.name, 1 + len(others), complete)
                elif not cluster.get("leader"):
                    found.setdefault(name, _Group(node.name, 0, complete=False))
        return found


def _clusters(answer: dict[str, Any]) -> Iterable[tuple[str, dict[str, Any]]]:
    """What a broker says of each group: its name, its leader, its copies."""
    yield "meta", answer.get("meta_cluster") or {"leader": "-"}
    for account in answer.get("account_details") or []:
        for stream in account.get("stream_detail") or []:
            yield stream["name"], stream.get("cluster") or {}
            for consumer in stream.get("consumer_detail") or []:
                yield f"{stream['name']}/{consumer['name']}", consumer.get("cluster") or {}


async def _get(port: int, path: str) -> dict[str, Any] | None:
    """An answer of a broker's monitoring port; None if there is none."""
    with suppress(OSError, TimeoutError, ValueError, asyncio.IncompleteReadError):
        async with asyncio.timeout(_HTTP_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
                _, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
            finally:
                writer.close()
            answer: dict[str, Any] = json.loads(body)
            return answer
    return None


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, all different."""
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in servers]
    for server in servers:
        server.close()
    return ports
