import json
import subprocess
import sys
import time
from collections import defaultdict

import pytest

from bench.lib.paced import PAYLOAD_BYTES, PAYLOAD_FRAMES, Plan, publish
from bench.lib.report import header, run
from tests.support.daemon import ROOT
from tests.support.waiting import PATIENCE_S, settled, until


def test_every_figure_has_its_machine_versions_and_commit_beside_it():
    about = header("pipeline")

    assert about["name"] == "pipeline"
    assert set(about["machine"]) == {"cpu", "cores", "memory_mb", "kernel", "python", "load_1min"}
    assert about["machine"]["cores"] >= 1
    assert about["versions"].keys() >= {"nats-transcriber", "nats-py", "nats-server", "pywhispercpp", "numpy", "soxr"}
    assert all(about["versions"].values())
    assert about["commit"]


def test_the_commit_is_that_of_the_tree_and_unknown_without_one(monkeypatch):
    monkeypatch.setenv("GIT_DIR", "/nowhere")

    assert header("pipeline")["commit"] == "unknown"


@pytest.mark.parametrize(("headers", "offset"), [("none", None), ("publish", str(4 * PAYLOAD_FRAMES))])
async def test_the_paced_publisher_sends_what_its_plan_says(broker, publisher, headers, offset):
    heard = defaultdict(list)

    async def hear(message):
        heard[message.subject].append(message)

    await publisher.subscribe("audio.*", cb=hear)
    await settled(publisher)
    plan = Plan(broker.url, ("a", "b"), payloads=5, ramp_s=0.05, start_s=time.monotonic(), headers=headers)

    late_s = publish(plan)

    await until(lambda: [len(messages) for messages in heard.values()] == [6, 6])
    assert min(late_s) >= 0
    for *payloads, end in heard.values():
        assert {len(message.data) for message in payloads} == {2 * PAYLOAD_FRAMES}
        assert (payloads[-1].headers or {}).get("Audio-Offset") == offset
        assert (end.data, end.headers["Audio-End"]) == (b"", "1")


async def test_paced_streams_play_what_they_are_given_each_from_a_place_of_its_own(broker, publisher):
    heard = defaultdict(list)

    async def hear(message):
        heard[message.subject].append(message.data[:1])

    await publisher.subscribe("audio.*", cb=hear)
    await settled(publisher)
    pcm = b"".join(bytes([number]) * PAYLOAD_BYTES for number in range(4))

    publish(Plan(broker.url, ("a", "b"), payloads=5, ramp_s=0.0, start_s=time.monotonic(), pcm=pcm))

    await until(lambda: [len(payloads) for payloads in heard.values()] == [6, 6])
    assert heard["audio.a"] == [b"\0", b"\1", b"\2", b"\3", b"\0", b""]
    assert heard["audio.b"] == [b"\2", b"\3", b"\0", b"\1", b"\2", b""]


def test_a_bench_is_given_its_own_options(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["bench", "--quick", "--rounds", "3"])

    run("rounds", dict, lambda parser: parser.add_argument("--rounds", type=int))

    assert json.loads(capsys.readouterr().out)["results"] == {"quick": True, "rounds": 3}


def test_a_bench_prints_one_json_object_as_its_last_line():
    done = subprocess.run(
        [sys.executable, "-m", "bench.resampler", "--quick"],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=PATIENCE_S,
    )  # fmt: skip

    printed = json.loads(done.stdout.splitlines()[-1])

    assert set(printed) == {"name", "machine", "versions", "commit", "results"}
    assert printed["name"] == "resampler"
    assert set(printed["results"]["held_back_ms_max_by_rate"]["HQ"]) >= {"8000", "48000"}
    assert "resampler: HQ" in done.stderr
