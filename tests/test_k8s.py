"""The cluster's manifests, rendered by kubectl and checked against Kubernetes' schemas; the alert rules, by promtool."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from transcriber.config import load_settings, settings_fields
from transcriber.telemetry.figures import Counters
from transcriber.telemetry.instruments import INSTRUMENTS

ROOT = Path(__file__).parents[1]
OVERLAYS = ROOT / "k8s/overlays"
STREAMS = sorted(folder.name for folder in OVERLAYS.iterdir() if folder.name != "gpu")
RULES = ROOT / "k8s/prometheus/rules.yaml"


def promtool(*arguments):
    """Run promtool. Where there is none the test is skipped, but CI installs it, so there it fails."""
    path = shutil.which("promtool")
    if path is None and os.environ.get("CI") != "true":
        pytest.skip("promtool is not installed (Debian package prometheus)")
    assert path, "promtool is not installed"
    return subprocess.run([path, *arguments], cwd=RULES.parent, capture_output=True, text=True, check=False)


def render(folder):
    """The objects of a kustomization, by kind. No package registry has a kubectl that is new enough."""
    if not (kubectl := shutil.which("kubectl")):
        pytest.skip("kubectl is not installed (1.22 or newer; Debian 12 has 1.20)")
    rendered = subprocess.run([kubectl, "kustomize", folder], capture_output=True, text=True, check=False)
    assert rendered.returncode == 0, rendered.stderr
    assert not rendered.stderr  # warnings: something deprecated
    return {found["kind"]: found for found in yaml.safe_load_all(rendered.stdout)}


@pytest.fixture(params=STREAMS)
def stream(request):
    return request.param


@pytest.fixture
def objects(stream):
    return render(OVERLAYS / stream)


def pod_of(objects):
    return objects["Deployment"]["spec"]["template"]["spec"]


def container_of(objects):
    (container,) = pod_of(objects)["containers"]
    return container


@pytest.mark.parametrize("folder", ["namespace", "base", "overlays/gpu", *(f"overlays/{name}" for name in STREAMS)])
def test_manifests_fit_the_newest_schemas_strictly(folder):
    for manifest in render(ROOT / "k8s" / folder).values():
        kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


def test_misspelt_field_does_not_fit_the_schemas():
    (name, *_) = STREAMS
    deployment = render(OVERLAYS / name)["Deployment"]
    deployment["spec"]["replicsa"] = 2

    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, kubernetes_validate.latest_version(), strict=True)


def test_stream_has_one_daemon_at_a_time_and_its_own_names(stream, objects):
    deployment = objects["Deployment"]["spec"]

    assert deployment["replicas"] == 1
    assert deployment["strategy"] == {"type": "Recreate"}
    assert objects["ConfigMap"]["data"]["AUDIO_SUBJECT"] == f"audio.{stream}"
    assert {found["metadata"]["name"].startswith(f"transcriber-{stream}") for found in objects.values()} == {True}
    assert secret_of(objects) == f"transcriber-nats-{stream}"


def secret_of(objects):
    return next(volume["secret"]["secretName"] for volume in pod_of(objects)["volumes"] if "secret" in volume)


def test_selectors_choose_the_pods_of_this_stream_only(stream, objects):
    labels = {"app.kubernetes.io/name": "transcriber", "app.kubernetes.io/instance": stream}

    assert objects["Deployment"]["spec"]["template"]["metadata"]["labels"] == labels
    assert objects["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert objects["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert objects["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels


def test_settings_are_known_and_good(objects, monkeypatch):
    container = container_of(objects)
    cores = container["resources"]["requests"]["cpu"]
    given = objects["ConfigMap"]["data"] | {e["name"]: e.get("value", cores) for e in container["env"]}
    ours = {name: value for name, value in given.items() if not name.startswith(("OTEL_", "POD_", "NODE_"))}

    for name, value in ours.items():
        monkeypatch.setenv(name, value)

    assert {name.lower() for name in ours} <= set(settings_fields())
    load_settings()


def test_paths_of_the_settings_are_mounted(objects):
    settings = objects["ConfigMap"]["data"]
    mounts = {mount["mountPath"]: mount.get("readOnly", False) for mount in container_of(objects)["volumeMounts"]}

    assert mounts == {"/models": True, "/etc/nats": True, "/tmp": False}  # noqa: S108 - the pod's own
    assert Path(settings["WHISPER_MODEL_PATH"]).parent == Path("/models")
    assert Path(settings["NATS_NKEY_SEED_FILE"]).parent == Path("/etc/nats")


def test_pod_outlives_the_grace_period_of_the_daemon(objects):
    settings = objects["ConfigMap"]["data"]

    assert float(settings["SHUTDOWN_GRACE_SECS"]) == float(settings["MAX_LATENCY_SECS"])
    assert pod_of(objects)["terminationGracePeriodSeconds"] > float(settings["SHUTDOWN_GRACE_SECS"]) + 2


def test_probes_ask_the_health_port_and_wait_for_a_large_model(objects):
    container = container_of(objects)
    probes = {kind: container[f"{kind}Probe"] for kind in ("startup", "readiness", "liveness")}

    paths = {kind: probe["httpGet"]["path"] for kind, probe in probes.items()}
    ports = {probe["httpGet"]["port"] for probe in probes.values()}

    assert paths == {"startup": "/startupz", "readiness": "/readyz", "liveness": "/livez"}
    assert ports == {port["name"] for port in container["ports"]}
    assert container["ports"][0]["containerPort"] == load_settings().health_port
    assert probes["startup"]["periodSeconds"] * probes["startup"]["failureThreshold"] >= 300


def test_pod_meets_the_restricted_security_standard(objects):
    pod, container = pod_of(objects), container_of(objects)

    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10_001
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_resources_leave_the_cpu_unthrottled(objects):
    resources = container_of(objects)["resources"]

    assert resources["requests"] == {"cpu": "2", "memory": "2Gi"}
    assert "cpu" not in resources["limits"]
    assert resources["limits"]["memory"] == "4Gi"


def test_drain_of_a_node_is_not_blocked(objects):
    assert objects["PodDisruptionBudget"]["spec"]["maxUnavailable"] == 1


def test_network_lets_out_nats_otlp_and_dns_only(objects):
    policy = objects["NetworkPolicy"]["spec"]

    ways = [
        (peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"], port["protocol"], port["port"])
        for rule in policy["egress"]
        for peer in rule["to"]
        for port in rule["ports"]
    ]

    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in policy
    assert ways == [
        ("nats", "TCP", 4222),
        ("observability", "TCP", 4317),
        ("kube-system", "UDP", 53),
        ("kube-system", "TCP", 53),
    ]
    # kustomize would have added this stream's labels to them, and the peers would be nobody.
    assert not any("podSelector" in peer for rule in policy["egress"] for peer in rule["to"])


def test_gpu_overlay_takes_one_gpu_and_the_image_for_it():
    container = container_of(render(OVERLAYS / "gpu"))

    assert container["resources"]["limits"] == {"memory": "4Gi", "nvidia.com/gpu": 1}
    assert container["image"].endswith("-cuda")


def test_image_tag_is_the_version_of_the_project(objects):
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

    assert container_of(objects)["image"].removesuffix("-cuda") == f"transcriber:{version}"


@pytest.mark.parametrize(("verb", "file"), [("check", RULES), ("test", RULES.with_name("rules_test.yaml"))])
def test_promtool_passes_the_rules(verb, file):
    ran = promtool(verb, "rules", file)

    assert ran.returncode == 0, ran.stdout + ran.stderr


def rules():
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def test_every_alert_is_seen_firing():
    seen = re.findall(r'alertname="(\w+)"', RULES.with_name("rules_test.yaml").read_text())

    assert set(seen) == {rule["alert"] for rule in rules()}


def test_every_reason_to_lose_audio_has_an_alert():
    seen = set(re.findall(r'transcriber_(\w+)_total{reason="(\w+)"}', RULES.read_text()))
    counters = Counters()

    # queue_full is what TranscriptionJobsDropping is about; an overlap was heard before.
    jobs = {("jobs_dropped", reason) for reason in counters.jobs_dropped if reason != "queue_full"}
    chunks = {("chunks_dropped", reason) for reason in counters.chunks_dropped if reason != "overlap"}
    told = {reason for _, reason in jobs | chunks} | {"queue_full"}
    assert seen == jobs | chunks | {("gaps", reason) for reason in counters.gaps if reason not in told}


def test_rules_read_what_the_daemon_exports():
    suffixes = {
        "gauge": [""],
        "counter": ["_total"],
        "histogram": ["_bucket", "_milliseconds_bucket"],  # with the unit, or without: as the collector is set
    }
    exported = {i.name.replace(".", "_") + suffix for i in INSTRUMENTS for suffix in suffixes[i.kind]}

    used = {
        pattern: {name for name in exported if re.fullmatch(pattern, name)}
        for rule in rules()
        for pattern in re.findall(r"transcriber_[\w()?]*\w", rule["expr"])
    }

    assert all(used.values()), used
    assert {"transcriber_end_to_end_latency_ms_bucket", "transcriber_end_to_end_latency_ms_milliseconds_bucket"} in (
        used.values()
    )
