"""The chart, rendered by the real Helm and judged by Kubernetes' own schemas, in both of its modes; and the binary takes
the configuration that comes out of it."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from conftest import CHART
from rig.proxy import PROJECT, trunkline

HELM = os.environ.get("HELM", "helm")
VERSION = "1.33"
EVERYTHING = [
    "podMonitor.enabled=true",
    "serviceMonitor.enabled=true",
    "prometheusRule.enabled=true",
    "dashboards.enabled=true",
    "tracing.endpoint=http://collector:4318",
    "existingSecret=tokens",
    "envFromSecret=variables",
    "env.RATE_LIMIT_PER_MINUTE=60",
    "config.restartOnChange=true",
    "prometheusRule.runbookBase=https://example.com/",
]


def helm(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([HELM, *words], capture_output=True, text=True, timeout=120, check=False)


def template(chart: Path, *settings: str) -> subprocess.CompletedProcess[str]:
    sets = [word for setting in settings for word in ("--set", setting)]
    return helm("template", "demo", str(chart), "--kube-version", VERSION, *sets)


def rendered(chart: Path, *settings: str) -> list[dict]:
    done = template(chart, *settings)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def of_kind(documents: list[dict], kind: str) -> list[dict]:
    return [document for document in documents if document["kind"] == kind]


def judged(documents: list[dict], directory: Path) -> None:
    """Kubernetes' schemas and the operator's models find nothing."""
    path = directory / "rendered.yaml"
    path.write_text(yaml.safe_dump_all(documents))
    words = ["kubernetes-validate", "-k", VERSION, "--strict", str(path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    checker = Path(os.environ["OPERATOR_MODELS"]) / "operator.mjs"
    done = subprocess.run(["node", str(checker), str(path)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def app(tmp_path):
    """A chart of an application, with this one as its dependency."""
    chart = tmp_path / "tests/ops/app"
    shutil.copytree(PROJECT / "tests/ops/app", chart)
    shutil.copytree(CHART, tmp_path / "helm/trunkline")
    built = helm("dependency", "update", str(chart))
    assert built.returncode == 0, built.stderr
    return chart


def test_helm_finds_nothing_to_lint():
    done = helm("lint", "--strict", str(CHART))
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("settings", [[], EVERYTHING, ["replicaCount=1", "networkPolicy.enabled=false"]])
def test_a_deployment_of_its_own_is_sound(settings, tmp_path):
    judged(rendered(CHART, *settings), tmp_path)


def test_the_pod_is_locked_down_and_production_is_the_default():
    (deployment,) = of_kind(rendered(CHART), "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    context = container["securityContext"]
    assert context["readOnlyRootFilesystem"] and context["runAsNonRoot"] and not context["allowPrivilegeEscalation"]
    assert (context["runAsUser"], context["capabilities"]) == (65532, {"drop": ["ALL"]})
    assert pod["automountServiceAccountToken"] is False
    env = {entry["name"]: entry["value"] for entry in container["env"]}
    assert (env["ENVIRONMENT"], env["INTEGRATIONS_STUB_MODE"]) == ("production", "false")
    assert env["TRUNKLINE_LISTEN"] == "0.0.0.0:8080"
    assert {port["name"]: port["containerPort"] for port in container["ports"]} == {"http": 8080, "metrics": 9464}
    # Kubernetes must not end it before it has drained.
    config = yaml.safe_load(of_kind(rendered(CHART), "ConfigMap")[0]["data"]["proxy.yaml"])
    assert pod["terminationGracePeriodSeconds"] > int(config["drain"]["grace"].removesuffix("s"))


def test_a_sidecar_starts_before_its_application_and_nothing_runs_beside_it(app, tmp_path):
    documents = rendered(app)
    judged(documents, tmp_path)
    (deployment,) = of_kind(documents, "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    (sidecar,) = pod["initContainers"]
    assert (sidecar["name"], sidecar["restartPolicy"]) == ("trunkline", "Always")
    assert sidecar["startupProbe"]["httpGet"] == {"path": "/readyz", "port": "metrics"}
    assert "readinessProbe" not in sidecar, "a vendor's outage must not take the application's pod out"
    env = {entry["name"]: entry["value"] for entry in sidecar["env"]}
    assert env["TRUNKLINE_LISTEN"] == "127.0.0.1:8080"
    assert {volume["name"] for volume in pod["volumes"]} >= {mount["name"] for mount in sidecar["volumeMounts"]}
    assert of_kind(documents, "Service") == of_kind(documents, "NetworkPolicy") == []
    (monitor,) = of_kind(documents, "PodMonitor")
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    assert wanted <= deployment["spec"]["template"]["metadata"]["labels"].items()


@pytest.mark.parametrize("settings", [[], EVERYTHING])
def test_the_binary_takes_the_configuration_that_is_rendered(settings, tmp_path):
    documents = rendered(CHART, *settings)
    (container,) = of_kind(documents, "Deployment")[0]["spec"]["template"]["spec"]["containers"]
    env = {entry["name"]: entry["value"] for entry in container["env"]}
    path = tmp_path / "proxy.yaml"
    path.write_text(of_kind(documents, "ConfigMap")[0]["data"]["proxy.yaml"])
    checked = trunkline("check", config=path, **env)
    assert checked.returncode == 0, checked.stderr + checked.stdout


def test_a_configuration_of_ones_own_reaches_the_pod_byte_for_byte(tmp_path):
    content = (PROJECT / "proxy.yaml").read_text()
    values = tmp_path / "values.yaml"
    values.write_text(yaml.safe_dump({"config": {"content": content}}))
    done = helm("template", "demo", str(CHART), "--values", str(values))
    assert done.returncode == 0, done.stderr
    documents = [document for document in yaml.safe_load_all(done.stdout) if document]
    assert of_kind(documents, "ConfigMap")[0]["data"]["proxy.yaml"].rstrip() == content.rstrip()
    mine = rendered(CHART, "config.existingConfigMap=mine")
    assert of_kind(mine, "ConfigMap") == []
    volumes = of_kind(mine, "Deployment")[0]["spec"]["template"]["spec"]["volumes"]
    assert volumes[0]["configMap"]["name"] == "mine"


@pytest.mark.parametrize(
    "bad",
    [
        "replicaCount=three",
        "mode=daemonset",
        "environment=prod",
        "stubs=true",
        "ports.http=80",
        "image.digest=sha256:abc",
        "podMonitor.interval=15 sec",
        "tracing.sample=2",
        "tracing.endpoint=collector:4318",
        "replicas=3",
        "config.contents=x",
    ],
)
def test_a_wrong_value_is_refused(bad):
    assert template(CHART, bad).returncode != 0


def test_stubs_are_allowed_outside_production():
    documents = rendered(CHART, "environment=development", "stubs=true", "prometheusRule.enabled=true")
    (rule,) = of_kind(documents, "PrometheusRule")
    names = [alert["alert"] for group in rule["spec"]["groups"] for alert in group["rules"]]
    assert "TrunklineStubsServedInProduction" not in names and "TrunklineCircuitOpen" in names


def test_alerts_and_dashboards_are_those_of_the_files():
    documents = rendered(CHART, *EVERYTHING)
    (rule,) = of_kind(documents, "PrometheusRule")
    written = yaml.safe_load((CHART / "rules/trunkline.yaml").read_text())["groups"]
    for group in written:
        for alert in group["rules"]:
            alert["annotations"]["runbook_url"] = "https://example.com/" + alert["annotations"]["runbook_url"]
    assert rule["spec"]["groups"] == written
    boards = [document for document in of_kind(documents, "ConfigMap") if "grafana_dashboard" in document["metadata"]["labels"]]
    assert {name for board in boards for name in board["data"]} == {path.name for path in CHART.glob("dashboards/*.json")}
    for board in boards:
        for text in board["data"].values():
            json.loads(text)


def test_the_table_of_values_is_current(tmp_path):
    readme = tmp_path / "README.md"
    shutil.copy(CHART / "README.md", readme)
    tool = Path(os.environ["OPERATOR_MODELS"]) / "node_modules/.bin/readme-generator"
    words = [str(tool), "--values", str(CHART / "values.yaml"), "--readme", str(readme)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert readme.read_text() == (CHART / "README.md").read_text()
