"""What `deploy/` and the bento promise: that they are well formed, lock the service in, and name only what there is."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any

import httpx
import kubernetes_validate
import pytest
import yaml
from support import ROOT, assert_same_predictions

from tocsin import EventClassifier, Prediction, Release
from tocsin.release import LAYOUT
from tocsin_serving import keys, shadow
from tocsin_serving.guard import HEALTH_PATHS
from tocsin_serving.load import WAITING
from tocsin_serving.settings import PREFIX, RELEASE_VARIABLE, Settings

TEXTS = ["An airstrike hit the market.", "A peaceful protest in the capital.", "Rates were left unchanged."]
COMPOSE = ROOT / "deploy" / "compose.yaml"
KUBERNETES = ROOT / "deploy" / "kubernetes"
# Kinds of Kubernetes itself; the others are of operators, which bring their own schemas.
OWN_KINDS = ("apps/v1", "autoscaling/v2", "networking.k8s.io/v1", "policy/v1", "v1")
# Fields of the operators' own kinds, of which no Python package carries the schema: KubeRay's API reference for
# ray.io/v1, of 1.1 and later, and the Prometheus operator's for monitoring.coreos.com/v1. Those of use here.
RAY_JOB_FIELDS = {
    "activeDeadlineSeconds",
    "backoffLimit",
    "entrypoint",
    "entrypointNumCpus",
    "entrypointResources",
    "jobId",
    "metadata",
    "rayClusterSpec",
    "runtimeEnvYAML",
    "shutdownAfterJobFinishes",
    "submissionMode",
    "submitterPodTemplate",
    "suspend",
    "ttlSecondsAfterFinished",
}
RAY_CLUSTER_FIELDS = {
    "autoscalerOptions",
    "enableInTreeAutoscaling",
    "headGroupSpec",
    "headServiceAnnotations",
    "rayVersion",
    "suspend",
    "workerGroupSpecs",
}
RAY_GROUP_FIELDS = {
    "groupName",
    "headService",
    "maxReplicas",
    "minReplicas",
    "numOfHosts",
    "rayStartParams",
    "replicas",
    "scaleStrategy",
    "serviceType",
    "template",
}
MONITOR_FIELDS = {
    "endpoints",
    "jobLabel",
    "namespaceSelector",
    "podTargetLabels",
    "sampleLimit",
    "selector",
    "targetLabels",
    "targetLimit",
}
ENDPOINT_FIELDS = {
    "authorization",
    "honorLabels",
    "interval",
    "metricRelabelings",
    "params",
    "path",
    "port",
    "relabelings",
    "scheme",
    "scrapeTimeout",
    "tlsConfig",
}
NOT_APPLIED = {"prometheus-adapter.yaml", "ray-job.yaml", "servicemonitor.yaml"}
BENTOML_PORT = 3000

Serving = Callable[[list[str], int, dict[str, str]], AbstractContextManager[str]]


# The bento


@pytest.fixture(scope="module")
def bento(environment: dict[str, str]) -> Path:
    """A bento built from the checkout, without a network."""
    build = [sys.executable, "-m", "bentoml", "build", "-f", "serving/bentofile.yaml", "--version", "test", "."]
    subprocess.run(build, cwd=ROOT, env=environment, check=True, capture_output=True)
    return Path(environment["BENTOML_HOME"]) / "bentos" / "tocsin" / "test"


HIDE_ROOMS = """
import sys
from pathlib import Path
rooms = ("tocsin", "tocsin_serving", "tocsin_training")
sys.path[:] = [path for path in sys.path if not any((Path(path) / room / "__init__.py").exists() for room in rooms)]
"""


@pytest.fixture
def bare_environment(environment: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """As on a machine where neither tocsin nor a release is installed, only what they depend on."""
    # Runs in every Python process after the .pth files that put an editable install on the path.
    (tmp_path / "sitecustomize.py").write_text(HIDE_ROOMS)
    bare = {name: value for name, value in environment.items() if name != "TOCSIN_RELEASE"}
    bare["PYTHONPATH"] = str(tmp_path)
    find = "from importlib.util import find_spec; print(find_spec('tocsin'), find_spec('tocsin_serving'))"
    found = subprocess.run(
        [sys.executable, "-c", find], cwd=tmp_path, env=bare, check=True, capture_output=True, text=True
    )
    assert found.stdout.split() == ["None", "None"]
    return bare


def serve_command(bento: Path, port: int) -> list[str]:
    return [sys.executable, "-m", "bentoml", "serve", str(bento), "--host", "127.0.0.1", "--port", str(port)]


# Everything read-only but one folder, as another user, who may read what is root's (Python, maybe) and no more.
LOCKED_IN = """
set -e
mount --make-rprivate /
awk '{print $5}' /proc/self/mountinfo | sort -u | while read -r place; do
  mount -o remount,bind,ro "$place" 2> /dev/null || true
done
mount -t tmpfs -o size=256m,mode=1777,noexec,nosuid,nodev tmpfs "$TMPDIR"
exec setpriv --reuid 1034 --regid 1034 --clear-groups --no-new-privs \
  --inh-caps=-all,+dac_read_search --ambient-caps=-all,+dac_read_search --bounding-set=-all,+dac_read_search "$@"
"""


def locked_in(command: list[str]) -> list[str]:
    return ["unshare", "--mount", "bash", "-c", LOCKED_IN, "locked-in", *command]


def can_lock_in(scratch: Path) -> bool:
    if os.geteuid() != 0 or not shutil.which("unshare") or not shutil.which("setpriv"):
        return False
    tried = subprocess.run(locked_in(["true"]), env={**os.environ, "TMPDIR": str(scratch)}, capture_output=True)
    return tried.returncode == 0


def test_a_bento_serves_the_librarys_answers_from_read_only_disks_without_rights_or_checkout(
    bento: Path,
    free_port: Callable[[], int],
    serving: Serving,
    bare_environment: dict[str, str],
    classifier: EventClassifier,
    tmp_path: Path,
) -> None:
    port, scratch = free_port(), tmp_path / "scratch"
    scratch.mkdir()
    command = serve_command(bento, port)
    written = {"HOME": "/nonexistent", "TMPDIR": str(scratch), "BENTOML_HOME": str(scratch / "bentoml")}
    locked = can_lock_in(scratch)
    with serving(locked_in(command) if locked else command, port, {**bare_environment, **written}) as url:
        response = httpx.post(f"{url}/classify", json={"texts": TEXTS}, timeout=60)
        metrics = httpx.get(f"{url}/metrics").text
    answer = [Prediction.model_validate(one) for one in response.json()]
    assert_same_predictions(classifier.classify_batch(TEXTS), answer)
    assert f"{WAITING} 0.0" in metrics
    if not locked:
        pytest.skip("served, but not locked in: that takes root, unshare and setpriv")


def test_the_bento_asks_for_the_packages_of_the_serve_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    expected = {*project["dependencies"], *project["optional-dependencies"]["serve"]}
    assert set(yaml.safe_load((ROOT / "serving" / "bentofile.yaml").read_text())["python"]["packages"]) == expected


def test_the_bento_carries_the_releases_own_files_and_nothing_that_lies_beside_them(bento: Path) -> None:
    included = yaml.safe_load((ROOT / "serving" / "bentofile.yaml").read_text())["include"]
    assert {path for path in included if path.startswith("model/release")} == {
        f"model/release/{name}" for name in astuple(LAYOUT)
    }
    assert {path.name for path in (bento / "src" / "model" / "release").iterdir()} == set(Release.open().files)


@pytest.fixture(scope="module")
def dockerfile(bento: Path) -> str:
    return (bento / "env" / "docker" / "Dockerfile").read_text()


def test_the_image_is_made_of_the_exact_versions_and_no_compiler(bento: Path, dockerfile: str) -> None:
    versions = dict(re.findall(r"^ARG (\w+)=(.*)$", dockerfile, re.MULTILINE))["UV_CONSTRAINT"]
    inside = Path(versions).relative_to("/home/bentoml/bento")
    assert f"COPY --chown=bentoml:bentoml ./{inside} ./{inside}" in dockerfile
    assert (bento / inside).read_bytes() == (ROOT / "constraints.txt").read_bytes()
    assert dockerfile.index(versions) < dockerfile.index("uv --directory")
    assert "apt-get" not in dockerfile


def test_the_image_runs_as_the_manifests_user_and_writes_where_they_let_it(
    dockerfile: str, compose: dict[str, Any], deployment: dict[str, Any]
) -> None:
    assert re.findall(r"^USER (\w+)$", dockerfile, re.MULTILINE) == ["bentoml"]
    (uid,) = re.findall(r"^ARG BENTO_USER_UID=(\d+)$", dockerfile, re.MULTILINE)
    home = re.findall(r"^ARG BENTOML_HOME=(.*)$", dockerfile, re.MULTILINE)[-1]
    pod = deployment["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsUser"] == int(uid)
    (container,) = pod["containers"]
    writable = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
    assert writable == {entry.partition(":")[0] for entry in compose["services"]["tocsin"]["tmpfs"]} == {"/tmp"}
    assert Path(home).is_relative_to("/tmp")


# Compose


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
    return read


def test_the_compose_file_is_one_by_the_published_schema() -> None:
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(COMPOSE)]
    done = subprocess.run(check, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_service_of_the_compose_file_is_locked_in_and_reachable_from_this_machine_alone(
    compose: dict[str, Any],
) -> None:
    for service in compose["services"].values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert "mem_limit" in service
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])


def test_what_the_compose_file_mounts_is_there(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        for source, *_ in (mount.split(":") for mount in service.get("volumes", [])):
            assert source in compose["volumes"] or (COMPOSE.parent / source).is_dir(), source


def test_the_compose_files_health_check_asks_a_path_without_keys(compose: dict[str, Any]) -> None:
    service = compose["services"]["tocsin"]
    (port, path) = re.findall(r"http://127\.0\.0\.1:(\d+)(/\w+)", service["healthcheck"]["test"][-1])[0]
    assert path in HEALTH_PATHS
    assert service["ports"] == [f"127.0.0.1:{BENTOML_PORT}:{port}"]


# Kubernetes


def documents(path: Path) -> Iterator[dict[str, Any]]:
    yield from yaml.safe_load_all(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def manifests() -> dict[str, dict[str, Any]]:
    """By kind, those that `kubectl apply -k` applies."""
    (kustomization,) = documents(KUBERNETES / "kustomization.yaml")
    applied = [one for name in kustomization["resources"] for one in documents(KUBERNETES / name)]
    return {one["kind"]: one for one in applied}


@pytest.fixture(scope="module")
def deployment(manifests: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return manifests["Deployment"]


@pytest.mark.parametrize("version", ["1.30", kubernetes_validate.latest_version()])
def test_every_manifest_is_one_by_kubernetes_own_schema(manifests: dict[str, dict[str, Any]], version: str) -> None:
    for manifest in manifests.values():
        assert manifest["apiVersion"] in OWN_KINDS
        kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("version", ["1.30", kubernetes_validate.latest_version()])
def test_the_pods_of_the_scoring_job_are_pods_by_kubernetes_own_schema(version: str) -> None:
    """What is around them is KubeRay's, whose schema no package carries; its names are held against their list."""
    (job,) = documents(KUBERNETES / "ray-job.yaml")
    cluster = job["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for group in groups:
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one"}, **group["template"]}
        kubernetes_validate.validate(pod, version, strict=True)
    assert set(job["spec"]) <= RAY_JOB_FIELDS
    assert set(cluster) <= RAY_CLUSTER_FIELDS
    assert set().union(*groups) <= RAY_GROUP_FIELDS
    for workers in cluster["workerGroupSpecs"]:
        assert workers["minReplicas"] <= workers["replicas"] <= workers["maxReplicas"]


def test_the_service_monitor_has_no_field_that_the_operator_does_not_know() -> None:
    (monitor,) = documents(KUBERNETES / "servicemonitor.yaml")
    assert (monitor["apiVersion"], monitor["kind"]) == ("monitoring.coreos.com/v1", "ServiceMonitor")
    assert set(monitor["spec"]) <= MONITOR_FIELDS
    for endpoint in monitor["spec"]["endpoints"]:
        assert set(endpoint) <= ENDPOINT_FIELDS
        assert set(endpoint["authorization"]) <= {"type", "credentials"}
        assert set(endpoint["authorization"]["credentials"]) == {"name", "key"}
        assert re.fullmatch(r"\d+(ms|s|m|h)", endpoint["interval"])


def test_a_mistake_in_a_manifest_is_found(deployment: dict[str, Any]) -> None:
    wrong = {**deployment, "spec": {**deployment["spec"], "replica": 3}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.30", strict=True)


def test_the_image_that_is_applied_is_this_versions() -> None:
    (kustomization,) = documents(KUBERNETES / "kustomization.yaml")
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert [image["newTag"] for image in kustomization["images"]] == [version]


def test_every_manifest_is_applied_or_meant_not_to_be() -> None:
    (kustomization,) = documents(KUBERNETES / "kustomization.yaml")
    there = {path.name for path in KUBERNETES.glob("*.yaml")} - {"kustomization.yaml"}
    assert there == {*kustomization["resources"], *NOT_APPLIED}


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl")
def test_kustomize_puts_the_manifests_together(manifests: dict[str, dict[str, Any]]) -> None:
    done = subprocess.run(["kubectl", "kustomize", str(KUBERNETES)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {one["kind"] for one in yaml.safe_load_all(done.stdout)} == set(manifests)


def test_the_manifests_select_the_pods_and_ports_there_are(
    manifests: dict[str, dict[str, Any]], deployment: dict[str, Any]
) -> None:
    template = deployment["spec"]["template"]
    labels = template["metadata"]["labels"]
    (container,) = template["spec"]["containers"]
    (port,) = container["ports"]
    assert port["containerPort"] == BENTOML_PORT
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    assert manifests["Service"]["spec"]["selector"] == labels
    assert manifests["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert manifests["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels
    assert [each["targetPort"] for each in manifests["Service"]["spec"]["ports"]] == [port["name"]]
    assert manifests["NetworkPolicy"]["spec"]["ingress"][0]["ports"] == [{"protocol": "TCP", "port": BENTOML_PORT}]
    assert manifests["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert template["spec"]["serviceAccountName"] == manifests["ServiceAccount"]["metadata"]["name"]
    (monitor,) = documents(KUBERNETES / "servicemonitor.yaml")
    assert monitor["spec"]["selector"]["matchLabels"] == manifests["Service"]["metadata"]["labels"]
    assert [end["port"] for end in monitor["spec"]["endpoints"]] == [
        p["name"] for p in manifests["Service"]["spec"]["ports"]
    ]


def test_the_pods_have_no_rights(deployment: dict[str, Any]) -> None:
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_the_probes_ask_paths_without_keys(deployment: dict[str, Any]) -> None:
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    probes = [container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "readiness", "liveness")]
    assert {probe["path"] for probe in probes} <= HEALTH_PATHS
    assert {probe["port"] for probe in probes} == {container["ports"][0]["name"]}


def test_a_pod_or_container_that_ends_has_the_time_to_answer_what_it_took_on(
    compose: dict[str, Any], deployment: dict[str, Any]
) -> None:
    # The body may only have begun to come in.
    longest = Settings().body_seconds + Settings().timeout_seconds
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    _, pause = container["lifecycle"]["preStop"]["exec"]["command"]
    assert pod["terminationGracePeriodSeconds"] > longest + int(pause)
    assert int(compose["services"]["tocsin"]["stop_grace_period"].removesuffix("s")) > longest


def test_every_variable_set_for_the_service_is_read_by_it(compose: dict[str, Any], deployment: dict[str, Any]) -> None:
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    given = {*compose["services"]["tocsin"]["environment"], *(each["name"] for each in container["env"])}
    known = {PREFIX + field.name.upper() for field in fields(Settings)}
    known |= {keys.FILE_VARIABLE, keys.VARIABLE, shadow.RELEASE_VARIABLE, shadow.SHARE_VARIABLE, RELEASE_VARIABLE}
    assert given <= known | {"BENTOML_DO_NOT_TRACK"}


def test_the_key_file_is_where_its_secret_is_mounted(deployment: dict[str, Any]) -> None:
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    (file,) = (each["value"] for each in container["env"] if each["name"] == keys.FILE_VARIABLE)
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert Path(file).parent == Path(mounts["keys"])
    assert f"--from-file={Path(file).name}" in (ROOT / "docs" / "deploying.md").read_text(encoding="utf-8")


def test_pods_are_added_by_a_metric_that_the_service_tells(live: str, manifests: dict[str, dict[str, Any]]) -> None:
    told = httpx.get(f"{live}/metrics").text
    scaled_by = [
        metric["pods"]["metric"]["name"]
        for metric in manifests["HorizontalPodAutoscaler"]["spec"]["metrics"]
        if metric["type"] == "Pods"
    ]
    assert scaled_by == [WAITING]
    assert re.search(rf"^{WAITING} ", told, re.MULTILINE)
    (values,) = documents(KUBERNETES / "prometheus-adapter.yaml")
    assert [rule["seriesQuery"].partition("{")[0] for rule in values["rules"]["custom"]] == [WAITING]
