"""What a child process that may crash, hang or print anything has for an answer."""

import subprocess

import pytest

from tests.support.waiting import PATIENCE_S
from transcriber import child_process
from transcriber.child_process import ChildError, ask


def shell(script):
    return ask(["/bin/sh", "-c", script], PATIENCE_S)


def test_the_answer_is_the_last_line():
    assert shell("""echo '{"no": 1}'; echo noise; echo '{"yes": 2}'""") == {"yes": 2}


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (":", "gave no answer"),
        ("echo '{}'; echo noise", "gave no answer"),
        ("echo 5", "gave no answer"),
        ("echo one >&2; echo two >&2; exit 3", "failed with status 3: two"),
        ("echo one >&2; echo two >&2; kill -ABRT $$", "ended by Aborted: one"),
        ("kill -ABRT $$", "ended by Aborted"),
    ],
)
def test_where_there_is_none_the_reason_is_one_line(script, reason):
    with pytest.raises(ChildError) as caught:
        shell(script)

    assert str(caught.value) == reason


@pytest.fixture
def unkillable(monkeypatch):
    """Children that a call into a driver keeps from ending; they are killed afterwards."""
    kill = subprocess.Popen.kill
    kept: list[subprocess.Popen[bytes]] = []
    monkeypatch.setattr(subprocess.Popen, "kill", lambda child: kept.append(child))  # noqa: PLW0108 - a method is called with itself
    monkeypatch.setattr(child_process, "KILL_S", 0.01)
    yield kept
    for child in kept:
        kill(child)
        child.wait(PATIENCE_S)


def test_a_child_that_cannot_be_killed_holds_nobody(unkillable):
    with pytest.raises(ChildError, match=r"^took longer than 0\.01 s$"):
        ask(["/bin/sleep", "1000"], 0.01)

    assert len(unkillable) == 1


def test_a_child_that_cannot_be_started_is_said():
    with pytest.raises(ChildError, match="cannot be started: Argument list too long"):
        ask(["/bin/true", "x" * 10_000_000], PATIENCE_S)
