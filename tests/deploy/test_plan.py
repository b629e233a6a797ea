"""What ``transcriber plan`` prints for Kubernetes: an overlay that kubectl renders, and values that the chart takes."""

import json
import re
import shutil
from pathlib import Path

import jsonschema
import pytest
import yaml

from tests.deploy.test_chart import chart
from tests.deploy.test_k8s import ROOT, render
from tests.unit.plan.test_sizing import WISHES, row, settings
from transcriber.bus.jetstream.provision import stream_configs
from transcriber.config import load_settings
from transcriber.models.catalog import DEMO_MODEL
from transcriber.models.find import find_model
from transcriber.plan.report import as_kustomization, as_values
from transcriber.plan.sizing import plan

GIVEN = {
    "speakers": "channels", "speech_gate": False, "endpoint_silence_secs": 0.75, "input_sample_rate": 16_000, "input_channels": 2,
    "whisper_device": "cuda", "whisper_prompt": "Zoë: #1", "transcript_max_age_secs": 2_592_000, "stream_replicas": 3,
}  # fmt: skip


@pytest.fixture(params=["Deployment", "StatefulSet"], scope="module")
def planned(request):
    """The kind, the settings and the plan of live and of durable daemons."""
    as_set = settings(durable=request.param == "StatefulSet", **GIVEN)
    return request.param, as_set, plan(row(), as_set, WISHES)


@pytest.fixture
def overlay(tmp_path):
    """Renders what is written as an overlay of a copy of our manifests."""
    shutil.copytree(ROOT / "k8s", tmp_path / "k8s", symlinks=True)
    (folder := tmp_path / "k8s/overlays/planned").mkdir()

    def rendered(text):
        (folder / "kustomization.yaml").write_text(text)
        return render(folder)

    return rendered


def values(planned, **operators):
    """What the plan prints for the chart, as its schema knows it, beside what an operator has."""
    _, as_set, found = planned
    given = yaml.safe_load(as_values(found, as_set))
    jsonschema.validate(given, json.loads((ROOT / "k8s/chart/values.schema.json").read_text()))
    return given | operators


def of_chart(template, given):
    return {found["kind"]: found for found in chart(template, **given)}


def daemon_of(objects, kind):
    """The settings that the pods have, and their container."""
    pod = objects[kind]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    data = objects["ConfigMap"]["data"]
    return load_settings(**{name.lower(): text for name, text in data.items() if text}), container, pod


def check_daemon(planned, objects):
    kind, as_set, found = planned
    had, container, pod = daemon_of(objects, kind)

    assert find_model(had) == Path("/models/ggml-tiny.en.bin")
    assert {name: getattr(had, name) for name in GIVEN} == GIVEN
    assert (had.durable, had.max_latency_secs) == (as_set.durable, 10.0)
    assert container["image"].endswith("-cuda")
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert container["resources"]["requests"]["cpu"] == "2"
    assert "nvidia.com/gpu" in {toleration["key"] for toleration in pod["tolerations"]}
    assert objects[kind]["spec"].get("replicas", 1) == (found.replicas if had.durable else 1)
    threads = [each for each in container["env"] if each["name"] == "WHISPER_THREADS"]
    assert threads in ([], [{"name": "WHISPER_THREADS", "value": "1"}])
    assert threads or had.whisper_threads == 1


def check_made(as_set, found, made, live):
    """Of the streams that are made, that they keep what is planned; and that the daemons find them as they want them."""
    assert stream_configs(made) == stream_configs(live)
    assert (made.audio_max_age_secs, made.transcript_max_age_secs, made.stream_replicas) == (3600, 2_592_000, 3)
    assert made.audio_max_bytes >= 1.2 * found.audio_bytes > 2**30
    assert made.transcript_max_bytes >= 1.2 * found.text_bytes
    assert made.partitions == found.partitions == live.partitions
    assert as_set.audio_max_age_secs == made.audio_max_age_secs


def test_the_overlay_of_a_plan_deploys_what_was_planned(planned, overlay):
    _, as_set, found = planned

    check_daemon(planned, overlay(as_kustomization(found, as_set)))


def test_the_chart_with_the_values_of_a_plan_deploys_what_was_planned(planned):
    template = "partitions" if planned[0] == "StatefulSet" else "streams"

    check_daemon(planned, of_chart(template, values(planned)))


@pytest.fixture(scope="module")
def durable():
    as_set = settings(durable=True, **GIVEN)
    return "StatefulSet", as_set, plan(row(), as_set, WISHES)


def test_the_job_of_the_chart_makes_the_streams_of_the_plan(durable):
    kind, as_set, found = durable
    job, partitions = (of_chart(name, values(durable)) for name in ("provision", "partitions"))

    made = load_settings(**{name.lower(): text for name, text in job["ConfigMap"]["data"].items()})
    check_made(as_set, found, made, daemon_of(partitions, kind)[0])


def test_nack_makes_the_streams_of_the_plan(durable):
    _, as_set, found = durable
    rendered = chart("nack", **values(durable, jetstream="nack"))
    specs = {made["spec"]["name"]: made["spec"] for made in rendered if made["kind"] == "Stream"}

    assert (specs["AUDIO"]["maxAge"], specs["TRANSCRIPTS"]["maxAge"]) == ("3600s", "2592000s")
    assert specs["AUDIO"]["maxBytes"] >= 1.2 * found.audio_bytes
    assert specs["TRANSCRIPTS"]["maxBytes"] >= 1.2 * found.text_bytes
    assert {spec["replicas"] for spec in specs.values()} == {as_set.stream_replicas}


def test_beside_the_overlay_the_provision_job_gets_its_literals(durable, overlay):
    kind, as_set, found = durable
    text = as_kustomization(found, as_set)
    partitions = overlay(text)

    literals = "".join(f"{line}\n" for line in re.findall("^# ( +- .*)$", text, re.MULTILINE))
    made_by = "resources: [../../provision]\nconfigMapGenerator:\n- name: transcriber-provision\n  behavior: merge\n"
    job = overlay(f"{made_by}  literals:\n{literals}")
    made = load_settings(**{name.lower(): value for name, value in job["ConfigMap"]["data"].items()})
    check_made(as_set, found, made, daemon_of(partitions, kind)[0])


def test_the_bundled_model_is_deployed_as_such(overlay):
    as_set = settings()
    found = plan(row(model="demo"), as_set, WISHES)

    by_kustomize = overlay(as_kustomization(found, as_set))
    by_the_chart = of_chart("streams", yaml.safe_load(as_values(found, as_set)))
    for objects in (by_kustomize, by_the_chart):
        had, _, _ = daemon_of(objects, "Deployment")
        assert find_model(had) == DEMO_MODEL


def test_an_overlay_has_files_and_what_makes_their_buckets(overlay):
    as_set = settings(files=True)
    found = plan(row(file_ms=1000.0), as_set, WISHES)

    text = as_kustomization(found, as_set)
    assert daemon_of(overlay(text), "Deployment")[0].files
    assert '#   - "FILES=1"' in text
