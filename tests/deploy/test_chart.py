"""The Helm chart, rendered by helm: what it makes is what kustomize makes, and what is not so is refused in a line."""

import re
import shutil
import subprocess
import tomllib
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.deploy.test_k8s import OURS, ROOT, RULES, render_all
from tests.support import requirements

CHART = ROOT / "k8s/chart"
HASH = r"-([bcdfghkmt2456789]{10}|[0-9a-f]{8})$"
"""What kustomize adds to the name of a ConfigMap, and the chart to those of a Job that must be another one once it changes."""


def helm(*arguments, values=None):
    """What helm prints, and its status; ``values`` is what an operator's file has."""
    program = requirements.program("helm", "python .ci/cluster_programs.py .venv/bin")
    given = yaml.safe_dump(values or {})
    return subprocess.run([program, *arguments, "--values=-"], input=given, capture_output=True, text=True, check=False)


def chart(*templates, of=CHART, **values):
    """The objects that the chart makes; of some templates alone, or of all."""
    only = [f"--show-only=templates/{name}.yaml" for name in templates]
    ran = helm("template", "captions", of, "--namespace=transcriber", *only, values=values)
    assert ran.returncode == 0, ran.stderr
    return [found for found in yaml.safe_load_all(ran.stdout) if found]


def alike(objects):
    """Objects by kind and name, less how each of the two tools restarts pods, orders a job, keeps a volume and sorts volumes."""
    for found in objects:
        templates = [found["spec"]["template"]] if "template" in found.get("spec", {}) else []
        for metadata in (found["metadata"], *(template["metadata"] for template in templates)):
            ours = {name for name in metadata.get("annotations", {}) if name.startswith(("helm.sh/", "checksum/"))}
            for name in ours:
                del metadata["annotations"][name]
            if ours and not metadata["annotations"]:
                del metadata["annotations"]
        if found["kind"] in {"ConfigMap", "Job"}:
            found["metadata"]["name"] = re.sub(HASH, "", found["metadata"]["name"])
        for pod in (template["spec"] for template in templates):
            source = pod["containers"][0]["envFrom"][0]["configMapRef"]
            source["name"] = re.sub(HASH, "", source["name"])
            pod["volumes"].sort(key=lambda volume: volume["name"])
    return {(found["kind"], found["metadata"]["name"]): found for found in objects}


DURABLE = {"radio-7": {"durable": True, "keda": True}}


@pytest.mark.parametrize(
    ("folder", "templates", "values"),
    [
        ("overlays/radio-7", ["streams"], {"streams": {"radio-7": None}}),
        ("overlays/parliament", ["streams"], {"streams": {"parliament": {"gpu": True}}}),
        ("overlays/radio-7-durable", ["streams"], {"streams": DURABLE}),
        ("partitions", ["partitions"], {"partitions": {"enabled": True}}),
        ("files", ["files"], {"files": {"enabled": True}}),
        ("gateway", ["gateway"], {"gateway": {"enabled": True}}),
        ("provision", ["provision"], {"streams": DURABLE}),
        ("jetstream", ["nack"], {"jetstream": "nack", "streams": DURABLE, "files": {"enabled": True}}),
        ("scrape", ["prometheus"], {"prometheus": {"scrape": True}}),
        ("namespace", ["models"], {"models": {"create": True}}),
        ("models", ["models"], {"models": {"pull": "base.en"}}),
    ],
)
def test_the_chart_makes_what_kustomize_makes(folder, templates, values):
    wanted = alike([found for found in render_all(ROOT / "k8s" / folder) if found["kind"] != "Namespace"])

    assert alike(chart(*templates, **values)) == wanted


EVERYTHING: dict[str, Any] = {
    "image": {"repository": "registry.example.com/transcriber", "tag": "0.2.0", "pullPolicy": "Always"},
    "imagePullSecrets": [{"name": "registry"}],
    "settings": {
        "STREAM_REPLICAS": "3",
        "NATS_URL": "tls://nats-0.bus:4222,tls://nats-1.bus:4222",
        "NATS_TLS_CA": "/etc/nats/ca.crt",
    },
    "pod": {"priorityClassName": "captions"},
    "models": {"claim": "models", "create": True, "storageClass": "nfs", "pull": "small"},
    "streams": {
        "radio-7": {"gpu": True, "settings": {"NATS_URL": "nats://near"}, "resources": {"limits": {"memory": "8Gi"}}},
        "radio-8": {"pod": {"nodeSelector": {"zone": "a"}}, "secret": "seed-of-radio-8"},
    },
    "partitions": {"enabled": True, "replicas": 6},
    "files": {"enabled": True, "keda": {"enabled": True, "maxReplicas": 9}},
    "gateway": {"enabled": True, "replicas": 3, "keysSecret": "keys"},
    "network": {
        "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}],
        "gatewayFrom": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "traefik"}}}],
    },
    "prometheus": {"scrape": True, "rules": True, "labels": {"release": "stack"}},
}


@pytest.fixture(scope="module")
def everything():
    return alike(chart(**EVERYTHING))


def test_all_that_the_chart_can_make_fits_the_newest_schemas_strictly(everything):
    ours = [found for found in everything.values() if found["apiVersion"].partition("/")[0] not in OURS]

    assert len(ours) > 20
    for manifest in ours:
        kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)
    assert {found["metadata"]["namespace"] for found in everything.values()} == {"transcriber"}


def test_the_values_that_the_documentation_shows_are_taken():
    (shown,) = re.findall(r"```\n(image: .*?)```", (ROOT / "docs/deployment.md").read_text(), re.DOTALL)

    made = alike(chart(**yaml.safe_load(shown)))

    names = ("radio-7", "parliament", "harbour", "files", "gateway", "provision", "models")
    assert pods(made).keys() == {f"transcriber-{name}" for name in names}


def test_the_chart_has_the_version_of_the_project():
    about = yaml.safe_load((CHART / "Chart.yaml").read_text())
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

    assert about["version"] == about["appVersion"] == version


def test_helm_finds_nothing_wrong_with_the_chart():
    ran = helm("lint", "--strict", CHART, values=EVERYTHING)

    assert ran.returncode == 0, ran.stdout


def pods(objects):
    return {
        name: found["spec"]["template"]["spec"]
        for (_, name), found in objects.items()
        if "template" in found.get("spec", {})
    }


def test_values_of_all_and_of_one_reach_the_pods(everything):
    every = pods(everything)
    radio_7 = every["transcriber-radio-7"]["containers"][0]
    configs = {name: found["data"] for (kind, name), found in everything.items() if kind == "ConfigMap"}
    images = {name: pod["containers"][0]["image"] for name, pod in every.items()}

    assert {pod["priorityClassName"] for pod in every.values()} == {"captions"}
    assert {pod["imagePullSecrets"][0]["name"] for pod in every.values()} == {"registry"}
    assert images.pop("transcriber-radio-7") == "registry.example.com/transcriber:0.2.0-cuda"
    assert set(images.values()) == {"registry.example.com/transcriber:0.2.0"}
    assert configs.pop("transcriber-radio-7")["NATS_URL"] == "nats://near"
    assert {data["NATS_URL"] for data in configs.values()} == {EVERYTHING["settings"]["NATS_URL"]}
    assert radio_7["resources"] == {
        "requests": {"cpu": "2", "memory": "2Gi"},
        "limits": {"memory": "8Gi", "nvidia.com/gpu": 1},
    }
    assert "nodeSelector" not in every["transcriber-radio-7"]
    assert every["transcriber-radio-8"]["nodeSelector"] == {"zone": "a"}
    assert (
        next(v["secret"]["secretName"] for v in every["transcriber-radio-8"]["volumes"] if v["name"] == "nats")
        == "seed-of-radio-8"
    )
    assert {
        v["persistentVolumeClaim"]["claimName"]
        for pod in every.values()
        for v in pod["volumes"]
        if v["name"] == "models"
    } == {"models"}


def test_a_pod_with_a_gpu_tolerates_its_node_and_what_the_operator_says():
    theirs = {"key": "captions", "operator": "Exists"}
    gpu = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    streams = {"parliament": {"gpu": True}, "radio-7": {}, "radio-8": {"gpu": True, "pod": {"tolerations": [gpu]}}}
    made = pods(alike(chart("streams", streams=streams, pod={"tolerations": [theirs]})))

    assert made["transcriber-parliament"]["tolerations"] == [theirs, gpu]
    assert made["transcriber-radio-7"]["tolerations"] == [theirs]
    assert made["transcriber-radio-8"]["tolerations"] == [gpu]


@pytest.mark.parametrize("given", [{}, {"secret": "seed-of-the-provisioner"}])
def test_the_notes_name_each_secret_that_the_objects_mount(given):
    """A Job before the install waits for its own, and there are no notes until it is done: so the documentation has them, too."""
    values = EVERYTHING | {"provision": given}
    mounted = {
        volume["secret"]["secretName"]
        for pod in pods(alike(chart(**values))).values()
        for volume in pod["volumes"]
        if "secret" in volume
    }
    ran = helm("install", "captions", CHART, "--namespace=transcriber", "--dry-run=client", values=values)
    notes = ran.stdout.partition("\nNOTES:\n")[2]

    assert ran.returncode == 0, ran.stderr
    assert given.get("secret", "transcriber-nats-provisioner") in mounted
    assert [name for name in mounted if not re.search(rf"(^|\s){re.escape(name)}(,|\s)", notes)] == []


def test_the_documentation_names_each_secret_before_the_install():
    shown = (ROOT / "docs/deployment.md").read_text()
    values = {"streams": {"radio-7": None}, "files": {"enabled": True}, "gateway": {"enabled": True}}
    named = {
        volume["secret"]["secretName"]
        for made in (values, {"partitions": {"enabled": True}})
        for pod in pods(alike(chart(**made))).values()
        for volume in pod["volumes"]
        if "secret" in volume
    }

    assert len(named) == 6
    assert [name for name in named if f"`{name.replace('radio-7', '<stream>')}`" not in shown] == []


def test_settings_that_a_pod_follows_are_followed():
    """Of threads Kubernetes would take its own; a grace period that ends first would cut off the text of what waits."""
    settings = {"WHISPER_THREADS": "1", "SHUTDOWN_GRACE_SECS": "44.5"}
    made = pods(alike(chart("streams", streams={"radio-7": {"settings": settings}, "radio-8": None})))
    named = {name: {one["name"] for one in pod["containers"][0]["env"]} for name, pod in made.items()}

    assert named["transcriber-radio-8"] - named["transcriber-radio-7"] == {"WHISPER_THREADS"}
    assert made["transcriber-radio-7"]["terminationGracePeriodSeconds"] == 55
    assert made["transcriber-radio-8"]["terminationGracePeriodSeconds"] == 30


def test_networks_of_the_operator_replace_ours(everything):
    policies = [
        found["spec"]
        for (kind, name), found in everything.items()
        if kind == "NetworkPolicy" and name != "transcriber-scrape"
    ]

    assert len(policies) == 7
    assert all(policy["egress"] == EVERYTHING["network"]["egress"] for policy in policies)
    (rule,) = next(policy["ingress"] for policy in policies if "ingress" in policy)
    assert rule["from"] == EVERYTHING["network"]["gatewayFrom"]
    assert not [
        found for found in chart(**EVERYTHING | {"network": {"enabled": False}}) if found["kind"] == "NetworkPolicy"
    ]


def test_partitions_of_any_number_and_their_streams_agree(everything):
    (job,) = (pod for name, pod in pods(everything).items() if name == "transcriber-provision")
    nack = chart("nack", **EVERYTHING | {"jetstream": "nack", "nack": {"streams": {"AUDIO": {"maxAge": "3h"}}}})
    audio = next(found["spec"] for found in nack if found["metadata"]["name"] == "audio")

    assert everything["StatefulSet", "transcriber-partitions"]["spec"]["replicas"] == 6
    assert everything["ConfigMap", "transcriber-partitions"]["data"]["PARTITIONS"] == "6"
    assert everything["ConfigMap", "transcriber-provision"]["data"]["PARTITIONS"] == "6"
    assert everything["ConfigMap", "transcriber-provision"]["data"]["FILES"] == "1"
    assert job["containers"][0]["args"] == ["provision"]
    assert audio["subjectTransform"]["dest"] == "audio.{{partition(6,1)}}.{{wildcard(1)}}"
    assert audio["maxAge"] == "3h"
    assert {found["spec"]["replicas"] for found in nack if found["kind"] == "Stream"} == {3}


@pytest.mark.parametrize(
    ("settings", "made"),
    [
        ({}, False),
        ({"AUDIT": "0"}, False),
        ({"AUDIT": "1"}, True),
        ({"AUDIT": "true"}, True),
        ({"CONFIG_BUCKET": "TRANSCRIBER_CONFIG"}, True),
    ],
)
def test_what_live_daemons_need_of_jetstream_is_made_before_them(settings, made):
    live = {"streams": {"radio-7": None}, "gateway": {"enabled": True}, "settings": settings}
    objects = alike(chart(**live))

    assert (("Job", "transcriber-provision") in objects) == made
    if made:
        assert settings.items() <= objects["ConfigMap", "transcriber-provision"]["data"].items()
        assert pods(objects)["transcriber-provision"]["containers"][0]["args"] == ["provision"]


def test_alerts_are_those_that_promtool_tests(everything):
    rule = everything["PrometheusRule", "transcriber"]

    assert rule["spec"] == yaml.safe_load(RULES.read_text())
    assert rule["metadata"]["labels"] == {"release": "stack"}
    assert everything["PodMonitor", "transcriber"]["metadata"]["labels"] == {"release": "stack"}


def test_daemons_have_the_model_that_is_fetched_unless_their_settings_name_another_one():
    other = {"WHISPER_MODEL_PATH": "/models/ggml-medium.bin"}
    values = {"models": {"pull": "small"}, "streams": {"radio-7": None, "radio-8": {"settings": other}}}
    files = chart("files", files={"enabled": True})
    paths = {
        o["metadata"]["name"]: o["data"]["WHISPER_MODEL_PATH"]
        for o in (*chart("streams", **values), *files)
        if o["kind"] == "ConfigMap"
    }

    assert paths == {
        "transcriber-radio-7": "/models/ggml-small.bin",
        "transcriber-radio-8": "/models/ggml-medium.bin",
        "transcriber-files": "/models/ggml-base.en.bin",
    }


def test_a_job_of_models_that_would_differ_in_anything_is_another_one(tmp_path):
    """Kubernetes refuses to change the template of a Job, also where a newer chart has changed it, or its Prometheus the settings."""
    newer = tmp_path / "k8s/chart"
    shutil.copytree(ROOT / "k8s", tmp_path / "k8s", symlinks=True)
    manifest = tmp_path / "k8s/models/job.yaml"
    manifest.write_text(manifest.read_text().replace("limits: {memory: 512Mi}", "limits: {memory: 1Gi}"))
    scraped = {"prometheus": {"scrape": True}}

    def name(values, of=CHART):
        (job,) = (o for o in chart("models", of=of, models={"pull": "base.en"}, **values) if o["kind"] == "Job")
        assert job["spec"]["template"]["spec"]["containers"][0]["envFrom"] == [
            {"configMapRef": {"name": job["metadata"]["name"]}}
        ]
        return job["metadata"]["name"]

    names = [name({}), name({}), name(scraped), name({}, newer)]
    assert names[0] == names[1]
    assert len(set(names)) == 3


def test_another_model_is_fetched_by_another_job():
    jobs = [
        found
        for name in ("base.en", "base.en", "small")
        for found in chart("models", models={"pull": name})
        if found["kind"] == "Job"
    ]
    first, again, other = (job["metadata"]["name"] for job in jobs)

    assert first == again != other
    assert jobs[2]["spec"]["template"]["spec"]["containers"][0]["args"] == ["models", "pull", "small"]


def test_keda_scales_daemons_of_files_by_both_queues_and_helm_leaves_the_number_to_it(everything):
    scaled = everything["ScaledObject", "transcriber-files"]["spec"]

    assert [trigger["metadata"]["consumer"] for trigger in scaled["triggers"]] == ["transcriber", "transcriber-urgent"]
    assert {trigger["metadata"]["stream"] for trigger in scaled["triggers"]} == {"JOBS"}
    assert (scaled["minReplicaCount"], scaled["maxReplicaCount"]) == (2, 9)
    assert "replicas" not in everything["Deployment", "transcriber-files"]["spec"]


def test_keda_has_no_maximum_below_the_number_of_pods_that_are_always_there():
    made = alike(chart("files", files={"enabled": True, "replicas": 6, "keda": {"enabled": True}}))
    scaled = made["ScaledObject", "transcriber-files"]["spec"]

    assert (scaled["minReplicaCount"], scaled["maxReplicaCount"]) == (6, 6)


def test_a_changed_setting_restarts_the_pods_that_have_it_and_no_others():
    streams: dict[str, Any] = {"radio-7": {}, "radio-8": {}}
    changed = streams | {"radio-8": {"settings": {"WHISPER_LANGUAGE": "de"}}}

    def restarted_by(values):
        return {
            o["metadata"]["name"]: o["spec"]["template"]["metadata"]
            for o in chart("streams", streams=values)
            if o["kind"] == "Deployment"
        }

    before, after = restarted_by(streams), restarted_by(changed)
    assert {name for name in before if before[name] != after[name]} == {"transcriber-radio-8"}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"steams": {}}, "steams"),
        ({"streams": {"radio-7": {"replicas": 2}}}, "replicas"),
        ({"streams": {"radio-7": {"keda": True}}}, "durable"),
        *(
            ({"streams": {name: {}}}, name)
            for name in ("files", "gateway", "models", "partitions", "provision", "scrape")
        ),
        ({"streams": {"radio.7": {}}}, "radio.7"),
        ({"settings": {"MAX_STREAMS": 8}}, "string"),
        ({"settings": {"HEALTH_PORT": "80"}}, "HEALTH_PORT"),
        ({"settings": {"AUDIO_SUBJECT": "audio.*"}}, "AUDIO_SUBJECT"),
        ({"jetstream": "both"}, "jetstream"),
        ({"pod": {"hostNetwork": True}}, "hostNetwork"),
        ({"partitions": {"enabled": True}, "streams": DURABLE}, "no stream is durable by itself"),
    ],
)
def test_values_that_mean_nothing_are_refused_and_named(values, said):
    ran = helm("template", "captions", CHART, values=values)

    assert ran.returncode != 0
    assert said in ran.stderr
    assert not ran.stdout
