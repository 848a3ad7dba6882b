"""The DVC remote on S3: a real server on this machine, real users, and credentials that never land anywhere."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from privseg import workspace
from privseg.dataset_checkout import checkout, manifest_file
from privseg.dataset_remote import ENDPOINT_VARIABLE, REMOTE_VARIABLE, read_remote
from privseg.dataset_versions import list_versions
from privseg.errors import PrivsegError, ServerUnavailableError, UsageError
from privseg.testing.s3 import S3Server
from privseg.testing.tiny_versions import TinyVersions, sample

SAMPLES = [*(sample(f"street/{i:03d}") for i in range(4)), *(sample(f"mall/{i:03d}", split="test") for i in range(4))]
ALL = "s3:*"


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with S3Server() as running:
        yield running


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No credentials but those that a test sets."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))


@pytest.fixture
def remote(monkeypatch: pytest.MonkeyPatch, server: S3Server, request: pytest.FixtureRequest) -> str:
    """The environment of somebody who uses the server, under a prefix of the test's own."""
    url = f"s3://{server.bucket}/{request.node.name.replace('[', '-').strip(']')}"
    monkeypatch.setenv(REMOTE_VARIABLE, url)
    monkeypatch.setenv(ENDPOINT_VARIABLE, server.endpoint)
    return url


def sign_in(monkeypatch: pytest.MonkeyPatch, credentials: dict[str, str]) -> None:
    for name, value in credentials.items():
        monkeypatch.setenv(name, value)


def holding(folder: Path, secrets: list[str]) -> list[Path]:
    files = [file for file in folder.rglob("*") if file.is_file() and not file.is_symlink()]
    return [file for file in files if any(secret.encode() in file.read_bytes() for secret in secrets)]


def quiet(line: str) -> None:
    del line


def test_a_version_is_pushed_and_comes_back_from_the_server_alone(
    monkeypatch: pytest.MonkeyPatch,
    server: S3Server,
    remote: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    credentials = server.user(ALL)
    sign_in(monkeypatch, credentials)
    home = TinyVersions(tmp_path / "home")
    version = home.record(SAMPLES)
    then = home.digests()
    assert str(read_remote(home.workspace)) == f"{remote} at {server.endpoint}"
    assert not (home.home / "dvc-store").exists()
    assert [entry.in_remote for entry in list_versions(home.workspace)] == [None]

    shutil.rmtree(home.workspace / ".dvc" / "cache")
    shutil.rmtree(home.workspace / "data")
    assert manifest_file(home.workspace, version).is_file()
    lines: list[str] = []
    assert checkout(home.workspace, version, tmp_path / "old", say=lines.append)

    assert home.digests(tmp_path / "old") == then
    secrets = [credentials["AWS_ACCESS_KEY_ID"], credentials["AWS_SECRET_ACCESS_KEY"]]
    assert holding(tmp_path, secrets) == []
    shown = "".join([*capfd.readouterr(), *lines])
    assert not any(secret in shown for secret in secrets)
    bucket_holds_the_dataset_alone(server, remote, then)


def bucket_holds_the_dataset_alone(server: S3Server, remote: str, then: dict[str, str]) -> None:
    prefix = remote.removeprefix(f"s3://{server.bucket}/")
    names = [name for name in server.names() if name.startswith(prefix)]
    cached = [path for path in then if path != "reports/dataset.json"]
    folders = ["street", "mall", "cleansing", "dataset", "validation"]
    assert len(names) == len([*cached, "data/validated.json", *folders])


@pytest.fixture
def unpushed(tmp_path: Path, remote: str) -> TinyVersions:
    """A home whose dataset waits to be recorded."""
    home = TinyVersions(tmp_path / "home")
    home.version = home.write(SAMPLES)  # type: ignore[attr-defined]
    return home


def nothing_is_lost(home: TinyVersions, caught: pytest.ExceptionInfo[PrivsegError], *named: str) -> None:
    assert list_versions(home.workspace) == []
    assert home.digests()
    assert str(caught.value).count("\n") == 0
    for word in named:
        assert word in str(caught.value)


def test_a_server_that_refuses_or_is_gone_gets_no_version_tagged(
    monkeypatch: pytest.MonkeyPatch, unpushed: TinyVersions, remote: str, tmp_path: Path
) -> None:
    version: str = unpushed.version  # type: ignore[attr-defined]

    with S3Server() as server:
        monkeypatch.setenv(ENDPOINT_VARIABLE, server.endpoint)
        workspace.dataset_remote.configure(unpushed.workspace)

        with pytest.raises(ServerUnavailableError) as caught:
            workspace.record_dataset(unpushed.workspace, version)
        nothing_is_lost(unpushed, caught, remote, "credentials", "run the same command again")

        strangers = {"AWS_ACCESS_KEY_ID": "AKIASTRANGER", "AWS_SECRET_ACCESS_KEY": "a stranger's secret"}
        sign_in(monkeypatch, strangers)
        with pytest.raises(ServerUnavailableError) as caught:
            workspace.record_dataset(unpushed.workspace, version)
        nothing_is_lost(unpushed, caught, remote, "InvalidAccessKeyId")
        assert "stranger" not in str(caught.value).lower()

        reader = server.user("s3:ListBucket", "s3:GetObject")
        sign_in(monkeypatch, reader)
        with pytest.raises(ServerUnavailableError) as caught:
            workspace.record_dataset(unpushed.workspace, version)
        nothing_is_lost(unpushed, caught, remote, server.endpoint)

        monkeypatch.setenv(REMOTE_VARIABLE, "s3://no-such-bucket/x")
        workspace.dataset_remote.configure(unpushed.workspace)
        with pytest.raises(ServerUnavailableError) as caught:
            workspace.record_dataset(unpushed.workspace, version)
        nothing_is_lost(unpushed, caught, "no-such-bucket")

    with pytest.raises(ServerUnavailableError) as caught:  # the server is gone
        workspace.record_dataset(unpushed.workspace, version)
    nothing_is_lost(unpushed, caught, "no-such-bucket", "connect")
    assert holding(tmp_path, [reader["AWS_SECRET_ACCESS_KEY"], strangers["AWS_SECRET_ACCESS_KEY"]]) == []

    monkeypatch.delenv(REMOTE_VARIABLE)  # a directory after all: the same command works
    workspace.dataset_remote.configure(unpushed.workspace)
    workspace.record_dataset(unpushed.workspace, version)
    assert [entry.in_remote for entry in list_versions(unpushed.workspace)] == [True]


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    (tmp_path / "workspace" / ".dvc").mkdir(parents=True)
    (tmp_path / "workspace" / ".dvc" / "config").write_text("['remote \"store\"']\n    url = ../../dvc-store\n")
    return tmp_path / "workspace"


@pytest.mark.usefixtures("remote")
def test_the_address_is_written_for_this_workspace_alone_and_taken_back(
    monkeypatch: pytest.MonkeyPatch, prepared: Path, remote: str, server: S3Server
) -> None:
    workspace.dataset_remote.configure(prepared)
    found = read_remote(prepared)
    assert (found.url, found.endpoint, found.folder) == (remote, server.endpoint, None)
    assert dvc_sees(prepared) == remote

    monkeypatch.delenv(ENDPOINT_VARIABLE)
    workspace.dataset_remote.configure(prepared)
    assert read_remote(prepared).endpoint is None

    monkeypatch.delenv(REMOTE_VARIABLE)
    workspace.dataset_remote.configure(prepared)
    assert read_remote(prepared).folder == prepared.parent / "dvc-store"
    assert [file.name for file in (prepared / ".dvc").iterdir() if file.name != "tmp"] == ["config"]

    monkeypatch.setenv(REMOTE_VARIABLE, str(prepared / "elsewhere"))
    workspace.dataset_remote.configure(prepared)
    assert read_remote(prepared).folder == prepared / "elsewhere"


def dvc_sees(place: Path) -> str:
    subprocess.run(["git", "init", "--quiet"], cwd=place, check=True)
    command = [sys.executable, "-m", "dvc", "config", "remote.store.url"]
    return subprocess.run(command, cwd=place, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.usefixtures("remote")
def test_what_a_user_set_by_hand_stays(monkeypatch: pytest.MonkeyPatch, prepared: Path) -> None:
    file = prepared / ".dvc" / "config.local"
    by_hand = "['remote \"store\"']\n    url = s3://mine/own\n    profile = archive\n"
    file.write_text(by_hand)
    monkeypatch.delenv(REMOTE_VARIABLE)
    workspace.dataset_remote.configure(prepared)
    assert file.read_text() == by_hand

    monkeypatch.setenv(REMOTE_VARIABLE, "s3://other/place")
    workspace.dataset_remote.configure(prepared)
    assert "profile = archive" in file.read_text()
    assert read_remote(prepared).url == "s3://other/place"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        (REMOTE_VARIABLE, "s3://AKIAKEY:hush@bucket/prefix"),
        (REMOTE_VARIABLE, "s3://bucket/prefix?secret=hush"),
        (REMOTE_VARIABLE, "s3://"),
        (REMOTE_VARIABLE, "gs://bucket/hush"),
        (REMOTE_VARIABLE, "relative/folder"),
        (ENDPOINT_VARIABLE, "https://key:hush@minio.example:9000"),
        (ENDPOINT_VARIABLE, "minio.example:9000"),
        (ENDPOINT_VARIABLE, "ftp://minio.example"),
        (ENDPOINT_VARIABLE, "http://minio.example:99999"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_and_its_secrets_are_not_repeated(
    monkeypatch: pytest.MonkeyPatch, prepared: Path, variable: str, value: str
) -> None:
    monkeypatch.setenv(REMOTE_VARIABLE, "s3://bucket/prefix")
    monkeypatch.setenv(variable, value)
    with pytest.raises(UsageError, match=variable) as caught:
        workspace.dataset_remote.configure(prepared)
    assert "hush" not in str(caught.value)
    assert not (prepared / ".dvc" / "config.local").exists()


def test_without_the_s3_packages_the_message_says_how_to_get_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "dvc_s3", None)  # type: ignore[arg-type]  # what import sees without the package
    monkeypatch.setenv(REMOTE_VARIABLE, "s3://bucket/prefix")
    with pytest.raises(UsageError, match=r"pip install 'privseg\[s3\]'"):
        workspace.prepare(tmp_path / "home")
