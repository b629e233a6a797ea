"""``transcriber admin`` and the daemon's endpoint, without a daemon behind it."""

import json
from typing import Any

import pytest

from tests.support.daemon import run
from tests.support.waiting import PATIENCE_S
from transcriber.admin.endpoint import AdminEndpoint
from transcriber.bus.client_session import connected
from transcriber.clients.admin_command import swap_model
from transcriber.config import load_settings
from transcriber.errors import ConfigError, RequestError
from transcriber.schema.admin import StatusRequest, Swap, SwapRequest


class Answering:
    """The endpoint of a daemon whose swaps end as ``ends`` says, at the second look."""

    def __init__(self, connection, instance, **ends):
        self.asked, self.ends = [], ends
        self.swap: Any = None
        actions: dict[type, Any] = {SwapRequest: self.begin, StatusRequest: self.look}
        self.endpoint = AdminEndpoint(connection, instance, actions, lambda: {"model": "demo", "swap": self.swap})

    async def begin(self, request):
        if self.swap and self.swap.state == "loading":
            raise RequestError(409, "a swap is under way: base")
        self.asked.append(request)
        self.swap = Swap(
            number=len(self.asked), model=request.model, by=request.by, at="2026-01-01T00:00:00Z", state="loading"
        )

    async def look(self, _):
        if self.swap:
            self.swap = self.swap.model_copy(update=self.ends)


OPTIONS: dict[str, Any] = {"instance": None, "every": False, "unload_first": False, "by": "ada"}


async def test_a_daemon_is_swapped_alone_or_all_one_after_the_other_until_one_refuses(broker, capsys):
    settings = load_settings(nats_url=broker.url)
    async with connected(settings, "daemons") as connection:
        daemons = [
            Answering(connection, "a", state="swapped"),
            Answering(connection, "b", state="failed", error="the file is truncated"),
            Answering(connection, "c", state="swapped"),
        ]
        await daemons[0].endpoint.start()
        assert await swap_model(settings, "base", **OPTIONS) == 0
        assert capsys.readouterr().out == "a: swapped: demo\n"
        for daemon in daemons[1:]:
            await daemon.endpoint.start()
        with pytest.raises(ConfigError, match="3 daemons answer: --all, or --instance with one of a, b, c"):
            await swap_model(settings, "base", **OPTIONS)
        assert await swap_model(settings, "base", **OPTIONS | {"every": True, "unload_first": True}) == 1
        shown = capsys.readouterr()
        assert (shown.out, shown.err) == (
            "a: swapped: demo\n",
            "transcriber: b: failed: the file is truncated; it keeps demo\n",
        )
        assert await swap_model(settings, "base", **OPTIONS | {"instance": "d"}) == 1
        assert capsys.readouterr().err == "transcriber: no daemon answers on transcriber.admin.d (ADMIN_REQUESTS=1)\n"
        daemons[2].swap = daemons[0].swap.model_copy(update={"state": "loading"})
        assert await swap_model(settings, "base", **OPTIONS | {"instance": "c"}) == 1
        assert capsys.readouterr().err == "transcriber: c: a swap is under way: base\n"
    assert [len(daemon.asked) for daemon in daemons] == [2, 1, 0]
    assert [(one.by, one.unload_first) for one in daemons[0].asked] == [("ada", False), ("ada", True)]


WRONG = {
    b"": "Invalid JSON: EOF while parsing a value at line 1 column 0",
    b"[]": "Input should be an object",
    b'{"action": "stop"}': "Input tag 'stop' found using 'action' does not match any of the expected tags: 'status', 'swap'",
    b'{"action": "swap"}': "swap.model: Field required",
    b'{"action": "swap", "model": "../etc/passwd"}': "swap.model: String should match pattern '^[A-Za-z0-9][A-Za-z0-9._-]*$'",
    b'{"schema": 2, "action": "status"}': "status.schema: Input should be 1",
}


async def test_what_cannot_be_read_is_answered_with_what_is_wrong(broker, publisher):
    async with connected(load_settings(nats_url=broker.url), "daemon") as connection:
        await Answering(connection, "a").endpoint.start()
        await publisher.publish("transcriber.admin.a", b"")  # nobody waits for an answer
        for request, error in WRONG.items():
            answer = json.loads((await publisher.request("transcriber.admin.a", request, timeout=PATIENCE_S)).data)
            assert (answer["instance"], answer["error"]) == ("a", error)
        good = await publisher.request("transcriber.admin", b'{"action": "status", "as": "ada"}', timeout=PATIENCE_S)
    followed = {"settings": [], "settings_left_out": 0, "revision": None}
    assert (
        json.loads(good.data) == {"schema": 1, "instance": "a", "model": "demo", "swap": None, "error": ""} | followed
    )


async def test_a_swap_that_is_sent_to_all_daemons_changes_none(broker, publisher):
    """Whoever changes settings may ask all for their state (``CONFIGURATOR`` of ``k8s/nats/nats.conf``), and not swap them."""
    async with connected(load_settings(nats_url=broker.url), "daemon") as connection:
        daemon = Answering(connection, "a")
        await daemon.endpoint.start()
        swap = b'{"action": "swap", "model": "base", "unload_first": true}'
        refused = json.loads((await publisher.request("transcriber.admin", swap, timeout=PATIENCE_S)).data)
        assert refused["error"] == "only status is asked of all; swap is for transcriber.admin.a"
        assert daemon.asked == []
        taken = json.loads((await publisher.request("transcriber.admin.a", swap, timeout=PATIENCE_S)).data)
    assert (taken["error"], len(daemon.asked)) == ("", 1)


def test_the_command_line_has_one_line_for_what_is_wrong(broker):
    def admin(*arguments):
        return run("admin", *arguments, NATS_URL=broker.url)

    assert admin("swap", "base") == (1, "transcriber: no daemon answers on transcriber.admin (ADMIN_REQUESTS=1)")
    status, said = admin("swap", "a/b.bin")
    assert (status, said.count("\n")) == (2, 0)
    assert said.startswith("transcriber: 'a/b.bin' is no name of a model")
