"""The chart, through Helm's own engine: what it renders, and what it refuses to render."""

from __future__ import annotations

import copy
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import typer
import yaml
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from privseg.cli import app
from privseg.privacy.filters.registry import METHODS, create_method
from privseg.serving.triton_state import http_ok
from privseg.streaming.config import GatewayConfig, load_config
from privseg.testing.helm import HelmChart, RefusedByHelmError
from privseg.testing.triton import make_person_model, running_triton

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "privseg"
MODEL = "person_segmentation"
PASSWORD = "hunter2"
VALUES: dict[str, Any] = {
    "cameras": {
        "front-door": {
            "source": "rtsp://${LOGIN}@10.0.5.11/stream",
            "method": "silhouette",
            "params": {"color": "#102030"},
            "purpose": "Theft prevention at the loading bay",
            "retention_hours": 72,
        },
        "yard": {
            "source": "rtsp://10.0.5.12/stream",
            "method": "blank",
            "purpose": "Fire watch: 100%, day & night",
            "retention_hours": 24,
        },
    },
    "gateway": {"credentialsSecret": "camera-logins"},
}
Manifest = dict[str, Any]


@pytest.fixture(scope="module")
def chart() -> Iterator[HelmChart]:
    with HelmChart(CHART) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def manifests(chart: HelmChart) -> dict[str, Manifest]:
    return render(chart, VALUES)


def render(chart: HelmChart, values: dict[str, Any]) -> dict[str, Manifest]:
    """Every rendered object by ``Kind/name``."""
    files = chart.render(values, name="demo", namespace="cctv")
    texts = [text for path, text in files.items() if path.endswith(".yaml")]
    objects = [item for text in texts for item in yaml.safe_load_all(text) if item]
    return {f"{item['kind']}/{item['metadata']['name']}": item for item in objects}


def changed(path: str, value: object) -> dict[str, Any]:
    """VALUES with ``value`` at the dotted ``path``."""
    values = copy.deepcopy(VALUES)
    *parents, last = path.split(".")
    place = values
    for key in parents:
        place = place.setdefault(key, {})
    place[last] = value
    return values


def pod(manifests: dict[str, Manifest], part: str) -> dict[str, Any]:
    spec: dict[str, Any] = manifests[f"Deployment/demo-privseg-{part}"]["spec"]["template"]["spec"]
    return spec


def container(manifests: dict[str, Manifest], part: str) -> dict[str, Any]:
    (only,) = pod(manifests, part)["containers"]
    return only


def selects(selector: dict[str, Any], manifests: dict[str, Manifest], part: str) -> bool:
    labels = manifests[f"Deployment/demo-privseg-{part}"]["spec"]["template"]["metadata"]["labels"]
    return selector["matchLabels"].items() <= labels.items()


def gateway_config(manifests: dict[str, Manifest], folder: Path) -> GatewayConfig:
    """What the gateway would read, with the Secret's variable set."""
    file = folder / "cameras.yaml"
    file.write_text(manifests["ConfigMap/demo-privseg-gateway"]["data"]["cameras.yaml"], encoding="utf-8")
    return load_config(file, {"LOGIN": f"guard:{PASSWORD}"})


def test_lint_finds_neither_errors_nor_warnings(chart: HelmChart) -> None:
    report = chart.lint(VALUES, namespace="cctv")
    assert report["errors"] == []
    assert [message for message in report["messages"] if message["severity"] > 1] == []


@pytest.mark.parametrize("version", ["1.25", "1.37"])
def test_every_object_is_one_that_kubernetes_knows(manifests: dict[str, Manifest], version: str) -> None:
    for manifest in manifests.values():
        kubernetes_validate.validate(manifest, version, strict=True)


def test_one_camera_and_the_defaults_are_enough(chart: HelmChart) -> None:
    values = {"cameras": {"yard": VALUES["cameras"]["yard"]}}
    kinds = sorted(name.split("/")[0] for name in render(chart, values))
    assert kinds == (
        ["ConfigMap"] + ["Deployment"] * 2 + ["NetworkPolicy"] * 3 + ["PersistentVolumeClaim"] * 2 + ["Service"]
    )


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("cameras", {}, "/cameras"),
        ("cameras", None, "cameras"),
        ("cameras.yard.method", "none", "/cameras/yard/method"),
        ("cameras.yard", {"source": "rtsp://10.0.5.12/s", "method": "blank"}, "purpose"),
        ("cameras.yard", {"source": "rtsp://10.0.5.12/s", "purpose": "Fire watch"}, "method"),
        ("cameras.yard.retention_hours", 0, "/cameras/yard/retention_hours"),
        ("cameras.yard.purpose", "    ", "/cameras/yard/purpose"),
        ("cameras.yard.output", "/recordings/front-door/a.mp4", "output"),
        ("cameras.yard.source", "/etc/passwd", "/cameras/yard/source"),
        ("cameras.yard.source", "rtsp://guard:hunter2@10.0.5.12/s", "/cameras/yard/source"),
        ("cameras.Yard", VALUES["cameras"]["yard"], "Yard"),
        ("cameras.yard/x", VALUES["cameras"]["yard"], "yard/x"),
        ("gateway.replicas", 2, "replicas"),
        ("gateway.image.digest", "sha256:0", "digest"),
        ("triton.replicas", 0, "/triton/replicas"),
        ("triton.modelRepository.size", "lots", "/triton/modelRepository/size"),
        ("networkPolicy.enabled", False, "enabled"),
        ("networkPolicy.cameraNetworks", [], "/networkPolicy/cameraNetworks"),
        ("gatewy", {}, "gatewy"),
    ],
)
def test_values_that_could_show_somebody_or_mean_nothing_are_refused(
    chart: HelmChart, path: str, value: object, named: str
) -> None:
    with pytest.raises(RefusedByHelmError, match=named) as refused:
        render(chart, changed(path, value))
    assert refused.value.kind == "HelmValuesError"


def test_a_source_with_a_login_needs_the_secret_that_holds_it(chart: HelmChart) -> None:
    with pytest.raises(RefusedByHelmError, match=r"set gateway\.credentialsSecret"):
        render(chart, changed("gateway.credentialsSecret", ""))


def test_schema_knows_the_methods_that_privseg_has(chart: HelmChart) -> None:
    assert chart.schema is not None
    pattern = chart.schema["definitions"]["camera"]["properties"]["method"]["pattern"]
    first, second = re.findall(r"\(((?:\w+\|)+\w+)\)", pattern)
    assert set(first.split("|")) == set(second.split("|")) == set(METHODS)
    assert re.search(pattern, "pixelate+outline")
    assert not re.search(pattern, "none")
    assert not re.search(pattern, "pixelate+")


def test_gateway_reads_the_rendered_cameras(manifests: dict[str, Manifest], tmp_path: Path) -> None:
    config = gateway_config(manifests, tmp_path)
    assert config.cameras.keys() == VALUES["cameras"].keys()
    for name, camera in config.cameras.items():
        given = VALUES["cameras"][name]
        assert (camera.method, camera.purpose) == (given["method"], given["purpose"])
        assert camera.params == given.get("params", {})
        assert camera.recording is not None
        assert camera.recording.folder == Path(f"/recordings/{name}")
        assert camera.retention_hours == given["retention_hours"]
        create_method(camera.method, camera.params)
    assert config.cameras["front-door"].source.get_secret_value() == f"rtsp://guard:{PASSWORD}@10.0.5.11/stream"


def test_gateway_command_and_ports_fit_its_configuration(manifests: dict[str, Manifest], tmp_path: Path) -> None:
    gateway = container(manifests, "gateway")
    program, command, *arguments = gateway["command"]
    assert program == "privseg"
    parsed = typer.main.get_command(app).commands[command].make_context(command, list(arguments))  # type: ignore[attr-defined]
    mounted = {mount["name"]: mount["mountPath"] for mount in gateway["volumeMounts"]}
    assert parsed.params["config"] == Path(mounted["config"], "cameras.yaml")
    assert mounted["recordings"] == "/recordings"

    config = gateway_config(manifests, tmp_path)
    assert {"name": "metrics", "containerPort": config.metrics.port} in gateway["ports"]
    assert config.metrics.address == "0.0.0.0"
    service = manifests["Service/demo-privseg-triton"]
    ports = {port["name"]: port["port"] for port in service["spec"]["ports"]}
    assert config.triton.url == f"dns:///{service['metadata']['name']}:{ports['grpc']}"
    assert config.triton.insecure  # the network policy guards the way to Triton
    assert config.triton.model == MODEL


def test_credentials_stay_in_the_secret(manifests: dict[str, Manifest]) -> None:
    config = manifests["ConfigMap/demo-privseg-gateway"]["data"]["cameras.yaml"]
    assert "rtsp://${LOGIN}@10.0.5.11/stream" in config
    assert container(manifests, "gateway")["envFrom"] == [{"secretRef": {"name": "camera-logins"}}]
    assert not [name for name in manifests if name.startswith("Secret/")]


def test_a_camera_never_has_two_writers(manifests: dict[str, Manifest]) -> None:
    spec = manifests["Deployment/demo-privseg-gateway"]["spec"]
    assert spec["replicas"] == 1
    assert spec["strategy"] == {"type": "Recreate"}


def test_a_changed_camera_restarts_the_gateway(chart: HelmChart, manifests: dict[str, Manifest]) -> None:
    other = render(chart, changed("cameras.yard.method", "silhouette"))
    before, after = (
        objects["Deployment/demo-privseg-gateway"]["spec"]["template"]["metadata"]["annotations"]
        for objects in (manifests, other)
    )
    assert before != after


@pytest.mark.parametrize("part", ["gateway", "triton"])
def test_pods_are_restricted(manifests: dict[str, Manifest], part: str) -> None:
    spec = pod(manifests, part)
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    assert not [name for name, volume in volumes.items() if "hostPath" in volume]
    for item in [*spec["containers"], *spec.get("initContainers", [])]:
        assert item["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        (tmp,) = (mount["name"] for mount in item["volumeMounts"] if mount["mountPath"] == "/tmp")
        assert "emptyDir" in volumes[tmp]
        assert "memory" in item["resources"]["limits"]


def test_triton_loads_the_model_from_a_read_only_volume(manifests: dict[str, Manifest]) -> None:
    triton = container(manifests, "triton")
    assert {"--model-control-mode=explicit", f"--load-model={MODEL}", "--model-repository=/models"} <= set(
        triton["args"]
    )
    (models,) = (mount for mount in triton["volumeMounts"] if mount["mountPath"] == "/models")
    assert models["readOnly"] is True
    service = manifests["Service/demo-privseg-triton"]["spec"]
    assert service["clusterIP"] == "None"
    assert selects({"matchLabels": service["selector"]}, manifests, "triton")
    assert not selects({"matchLabels": service["selector"]}, manifests, "gateway")


@pytest.mark.parametrize(
    ("part", "value", "claim", "volume"),
    [
        ("gateway", "gateway.recordings", "demo-privseg-recordings", "recordings"),
        ("triton", "triton.modelRepository", "demo-privseg-models", "models"),
    ],
)
def test_volumes_outlive_the_release_and_may_be_ones_own(
    chart: HelmChart, manifests: dict[str, Manifest], part: str, value: str, claim: str, volume: str
) -> None:
    def claimed(objects: dict[str, Manifest]) -> str:
        volumes = {entry["name"]: entry for entry in pod(objects, part)["volumes"]}
        name: str = volumes[volume]["persistentVolumeClaim"]["claimName"]
        return name

    assert claimed(manifests) == claim
    annotations = manifests[f"PersistentVolumeClaim/{claim}"]["metadata"]["annotations"]
    assert annotations["helm.sh/resource-policy"] == "keep"
    other = render(chart, changed(f"{value}.existingClaim", "mine"))
    assert claimed(other) == "mine"
    assert f"PersistentVolumeClaim/{claim}" not in other


def test_only_the_gateway_reaches_triton(manifests: dict[str, Manifest]) -> None:
    policies = {name: item["spec"] for name, item in manifests.items() if item["kind"] == "NetworkPolicy"}
    deny = policies.pop("NetworkPolicy/demo-privseg-deny")
    assert deny.keys() == {"podSelector", "policyTypes"}
    assert set(deny["policyTypes"]) == {"Ingress", "Egress"}
    assert selects(deny["podSelector"], manifests, "gateway")
    assert selects(deny["podSelector"], manifests, "triton")

    (triton,) = (policy for policy in policies.values() if selects(policy["podSelector"], manifests, "triton"))
    assert "egress" not in triton
    peers = {entry["ports"][0]["port"]: entry["from"] for entry in triton["ingress"]}
    assert all(len(entry["ports"]) == 1 for entry in triton["ingress"])
    assert peers.keys() == {8001, 8002}
    (caller,) = peers[8001]
    assert caller.keys() == {"podSelector"}
    assert selects(caller["podSelector"], manifests, "gateway")
    assert not selects(caller["podSelector"], manifests, "triton")


def test_nobody_scrapes_unless_named(chart: HelmChart) -> None:
    objects = render(chart, changed("networkPolicy.metricsFrom", []))
    assert "ingress" not in objects["NetworkPolicy/demo-privseg-gateway"]["spec"]
    (grpc,) = objects["NetworkPolicy/demo-privseg-triton"]["spec"]["ingress"]
    assert grpc["ports"] == [{"port": 8001, "protocol": "TCP"}]
    for manifest in objects.values():
        kubernetes_validate.validate(manifest, "1.37", strict=True)


def test_gateway_image_is_the_packages_version(chart: HelmChart, manifests: dict[str, Manifest]) -> None:
    package = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert chart.metadata["appVersion"] == package
    assert container(manifests, "gateway")["image"] == f"privseg-gateway:{package}"


def test_notes_are_three_lines(chart: HelmChart) -> None:
    notes = chart.render(VALUES, name="demo", namespace="cctv")["privseg/templates/NOTES.txt"]
    assert len(notes.strip().splitlines()) == 3
    assert notes.startswith("2 camera(s)")


@pytest.mark.slow
def test_triton_stays_in_the_service_after_a_version_that_does_not_load(
    manifests: dict[str, Manifest], tmp_path: Path
) -> None:
    triton = container(manifests, "triton")
    started, ready, live = (triton[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "readiness", "liveness"))
    with running_triton(tmp_path) as served:
        assert all(http_ok(served.http_url + path) for path in (started, ready, live))
        make_person_model(served.repository / MODEL / "2", kind="garbage")
        with InferenceServerClient(served.grpc_url) as client:
            with pytest.raises(InferenceServerException, match="load failed"):
                client.load_model(MODEL)
            assert client.is_model_ready(MODEL)
            assert http_ok(served.http_url + ready)
            client.unload_model(MODEL)
        assert not http_ok(served.http_url + ready)
        assert http_ok(served.http_url + live)
