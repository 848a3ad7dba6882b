"""Signed versions: what is changed, unsigned or signed by somebody else is refused wherever it is read."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from privseg.errors import GateFailedError, UsageError
from privseg.serving.artifact import Artifact, read_artifact, read_artifact_record, sign_artifact, write_artifact
from privseg.serving.repository import publish
from privseg.testing.triton import ServedModel, make_person_model, running_triton

SECRET, OTHER = "5f" * 32, "a0" * 32
CONTENT = b"the weights of a model" * 8
RECORD = {"candidate": "tiny", "metrics": {"recall": 0.5, "images": [1, 2]}, "opset": 17, "git_dirty": False, "n": None}
SIGN, VERIFY = "PRIVSEG_SIGNING_KEY", "PRIVSEG_VERIFY_KEY"


def pair() -> tuple[str, str]:
    private = Ed25519PrivateKey.generate()
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return pem.decode(), public.decode()


@pytest.fixture(scope="module", params=["hmac", "ed25519"])
def keys(request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """The two keys, in the environment."""
    made = (SECRET, SECRET) if request.param == "hmac" else pair()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(SIGN, made[0])
        patch.setenv(VERIFY, made[1])
        yield made


@pytest.fixture(scope="module")
def signed(keys: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return write_artifact(tmp_path_factory.mktemp("signed"), CONTENT, RECORD)


def test_a_signed_version_is_read_and_its_record_tells_no_key(signed: Artifact, keys: tuple[str, str]) -> None:
    assert read_artifact(signed.directory).record == signed.record
    signature = signed.record["signature"]
    assert set(signature) == {"algorithm", "key_id", "value"}
    text = (signed.directory / "model.json").read_text()
    for key in keys:
        assert key not in text
        assert key.strip().splitlines()[-1 if len(key.splitlines()) == 1 else 1] not in text


@given(position=st.integers(0, len(CONTENT) - 1), flip=st.integers(1, 255), rehash=st.booleans())
@settings(max_examples=60, deadline=None)
def test_any_flipped_byte_of_the_model_is_refused(signed: Artifact, position: int, flip: int, rehash: bool) -> None:
    changed = bytearray(CONTENT)
    changed[position] ^= flip
    record = signed.record | ({"sha256": hashlib.sha256(changed).hexdigest()} if rehash else {})
    assert_refused(signed, bytes(changed), json.dumps(record))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=4,
)


def paths(value: Any, before: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [path for key in keys for path in ((*before, key), *paths(value[key], (*before, key)))]


@given(data=st.data())
@settings(max_examples=120, deadline=None)
def test_any_changed_removed_or_added_field_is_refused(signed: Artifact, data: st.DataObject) -> None:
    record = json.loads((signed.directory / "model.json").read_text())
    before = json.dumps(record, sort_keys=True)
    path = data.draw(st.sampled_from([*paths(record), ("added",), ("metrics", "added"), ("signature", "added")]))
    holder = record
    for key in path[:-1]:
        holder = holder[key]
    if data.draw(st.booleans()) and path[-1] != "added":
        del holder[path[-1]]
    else:
        holder[path[-1]] = data.draw(VALUES)
    if json.dumps(record, sort_keys=True) != before:  # 1 and true and 1.0 are different fields
        assert_refused(signed, CONTENT, json.dumps(record))


@given(position=st.integers(0, 10_000), flip=st.integers(1, 255))
@settings(max_examples=120, deadline=None)
def test_any_flipped_byte_of_the_record_changes_nothing_or_is_refused(
    signed: Artifact, position: int, flip: int
) -> None:
    content = bytearray((signed.directory / "model.json").read_bytes())
    content[position % len(content)] ^= flip
    place = lay(signed, CONTENT, bytes(content))
    try:
        record = read_artifact(place).record
    except GateFailedError:
        return
    assert record == signed.record, "white space, or 1.0 as 1e0: the same record"


def test_a_field_that_is_there_twice_is_refused(signed: Artifact) -> None:
    text = (signed.directory / "model.json").read_text()
    assert_refused(signed, CONTENT, text.replace('{\n  "candidate"', '{\n  "candidate": "evil",\n  "candidate"', 1))


def test_an_older_algorithm_or_key_is_named(signed: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in (OTHER, pair()[1]):
        monkeypatch.setenv(VERIFY, key)
        with pytest.raises(GateFailedError, match=r"model\.json: is signed with .* key \w{16}, not with") as caught:
            read_artifact_record(signed.directory)
        assert key not in str(caught.value)


def test_a_public_key_is_no_secret_to_sign_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has the public key only must not be able to sign by calling it an HMAC secret."""
    private, public = pair()
    monkeypatch.setenv(SIGN, public)
    with pytest.raises(UsageError, match="no Ed25519 private key") as caught:
        write_artifact(tmp_path, CONTENT, RECORD)
    assert public not in str(caught.value)
    assert not list(tmp_path.iterdir())
    monkeypatch.setenv(SIGN, private)
    write_artifact(tmp_path, CONTENT, RECORD)
    monkeypatch.setenv(VERIFY, private)
    with pytest.raises(UsageError, match="no Ed25519 public key"):
        read_artifact(tmp_path)


@pytest.mark.parametrize(
    ("key", "fault"), [("", "is set, but empty"), ("short", "fewer than 32"), ("-----BEGIN nonsense", "is PEM, but")]
)
@pytest.mark.parametrize("variable", [SIGN, VERIFY])
def test_a_key_that_cannot_be_used_stops_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, key: str, fault: str
) -> None:
    monkeypatch.delenv(SIGN, raising=False)
    monkeypatch.delenv(VERIFY, raising=False)
    write_artifact(tmp_path, CONTENT, RECORD)
    monkeypatch.setenv(variable, key)
    with pytest.raises(UsageError, match=fault):
        write_artifact(tmp_path, CONTENT, RECORD) if variable == SIGN else read_artifact(tmp_path)


def test_without_the_package_ed25519_is_refused_not_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private, public = pair()
    monkeypatch.setenv(SIGN, private)
    write_artifact(tmp_path, CONTENT, RECORD)
    monkeypatch.setenv(VERIFY, public)
    assert read_artifact(tmp_path)
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric", None)
    with pytest.raises(UsageError, match="cryptography is not installed"):
        read_artifact(tmp_path)


def test_without_keys_nothing_is_signed_and_anything_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SIGN, raising=False)
    monkeypatch.delenv(VERIFY, raising=False)
    assert "signature" not in write_artifact(tmp_path, CONTENT, RECORD | {"signature": {"value": "old"}}).record
    assert read_artifact(tmp_path)


def test_a_version_is_signed_afterwards_by_who_vouches_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SIGN, raising=False)
    monkeypatch.delenv(VERIFY, raising=False)
    before = write_artifact(tmp_path, CONTENT, RECORD).record
    with pytest.raises(UsageError, match=f"{SIGN}: is not set"):
        sign_artifact(tmp_path)
    monkeypatch.setenv(SIGN, SECRET)
    monkeypatch.setenv(VERIFY, SECRET)
    with pytest.raises(GateFailedError, match="is not signed"):
        read_artifact(tmp_path)
    signed = sign_artifact(tmp_path).record
    assert read_artifact(tmp_path).record == signed
    assert {name: value for name, value in signed.items() if name != "signature"} == before
    (tmp_path / "model.onnx").write_bytes(b"another")
    with pytest.raises(GateFailedError, match="sha256"):
        sign_artifact(tmp_path)


@pytest.fixture(scope="module")
def guarded(keys: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedModel]:
    """A Triton that got the verify key when it was started."""
    with running_triton(tmp_path_factory.mktemp("guarded"), kind=None) as triton:
        yield triton


@pytest.mark.slow
def test_triton_loads_what_is_signed_and_refuses_what_is_not(
    guarded: ServedModel, keys: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The publisher here has no verify key: whatever it lets pass, the server does not."""
    monkeypatch.delenv(VERIFY, raising=False)
    make_person_model(tmp_path / "signed", kind="bright")
    monkeypatch.setenv(SIGN, OTHER if keys == (SECRET, SECRET) else pair()[0])
    make_person_model(tmp_path / "foreign", kind="inverse")
    monkeypatch.delenv(SIGN)
    make_person_model(tmp_path / "unsigned", kind="inverse")

    def put(name: str) -> int:
        reason = "the guarded server is what is asked"
        return publish(
            guarded.repository, tmp_path / name, endpoints=[guarded.grpc_url], skip_smoke_load=reason
        ).version

    assert put("signed") == 1
    for name, fault in (("unsigned", "model.json is not signed"), ("foreign", "is signed with [a-z0-9-]+ key")):
        with pytest.raises(GateFailedError, match=fault):
            put(name)
    log = guarded.log.read_text(errors="replace")
    assert not any(key in log for key in keys)


def lay(signed: Artifact, onnx: bytes, record: bytes) -> Path:
    place = signed.directory.parent / "changed"
    place.mkdir(exist_ok=True)
    (place / "model.onnx").write_bytes(onnx)
    (place / "model.json").write_bytes(record)
    return place


def assert_refused(signed: Artifact, onnx: bytes, record: str) -> None:
    with pytest.raises(GateFailedError):
        read_artifact(lay(signed, onnx, record.encode()))
