"""The cluster's manifests, rendered by kubectl and checked against Kubernetes' schemas; the alert rules, by promtool."""

import re
import subprocess
import tomllib
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml
from nats.js.api import SubjectTransform

from tests.support import requirements
from transcriber.bus.jetstream.file_streams import JOBS, file_streams, job_consumers
from transcriber.bus.jetstream.provision import audio_filter, consumer_config, stream_configs
from transcriber.config import load_settings, settings_fields
from transcriber.gateway.guard import PROBES
from transcriber.gateway.keys import loopback
from transcriber.gateway.server import OTLP_S, STOP_S
from transcriber.models.catalog import SHA1, model_path
from transcriber.telemetry.environment import prometheus_address
from transcriber.telemetry.figures import Counters
from transcriber.telemetry.gateway_figures import GatewayFigures
from transcriber.telemetry.instruments import GATEWAY_INSTRUMENTS, INSTRUMENTS

ROOT = Path(__file__).parents[2]
OVERLAYS = ROOT / "k8s/overlays"
DURABLE = "radio-7-durable"
STREAMS = sorted(folder.name for folder in OVERLAYS.iterdir() if folder.name not in {"gpu", DURABLE})
OURS = {"keda.sh", "jetstream.nats.io", "monitoring.coreos.com"}
"""API groups that Kubernetes itself has no schema of."""
RULES = ROOT / "k8s/prometheus/rules.yaml"


def render(folder):
    """The objects of a kustomization, by kind."""
    return {found["kind"]: found for found in render_all(folder)}


def render_all(folder):
    """The objects of a kustomization."""
    kubectl = requirements.program("kubectl", "1.22 or newer, from kubernetes.io; Debian 12 has 1.20")
    rendered = subprocess.run([kubectl, "kustomize", folder], capture_output=True, text=True, check=False)
    assert rendered.returncode == 0, rendered.stderr
    assert not rendered.stderr  # warnings: something deprecated
    return list(yaml.safe_load_all(rendered.stdout))


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


@pytest.mark.parametrize(
    "folder",
    [
        "namespace",
        "base",
        "models",
        "provision",
        "partitions",
        "files",
        "gateway",
        "scrape",
        "gpu-sharing",
        *(f"overlays/{folder.name}" for folder in sorted(OVERLAYS.iterdir())),
    ],
)
def test_manifests_fit_the_newest_schemas_strictly(folder):
    manifests = [m for m in render_all(ROOT / "k8s" / folder) if m["apiVersion"].partition("/")[0] not in OURS]

    assert manifests
    for manifest in manifests:
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


def test_drain_of_a_node_is_not_blocked_even_without_a_broker(objects, gateway):
    for budget in (objects["PodDisruptionBudget"]["spec"], gateway["PodDisruptionBudget"]["spec"]):
        assert budget["maxUnavailable"] == 1
        assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


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


def settings_of(objects, monkeypatch, **by_kubernetes):
    """The settings as the pod will have them; ``by_kubernetes`` is what it fills in."""
    given = objects["ConfigMap"]["data"] | {e["name"]: e["value"] for e in containers_env(objects) if "value" in e}
    for name, value in (given | by_kubernetes).items():
        if not name.startswith(("OTEL_", "POD_", "NODE_")):
            assert name.lower() in settings_fields()
            monkeypatch.setenv(name, value)
    return load_settings()


def containers_env(objects):
    workload = next(objects[kind] for kind in ("Deployment", "StatefulSet", "Job") if kind in objects)
    (container,) = workload["spec"]["template"]["spec"]["containers"]
    return container.get("env", [])


def test_durable_overlay_is_the_stream_s_own_with_other_settings(monkeypatch):
    live, durable = render(OVERLAYS / "radio-7"), render(OVERLAYS / DURABLE)

    settings = settings_of(durable, monkeypatch)

    assert (settings.durable, settings.provision, settings.audio_subject) == (True, False, "audio.radio-7")
    assert settings.nats_inbox_prefix == "_INBOX_durable-radio-7"
    assert durable["Deployment"]["metadata"] == live["Deployment"]["metadata"]
    assert durable["Deployment"]["spec"]["strategy"] == {"type": "Recreate"}
    assert secret_of(durable) == "transcriber-nats-radio-7-durable"
    assert pod_of(durable)["terminationGracePeriodSeconds"] > settings.shutdown_grace_secs + 2


def test_keda_scales_the_durable_daemon_between_none_and_one():
    objects = render(OVERLAYS / DURABLE)
    scaled = objects["ScaledObject"]
    (trigger,) = scaled["spec"]["triggers"]

    assert scaled["apiVersion"] == "keda.sh/v1alpha1"
    assert scaled["metadata"]["namespace"] == objects["Deployment"]["metadata"]["namespace"]
    assert scaled["spec"]["scaleTargetRef"] == {"name": objects["Deployment"]["metadata"]["name"]}
    assert (scaled["spec"]["minReplicaCount"], scaled["spec"]["maxReplicaCount"]) == (0, 1)
    assert trigger["type"] == "nats-jetstream"
    assert set(trigger["metadata"]) == {
        "natsServerMonitoringEndpoint",
        "account",
        "stream",
        "consumer",
        "lagThreshold",
        "activationLagThreshold",
    }
    assert all(isinstance(value, str) for value in trigger["metadata"].values())  # KEDA takes nothing else
    assert trigger["metadata"]["stream"] == load_settings().audio_stream
    assert trigger["metadata"]["consumer"] == consumer_config(load_settings(), "radio-7").durable_name
    assert f"{trigger['metadata']['account']}: {{" in (ROOT / "k8s/nats/nats.conf").read_text()
    window_payloads = load_settings().buffer_duration_secs / 0.1
    assert int(trigger["metadata"]["activationLagThreshold"]) == window_payloads


def test_each_pod_of_the_partitions_serves_its_own(monkeypatch):
    objects = render(ROOT / "k8s/partitions")
    spec = objects["StatefulSet"]["spec"]
    (ordinal,) = (e["valueFrom"]["fieldRef"]["fieldPath"] for e in containers_env(objects) if e["name"] == "PARTITION")

    filters = [audio_filter(settings_of(objects, monkeypatch, PARTITION=str(i))) for i in range(spec["replicas"])]

    assert filters == [f"audio.{i}.*" for i in range(load_settings().partitions)]
    assert ordinal == "metadata.labels['apps.kubernetes.io/pod-index']"
    assert load_settings().durable
    assert load_settings().provision
    assert spec["podManagementPolicy"] == "Parallel"
    assert "strategy" not in spec
    assert objects["PodDisruptionBudget"]["spec"]["maxUnavailable"] == 1
    assert "Deployment" not in objects


def test_daemons_of_files_share_the_work_and_hear_no_stream(monkeypatch):
    objects = render(ROOT / "k8s/files")
    spec = objects["Deployment"]["spec"]

    settings = settings_of(objects, monkeypatch)

    assert (settings.files, settings.provision, settings.jetstream) == (True, False, False)
    assert spec["replicas"] > 1
    assert spec["strategy"] == {"type": "RollingUpdate"}
    assert not settings.wildcard  # else each would transcribe every stream
    assert secret_of(objects) == "transcriber-nats-files"
    assert objects["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == spec["selector"]["matchLabels"]
    assert f'"{settings.audio_subject}", "{settings.nats_inbox_prefix}.>"' in (ROOT / "k8s/nats/nats.conf").read_text()


def test_prometheus_reaches_the_port_of_the_metrics_of_daemons_and_gateways(gateway, monkeypatch):
    scrape, daemon = render(ROOT / "k8s/scrape"), render(ROOT / "k8s/files")
    monitor, policy = scrape["PodMonitor"]["spec"], scrape["NetworkPolicy"]["spec"]
    (endpoint,), (rule,) = monitor["podMetricsEndpoints"], policy["ingress"]
    ((name, chosen),) = [(one["key"], one["values"]) for one in monitor["selector"]["matchExpressions"]]
    monkeypatch.delenv("OTEL_EXPORTER_PROMETHEUS_PORT", raising=False)

    labels = [objects["Deployment"]["spec"]["template"]["metadata"]["labels"][name] for objects in (daemon, gateway)]

    assert sorted(chosen) == sorted(labels)
    assert policy["podSelector"] == monitor["selector"]
    assert policy["policyTypes"] == ["Ingress"]
    assert [port["port"] for port in rule["ports"]] == [endpoint["portNumber"]] == [prometheus_address()[1]]
    assert {found["metadata"]["namespace"] for found in (*scrape.values(), daemon["Deployment"])} == {"transcriber"}


@pytest.fixture
def gateway():
    return render(ROOT / "k8s/gateway")


def test_gateways_have_settings_that_are_known_and_files_that_are_mounted(gateway, monkeypatch):
    settings = settings_of(gateway, monkeypatch)
    mounts = {mount["mountPath"] for mount in container_of(gateway)["volumeMounts"]}
    secrets = {one["secret"]["secretName"] for one in pod_of(gateway)["volumes"] if "secret" in one}

    assert container_of(gateway)["args"] == ["gateway"]
    assert not loopback(settings.gateway_host)
    assert settings.gateway_keys_file
    assert {str(settings.gateway_keys_file.parent), str(settings.nats_nkey_seed_file.parent)} == mounts - {"/tmp"}  # noqa: S108
    assert secrets == {"transcriber-nats-gateway", "transcriber-gateway-keys"}
    assert settings.nats_inbox_prefix == "_INBOX_gateway"


def test_several_gateways_take_turns_behind_a_service_and_one_goes_at_a_time(gateway):
    spec, labels = gateway["Deployment"]["spec"], gateway["Deployment"]["spec"]["template"]["metadata"]["labels"]
    (port,) = gateway["Service"]["spec"]["ports"]

    assert spec["replicas"] >= 2
    assert spec["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert gateway["PodDisruptionBudget"]["spec"]["maxUnavailable"] == 1
    assert gateway["Service"]["spec"]["selector"] == labels
    for kind, selector in (("PodDisruptionBudget", "selector"), ("NetworkPolicy", "podSelector")):
        assert gateway[kind]["spec"][selector]["matchLabels"] == labels
    assert [(one["name"], one["containerPort"]) for one in container_of(gateway)["ports"]] == [
        (port["targetPort"], load_settings().gateway_port)
    ]


def test_a_gateway_ends_in_its_grace_period_after_no_service_sends_to_it(gateway):
    before_s = container_of(gateway)["lifecycle"]["preStop"]["sleep"]["seconds"]

    assert before_s >= 5
    assert pod_of(gateway)["terminationGracePeriodSeconds"] > before_s + STOP_S + OTLP_S + 2


def test_probes_of_a_gateway_are_those_that_it_answers(gateway):
    container = container_of(gateway)
    paths = {kind: container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "readiness", "liveness")}

    assert paths == {"startup": "/readyz", "readiness": "/readyz", "liveness": "/livez"}
    assert set(paths.values()) == set(PROBES)


def test_a_gateway_is_as_restricted_as_a_daemon_and_takes_http_alone(gateway):
    daemon = render(ROOT / "k8s/files")
    policy = gateway["NetworkPolicy"]["spec"]
    (rule,) = policy["ingress"]

    assert pod_of(gateway)["securityContext"] == pod_of(daemon)["securityContext"]
    assert container_of(gateway)["securityContext"] == container_of(daemon)["securityContext"]
    assert container_of(gateway)["image"] == container_of(daemon)["image"]
    assert pod_of(gateway)["automountServiceAccountToken"] is False
    assert "cpu" not in container_of(gateway)["resources"]["limits"]
    assert policy["egress"] == daemon["NetworkPolicy"]["spec"]["egress"]
    assert rule["ports"] == [{"protocol": "TCP", "port": "http"}]
    assert all(rule["from"])


def test_provisioning_job_has_settings_that_are_known_and_the_daemons_rights(monkeypatch):
    objects = render(ROOT / "k8s/provision")
    spec = objects["Job"]["spec"]["template"]["spec"]

    settings = settings_of(objects, monkeypatch)

    assert spec["containers"][0]["args"] == ["provision", "radio-7"]
    assert settings.nats_inbox_prefix == "_INBOX_provisioner"
    assert not settings.files
    assert spec["securityContext"] == pod_of(render(OVERLAYS / DURABLE))["securityContext"]
    assert spec["containers"][0]["securityContext"] == container_of(render(OVERLAYS / DURABLE))["securityContext"]


def test_the_job_of_models_fetches_what_the_daemons_load(monkeypatch):
    objects, daemon = render(ROOT / "k8s/models"), render(ROOT / "k8s/base")
    spec = objects["Job"]["spec"]["template"]["spec"]
    (container,), (volume,) = spec["containers"], spec["volumes"]
    command, verb, name = container["args"]

    folder = settings_of(objects, monkeypatch).whisper_model_dir

    assert (command, verb) == ("models", "pull")
    assert name in SHA1
    assert str(model_path(folder, name)) == daemon["ConfigMap"]["data"]["WHISPER_MODEL_PATH"]
    assert container["volumeMounts"] == [{"name": volume["name"], "mountPath": str(folder)}]
    assert volume["persistentVolumeClaim"] == {
        "claimName": render(ROOT / "k8s/namespace")["PersistentVolumeClaim"]["metadata"]["name"]
    }
    assert spec["securityContext"] == pod_of(daemon)["securityContext"]
    assert container["securityContext"] == container_of(daemon)["securityContext"]


@pytest.mark.parametrize("folder", ["provision", "models"])
def test_policy_of_a_job_is_that_of_its_pods_and_lets_nothing_in(folder):
    objects = render(ROOT / "k8s" / folder)
    policy = objects["NetworkPolicy"]["spec"]

    assert policy["podSelector"]["matchLabels"] == objects["Job"]["spec"]["template"]["metadata"]["labels"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in policy
    assert [port["port"] for rule in policy["egress"] for port in rule["ports"]] == [
        {"provision": 4222, "models": 443}[folder],
        53,
        53,
    ]


@pytest.mark.parametrize("folder", ["partitions", "files"])
def test_several_pods_are_spread_over_nodes(folder):
    objects = render(ROOT / "k8s" / folder)
    workload = next(objects[kind] for kind in ("Deployment", "StatefulSet") if kind in objects)
    (spread,) = workload["spec"]["template"]["spec"]["topologySpreadConstraints"]

    assert spread["topologyKey"] == "kubernetes.io/hostname"
    assert spread["labelSelector"]["matchLabels"] == workload["spec"]["template"]["metadata"]["labels"]
    assert spread["whenUnsatisfiable"] == "ScheduleAnyway"  # few nodes must not leave a partition without a pod


def test_inboxes_of_the_manifests_are_those_of_the_broker():
    granted = set(re.findall(r'"(_INBOX_[\w-]+)\.>"', (ROOT / "k8s/nats/nats.conf").read_text()))
    of_streams = [OVERLAYS / name for name in ("radio-7", "parliament", DURABLE)]
    folders = (*of_streams, *(ROOT / "k8s" / name for name in ("partitions", "provision", "files", "gateway")))

    used = {render(folder)["ConfigMap"]["data"]["NATS_INBOX_PREFIX"] for folder in folders}

    assert len(used) == len(folders)
    # Of the daemons of one live stream the broker's file has one, to be repeated.
    assert {prefix.replace("parliament", "radio-7") for prefix in used} <= granted


def test_the_swap_that_the_documentation_shows_reaches_the_pods_of_the_partitions():
    """An instance is ``<pod>-<process id>``, a pod of a StatefulSet ``<name>-<ordinal>``; and a restart must load the same model."""
    shown = (ROOT / "docs/deployment.md").read_text()
    objects = render(ROOT / "k8s/partitions")
    loop = re.search(
        r"export .*NATS_INBOX_PREFIX=(\S+)\nfor pod in ([\d ]+); do\n *transcriber admin swap (\S+) --instance (\S+)-\$pod-1 .*# (\w+)=(\S+)",
        shown,
    )

    assert loop is not None
    inbox, pods, model, name, setting, value = loop.groups()
    assert f'"{inbox}.>"' in (ROOT / "k8s/nats/nats.conf").read_text()
    assert name == objects["StatefulSet"]["metadata"]["name"]
    assert pods.split() == [str(pod) for pod in range(objects["StatefulSet"]["spec"]["replicas"])]
    present = objects["ConfigMap"]["data"][setting]
    assert value == str(Path(present).with_name(f"ggml-{model}.bin")) != present


def seconds(duration):
    """``2m`` of the manifests."""
    return int(duration[:-1]) * {"h": 3600, "m": 60, "s": 1}[duration[-1]]


NACK_STREAM = {
    "name": "name",
    "subjects": "subjects",
    "retention": "retention",
    "discard": "discard",
    "storage": "storage",
    "replicas": "num_replicas",
    "maxAge": "max_age",
    "maxBytes": "max_bytes",
    "maxMsgs": "max_msgs",
    "maxMsgSize": "max_msg_size",
    "maxMsgsPerSubject": "max_msgs_per_subject",
    "duplicateWindow": "duplicate_window",
    "allowDirect": "allow_direct",
    "allowRollup": "allow_rollup_hdrs",
}
NACK_CONSUMER = {
    "durableName": "durable_name",
    "filterSubject": "filter_subject",
    "deliverPolicy": "deliver_policy",
    "ackPolicy": "ack_policy",
    "ackWait": "ack_wait",
    "maxDeliver": "max_deliver",
    "maxAckPending": "max_ack_pending",
    "replayPolicy": "replay_policy",
    "priorityPolicy": "priority_policy",
    "priorityGroups": "priority_groups",
    "pinnedTtl": "priority_timeout",
}
"""NACK's name of a field (CRDs v1beta2) to that of the client."""


def as_the_client_says(spec, names):
    return {
        names[k]: seconds(v) if k in {"maxAge", "duplicateWindow", "ackWait", "pinnedTtl"} else v
        for k, v in spec.items()
    }


def test_nack_makes_the_streams_that_the_command_makes():
    streams = [found for found in render_all(ROOT / "k8s/jetstream") if found["kind"] == "Stream"]

    assert {found["apiVersion"] for found in streams} == {"jetstream.nats.io/v1beta2"}
    specs = {found["spec"]["name"]: found["spec"] for found in streams}
    configs = (*stream_configs(load_settings()), *file_streams(load_settings()))
    assert len(streams) == len(specs) == len(configs)
    for config in configs:
        spec = specs[config.name]
        assert spec.pop("preventDelete") is True
        wanted = {name: value for name in NACK_STREAM.values() if (value := getattr(config, name))}
        assert as_the_client_says(spec, NACK_STREAM) == wanted
        assert config.subject_transform is None


def test_nack_makes_the_consumers_that_the_command_makes():
    consumers = [found for found in render_all(ROOT / "k8s/jetstream") if found["kind"] == "Consumer"]
    settings = load_settings()
    configs = [(settings.audio_stream, consumer_config(settings, "radio-7")), *((JOBS, one) for one in job_consumers())]
    wanted = {(stream, config.name): config for stream, config in configs}

    assert {found["apiVersion"] for found in consumers} == {"jetstream.nats.io/v1beta2"}
    assert len(consumers) == len(wanted)
    for spec in (found["spec"] for found in consumers):
        config = wanted[spec.pop("streamName"), spec["durableName"]]
        assert as_the_client_says(spec, NACK_CONSUMER) == {
            name: value for name in NACK_CONSUMER.values() if (value := getattr(config, name, None))
        }


def test_partitions_that_nack_is_shown_are_those_that_the_command_makes():
    (shown,) = re.findall(r"# (subjectTransform: .*)", (ROOT / "k8s/jetstream/streams.yaml").read_text())
    wanted = stream_configs(load_settings(partitions=4))[0].subject_transform

    found = yaml.safe_load(shown)["subjectTransform"]
    assert SubjectTransform(src=found["source"], dest=found["dest"]) == wanted


def test_gpu_overlay_is_the_base_with_one_gpu_and_the_plug_in_on_its_image(monkeypatch):
    base, gpu = render(ROOT / "k8s/base"), render(OVERLAYS / "gpu")
    container = container_of(gpu)

    assert container["resources"]["limits"] == {"memory": "4Gi", "nvidia.com/gpu": 1}
    assert container["image"] == f"{container_of(base)['image']}-cuda"
    assert gpu["ConfigMap"]["data"] == base["ConfigMap"]["data"] | {"WHISPER_DEVICE": "cuda"}
    assert settings_of(gpu, monkeypatch).whisper_device == "cuda"
    # Nothing else of the pod differs: what is tested of the others holds for it, too.
    del container["resources"]["limits"]["nvidia.com/gpu"]
    (toleration,) = pod_of(gpu).pop("tolerations")
    assert toleration == {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    pods = [
        yaml.safe_dump(pod_of(one)).replace("-cuda", "").replace(one["ConfigMap"]["metadata"]["name"], "")
        for one in (base, gpu)
    ]
    assert pods[0] == pods[1]


SHARED = {
    "type": "object",
    "required": ["resources"],
    "additionalProperties": False,
    "properties": {
        "renameByDefault": {"type": "boolean"},
        "failRequestsGreaterThanOne": {"type": "boolean"},
        "resources": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["name", "replicas"],
                "additionalProperties": False,
                "properties": {"name": {"const": "nvidia.com/gpu"}, "replicas": {"type": "integer", "minimum": 2}},
            },
        },
    },
}
SHARING = {
    "type": "object",
    "required": ["version", "sharing"],
    "additionalProperties": False,
    "properties": {
        "version": {"const": "v1"},
        "sharing": {
            "type": "object",
            "minProperties": 1,
            "maxProperties": 1,
            "additionalProperties": False,
            "properties": {"timeSlicing": SHARED, "mps": SHARED},
        },
    },
}
"""What NVIDIA's device plugin takes of a configuration that only shares whole cards (its api/config/v1)."""


def test_a_shared_card_is_configured_as_nvidias_plugin_takes_it():
    configs = render(ROOT / "k8s/gpu-sharing")["ConfigMap"]["data"]

    found = {name: yaml.safe_load(text) for name, text in configs.items()}
    for config in found.values():
        jsonschema.validate(config, SHARING)
    assert {name: next(iter(config["sharing"])) for name, config in found.items()} == {
        "time-slicing": "timeSlicing",
        "mps": "mps",
    }


def test_image_tag_is_the_version_of_the_project(objects):
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

    assert container_of(objects)["image"].removesuffix("-cuda") == f"transcriber:{version}"


@pytest.mark.parametrize(("verb", "file"), [("check", RULES), ("test", RULES.with_name("rules_test.yaml"))])
def test_promtool_passes_the_rules(verb, file):
    promtool = requirements.program("promtool", "apt-get install prometheus")
    ran = subprocess.run([promtool, verb, "rules", file], capture_output=True, text=True, check=False, cwd=RULES.parent)

    assert ran.returncode == 0, ran.stdout + ran.stderr


def rules():
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def test_every_alert_is_seen_firing():
    seen = re.findall(r'alertname="(\w+)"', RULES.with_name("rules_test.yaml").read_text())

    assert set(seen) == {rule["alert"] for rule in rules()}


def test_every_reason_to_lose_audio_has_an_alert():
    seen = set(re.findall(r'transcriber_(?!gateway)(\w+)_total{reason="(\w+)"}', RULES.read_text()))
    counters = Counters()

    # queue_full is what TranscriptionJobsDropping is about; an overlap was transcribed before.
    jobs = {("jobs_dropped", reason) for reason in counters.jobs_dropped if reason != "queue_full"}
    chunks = {("chunks_dropped", reason) for reason in counters.chunks_dropped if reason != "overlap"}
    jobs_or_chunks = {reason for _, reason in jobs | chunks} | {"queue_full"}
    assert seen == jobs | chunks | {("gaps", reason) for reason in counters.gaps if reason not in jobs_or_chunks}


def test_rules_read_what_the_daemon_exports():
    suffixes = {
        "gauge": ["", "_bytes"],
        "counter": ["_total"],
        "histogram": ["_bucket", "_milliseconds_bucket"],  # with the unit, or without: as the collector is set
    }
    instruments = [i for i in (*INSTRUMENTS, *GATEWAY_INSTRUMENTS) if i.kind in suffixes]
    exported = {i.name.replace(".", "_") + suffix for i in instruments for suffix in suffixes[i.kind]}

    used = {
        pattern: {name for name in exported if re.fullmatch(pattern, name)}
        for rule in rules()
        for pattern in re.findall(r"transcriber_[\w()?]*[\w?]", rule["expr"])
    }

    assert all(used.values()), used
    assert {"transcriber_end_to_end_latency_ms_bucket", "transcriber_end_to_end_latency_ms_milliseconds_bucket"} in (
        used.values()
    )


def test_rules_of_gateways_name_reasons_that_there_are():
    of_refusals = re.findall(r'transcriber_gateway_refusals_total{reason=~?"([\w|]+)"}', RULES.read_text())
    reasons = {reason for found in of_refusals for reason in found.split("|")}

    assert reasons == {"error", "unserved", "late", "connections", "key"}
    assert reasons <= GatewayFigures().refusals.keys()
