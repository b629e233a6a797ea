import importlib
import json
import subprocess
import sys
import time
from collections import defaultdict

import pytest

from bench.paced import PAYLOAD_FRAMES, Plan, publish
from bench.report import header, quantiles
from tests.harness import ROOT, until

BENCHES = ("pipeline", "ingest", "memory", "resampler")


@pytest.mark.parametrize("name", BENCHES)
def test_a_bench_says_what_it_measures_and_can_be_run(name):
    module = importlib.import_module(f"bench.{name}")

    assert module.__doc__
    assert callable(module.measure)


def test_every_figure_has_its_machine_versions_and_commit_beside_it():
    about = header("pipeline")

    assert about["name"] == "pipeline"
    assert set(about["machine"]) == {"cpu", "cores", "memory_mb", "kernel", "python", "load_1min"}
    assert about["machine"]["cores"] >= 1
    assert about["versions"].keys() >= {"transcriber", "nats-py", "nats-server", "pywhispercpp", "numpy", "soxr"}
    assert all(about["versions"].values())
    assert about["commit"]


def test_the_commit_is_that_of_the_tree_and_unknown_without_one(monkeypatch):
    monkeypatch.setenv("GIT_DIR", "/nowhere")

    assert header("pipeline")["commit"] == "unknown"


def test_quantiles_of_nothing_are_not_known():
    assert quantiles([3.0, 1.0, 2.0], median=0.5, most=1.0) == {"median": 2.0, "most": 3.0}
    assert quantiles([], median=0.5) == {"median": None}


@pytest.mark.parametrize(("headers", "offset"), [("none", None), ("publish", str(4 * PAYLOAD_FRAMES))])
async def test_the_paced_publisher_sends_what_its_plan_says(broker, mouth, headers, offset):
    heard = defaultdict(list)

    async def hear(message):
        heard[message.subject].append(message)

    await mouth.subscribe("audio.*", cb=hear)
    await mouth.flush()
    plan = Plan(broker.url, ("a", "b"), payloads=5, ramp_s=0.05, start_s=time.monotonic(), headers=headers)

    late_s = publish(plan)

    await until(lambda: [len(messages) for messages in heard.values()] == [6, 6])
    assert min(late_s) >= 0
    for *payloads, end in heard.values():
        assert {len(message.data) for message in payloads} == {2 * PAYLOAD_FRAMES}
        assert (payloads[-1].headers or {}).get("Audio-Offset") == offset
        assert (end.data, end.headers["Audio-End"]) == (b"", "1")


def test_a_bench_prints_one_json_object_as_its_last_line():
    done = subprocess.run(
        [sys.executable, "-m", "bench.resampler", "--quick"],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=100,
    )  # fmt: skip

    printed = json.loads(done.stdout.splitlines()[-1])

    assert set(printed) == {"name", "machine", "versions", "commit", "results"}
    assert printed["name"] == "resampler"
    assert set(printed["results"]["held_back_ms_max_by_rate"]["HQ"]) >= {"8000", "48000"}
    assert "resampler: HQ" in done.stderr
