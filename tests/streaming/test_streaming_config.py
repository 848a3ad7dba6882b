"""The gateway's configuration: bounded, with credentials from the environment and never in a message."""

from __future__ import annotations

from pathlib import Path

import pytest

from privseg.errors import UsageError
from privseg.privacy.masks import MaskPolicy
from privseg.privacy.profile import Profile
from privseg.privacy.zones import Zones
from privseg.streaming.config import load_config, load_zones, read_policy, schema_text

CAMERA = """
cameras:
  door:
    source: rtsp://viewer:${DOOR_PASSWORD}@10.0.0.5/live
    output: out/door.mp4
    method: silhouette
    purpose: watch the delivery door
    retention_hours: 72
    max_frames: 100
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "cameras.yaml"
    path.write_text(text)
    return path


def test_a_small_file_has_sound_defaults(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, CAMERA), {"DOOR_PASSWORD": "s3cret"})
    camera = config.cameras["door"]
    assert camera.source.get_secret_value() == "rtsp://viewer:s3cret@10.0.0.5/live"
    assert (config.triton.url, config.metrics.address, config.policy.threshold) == ("127.0.0.1:8001", "127.0.0.1", 0.35)
    assert (config.profile, camera.allow_obfuscation, camera.zones) == (Profile.PRODUCTION, False, Zones())
    assert "s3cret" not in repr(config)
    assert "s3cret" not in config.model_dump_json()


def test_everything_can_be_said(tmp_path: Path) -> None:
    text = (
        CAMERA
        + """    params: {color: "#101010"}
    zones:
      always: [[[0, 0], [0.2, 0], [0.2, 0.3]]]
      never_shown: [[[100, 0], [200, 0], [200, 300], [100, 300]]]
    loop: true
triton: {url: "dns:///triton:8001", insecure: true, deadline_seconds: 0.2, max_in_flight: 2, long_side: 640}
metrics: {port: 0, address: 0.0.0.0}
policy: {threshold: 0.3, hold_frames: 10, flow: false, confirm_empty: 4}
profile: laboratory
"""
    )
    config = load_config(write(tmp_path, text), {"DOOR_PASSWORD": "x"})
    assert config.triton.long_side == 640
    assert (config.policy.hold_frames, config.policy.flow, config.policy.confirm_empty) == (10, False, 4)
    assert config.profile is Profile.LABORATORY
    assert config.cameras["door"].zones.always == (((0, 0), (0.2, 0), (0.2, 0.3)),)
    assert config.cameras["door"].zones.never_shown[0][1] == (200, 0)
    assert config.cameras["door"].params == {"color": "#101010"}


def test_a_missing_variable_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cameras\.door\.source: the variable DOOR_PASSWORD is not set"):
        load_config(write(tmp_path, CAMERA), {})


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("    method: silhouette\n", "", "cameras.door.method"),
        ("    purpose: watch the delivery door\n", "", "cameras.door.purpose"),
        ("method: silhouette", "methode: silhouette", "cameras.door.method"),
        ("cameras:", "triton: {deadline_seconds: 0}\ncameras:", "triton.deadline_seconds"),
        ("cameras:", "policy: {threshold: 2}\ncameras:", "policy.threshold"),
        ("cameras:", "policy: {unsure_from: 0.5}\ncameras:", "policy: Value error, unsure_from must be below"),
        ("cameras:", "profile: none\ncameras:", "profile"),
        (
            "method: silhouette",
            "method: silhouette\n    zones: {always: [[[0, 0], [1, 1]]]}",
            "cameras.door.zones.always.0",
        ),
        ("  door:", "  Front Door:", "cameras"),
        ("    source: rtsp://viewer:${DOOR_PASSWORD}@10.0.0.5/live\n", "    source: [s3cret]\n", "cameras.door.source"),
    ],
)
def test_a_wrong_field_is_named_and_its_value_is_not(tmp_path: Path, old: str, new: str, field: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_config(write(tmp_path, CAMERA.replace(old, new)), {"DOOR_PASSWORD": "s3cret"})
    assert field in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["cameras: [", "just text", "cameras: {}", "", "source: rtsp://u:s3cret@h: : x"])
def test_what_is_no_configuration(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_config(write(tmp_path, text))
    assert "s3cret" not in str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        load_config(tmp_path / "none.yaml")


def test_zones_and_a_policy_can_be_said_apart(tmp_path: Path) -> None:
    zones = load_zones(write(tmp_path, "never_shown: [[[0, 0], [1, 0], [1, 0.1]]]"))
    assert zones.never_shown == (((0, 0), (1, 0), (1, 0.1)),)
    assert read_policy({"hold_frames": "12", "flow": "no"}) == MaskPolicy(hold_frames=12, flow=False)
    for wrong, fault in (("never: []", "never: Extra inputs"), ("- 1", "holds no mapping"), ("always: 3", "always")):
        with pytest.raises(UsageError, match=fault):
            load_zones(write(tmp_path, wrong))
    with pytest.raises(UsageError, match="policy: hold_frames"):
        read_policy({"hold_frames": "-1"})


def test_the_committed_schema_is_that_of_the_configuration() -> None:
    committed = Path(__file__).parents[2] / "docs" / "cameras.schema.json"
    assert committed.read_text(encoding="utf-8") == schema_text() + "\n", (
        "privseg stream --schema > docs/cameras.schema.json"
    )
