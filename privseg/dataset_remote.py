"""The DVC remote that dataset versions are pushed to: a directory by default, S3 when the environment says so.

========================== =====================================================================================
variable                   meaning
========================== =====================================================================================
PRIVSEG_DVC_REMOTE         ``s3://bucket/prefix``, or the absolute path of a directory; unset: ``<home>/dvc-store``
PRIVSEG_DVC_ENDPOINT_URL   address of an S3 server other than Amazon's: ``https://minio.example:9000``
AWS_*, instance role       the credentials, as every S3 client finds them
========================== =====================================================================================

Only the address is written down, in ``.dvc/config.local``, which git ignores. Credentials are read by the S3 client
from its own environment; they are in no file, log or message of privseg.
"""

from __future__ import annotations

import importlib.util
import io
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from privseg.errors import ServerUnavailableError, StorageError, UsageError
from privseg.repro import run

__all__ = [
    "ENDPOINT_VARIABLE",
    "REMOTE_VARIABLE",
    "Remote",
    "configure",
    "dvc",
    "read_config",
    "read_remote",
    "write_config",
]

REMOTE_VARIABLE = "PRIVSEG_DVC_REMOTE"
ENDPOINT_VARIABLE = "PRIVSEG_DVC_ENDPOINT_URL"
_SECTION = 'remote "store"'
_OURS = f"# from {REMOTE_VARIABLE}"  # marks what may be taken back when the variable is gone
_S3_URL = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^\s?#]*)?")
_INCOMPLETE = "Some of the cache files do not exist"
_SECRETS = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID")


@dataclass(frozen=True)
class Remote:
    """Where a workspace pushes to.

    Attributes:
        url: ``s3://bucket/prefix`` or the path of a directory.
        endpoint: Address of the S3 server; None: Amazon's, or no S3 at all.
        folder: The directory; None for a server.
        settings: What else a user configured by hand, names only.
    """

    url: str
    endpoint: str | None = None
    folder: Path | None = None
    settings: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.url} at {self.endpoint}" if self.endpoint else self.url

    def reach(self) -> None:
        """Ask the server for one name; a directory is not asked.

        DVC itself needs minutes of retries to find out that a server is gone, and says less about why.

        Raises:
            ServerUnavailableError: There is no answer, no such bucket, no credentials, or they are refused.
        """
        if self.folder is not None or self.settings:  # an S3 client set up by hand is DVC's alone to understand
            return
        import botocore.session  # type: ignore[import-untyped]
        from botocore.config import Config  # type: ignore[import-untyped]
        from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]

        bucket, _, prefix = self.url.removeprefix("s3://").partition("/")
        settings = Config(connect_timeout=10, read_timeout=30, retries={"total_max_attempts": 2})
        try:
            client = botocore.session.get_session().create_client("s3", endpoint_url=self.endpoint, config=settings)
            try:
                client.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=1)
            finally:
                client.close()
        except (BotoCoreError, ClientError, ValueError) as error:
            raise _unavailable(self, str(error)) from None


def configure(workspace: Path) -> None:
    """Write the remote's address that the environment names into the workspace, or take it back.

    What a user set there by hand stays.

    Raises:
        UsageError: The address cannot be used, holds credentials, or needs a package that is not installed.
        StorageError: The file cannot be written.
    """
    wanted = dict(zip(("url", "endpointurl"), _wanted(), strict=True))
    file = workspace / ".dvc" / "config.local"
    if not any(wanted.values()) and not file.is_file():
        return
    from configobj import ConfigObj  # type: ignore[import-untyped]  # DVC's own format and library

    try:
        before = file.read_bytes() if file.is_file() else b""
        config = ConfigObj(io.BytesIO(before))
        section = config.setdefault(_SECTION, {})
        for key, value in wanted.items():
            if value:
                section[key] = value
                section.comments[key] = [_OURS]
            elif section.comments.get(key) == [_OURS]:
                del section[key]
        if not section:
            del config[_SECTION]
        buffer = io.BytesIO()
        config.write(buffer)
        after = buffer.getvalue() if config.sections or config.scalars else b""
        if after != before:
            partial = file.with_name(f"{file.name}.partial")
            partial.write_bytes(after)
            partial.replace(file)
        if not after:
            file.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError.from_os_error(file, error) from error


def write_config(scratch: Path, *, beside: Path, core: dict[str, Any], cache: dict[str, str], remote: Remote) -> None:
    """Set DVC up in a folder of its own, with another workspace's remote and what a user configured for it by hand.

    Args:
        scratch: The folder; ``.dvc`` is made in it.
        beside: The workspace whose ``config.local`` holds, but for what is given here.
        core: DVC's section ``core``.
        cache: DVC's section ``cache``.
        remote: Where data is fetched from.
    """
    from configobj import ConfigObj

    folder = scratch / ".dvc"
    folder.mkdir()
    by_hand = beside / ".dvc" / "config.local"
    if by_hand.is_file():
        (folder / "config").symlink_to(by_hand)  # not a copy: people keep credentials there
    config = ConfigObj({"core": core, "cache": cache, _SECTION: {"url": remote.url}})
    if remote.endpoint:
        config[_SECTION]["endpointurl"] = remote.endpoint
    with (folder / "config.local").open("wb") as file:
        config.write(file)


def read_config(workspace: Path) -> dict[str, dict[str, Any]]:
    """Return the workspace's DVC configuration, its local part over the shared one."""
    from configobj import ConfigObj

    merged: dict[str, dict[str, Any]] = {}
    for name in ("config", "config.local"):
        file = workspace / ".dvc" / name
        for section, values in ConfigObj(str(file)).items() if file.is_file() else ():
            merged.setdefault(section, {}).update(values)
    return merged


def read_remote(workspace: Path) -> Remote:
    """Return the remote the workspace is set up for."""
    section = read_config(workspace).get(_SECTION, {})
    url = str(section.get("url", ""))
    if not url.startswith("s3://"):
        folder = Path(os.path.normpath(workspace / ".dvc" / url))  # DVC reads it relative to its configuration
        return Remote(str(folder), folder=folder)
    return Remote(url, section.get("endpointurl"), settings=tuple(sorted(set(section) - {"url", "endpointurl"})))


def dvc(arguments: Sequence[str], cwd: Path, remote: Remote) -> None:
    """Run a DVC command that works with the remote.

    Raises:
        ServerUnavailableError: The remote is a server, and the command failed.
        StorageError: It is a directory, or the disk is full.
    """
    done = run([sys.executable, "-m", "dvc", "--wait-for-lock", *arguments], cwd, check=False)
    if done.returncode == 0 or _INCOMPLETE in done.stderr + done.stdout:
        return  # DVC pushes what there is and calls that a success, so callers look for what is missing themselves
    lines = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
    faults = [line.removeprefix("ERROR: ").removeprefix("unexpected error - ") for line in lines if "ERROR" in line]
    fault = next(iter(faults or lines[-1:]), "no message")
    if "No space left" in fault:
        raise StorageError(cwd, "no space left on the disk", "free space there, then run the same command again")
    if remote.folder is None:
        raise _unavailable(remote, fault)
    again = "check the disk there, then run the same command again"
    raise StorageError(remote.folder, f"dvc {arguments[0]} failed: {_scrub(fault)}", again)


def _wanted() -> tuple[str | None, str | None]:
    url = os.environ.get(REMOTE_VARIABLE, "").strip().rstrip("/")
    if not url:
        return None, None
    if "://" not in url:
        if not Path(url).is_absolute():
            raise UsageError(
                REMOTE_VARIABLE, f"{url} is no absolute path", "write the whole path, or s3://bucket/prefix"
            )
        return url, None
    if not _S3_URL.fullmatch(url):
        # not shown: people put a key and its secret before the bucket
        fault = "is not of the form s3://bucket/prefix"
        raise UsageError(REMOTE_VARIABLE, fault, "correct it; credentials belong in AWS_ACCESS_KEY_ID and its like")
    if importlib.util.find_spec("dvc_s3") is None:
        raise UsageError(REMOTE_VARIABLE, f"{url} needs the S3 packages", "pip install 'privseg[s3]'")
    endpoint = os.environ.get(ENDPOINT_VARIABLE, "").strip().rstrip("/")
    try:
        parts = urlsplit(endpoint)
        usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if endpoint and (not usable or "@" in endpoint or parts.query or parts.fragment):
        fault = "is not of the form https://host:port"
        raise UsageError(ENDPOINT_VARIABLE, fault, "correct it; credentials belong in AWS_ACCESS_KEY_ID and its like")
    return url, endpoint or None


def _unavailable(remote: Remote, fault: str) -> ServerUnavailableError:
    return ServerUnavailableError(
        f"DVC remote {remote}",
        _scrub(fault).rstrip("."),
        f"check the server, {REMOTE_VARIABLE} and the AWS_* credentials, then run the same command again",
    )


def _scrub(text: str) -> str:
    """The text without the credentials that a library may have put into it."""
    for name in _SECRETS:
        value = os.environ.get(name, "")
        if value:
            text = text.replace(value, "***")
    return text
