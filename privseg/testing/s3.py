"""An S3 server for tests, on this machine: moto in a process of its own, with real users and their permissions."""

from __future__ import annotations

import contextlib
import json
import selectors
import subprocess
import sys
import urllib.request
from types import TracebackType
from typing import IO, Any

from privseg.errors import ServerUnavailableError

__all__ = ["S3Server"]

_REGION = "us-east-1"
_UNCHECKED = b"1000000000"  # requests before the server looks at who asks


class S3Server:
    """An S3 server with one bucket between ``start`` and ``stop``; as a context manager, inside its block.

    It holds its objects in memory: a stopped server has lost them. Only users made with `user` may do anything.

    Args:
        bucket: Name of the bucket.
    """

    def __init__(self, bucket: str = "datasets") -> None:
        self.bucket = bucket
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._users = 0

    @property
    def endpoint(self) -> str:
        """Address of the server."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start the server on a free port and make the bucket. Does nothing when it runs.

        Raises:
            ServerUnavailableError: It did not come up, moto being missing for example.
        """
        if self._process is not None:
            return
        self._process = subprocess.Popen(
            [sys.executable, "-m", "privseg.testing.s3"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        try:
            self.port = int(_read_line(self._process.stdout, timeout=60))
            self._client("s3").create_bucket(Bucket=self.bucket)
            self._check_users(True)
        except BaseException as error:
            self.stop()
            if isinstance(error, ValueError):
                raise ServerUnavailableError("S3 server", "did not start", "pip install 'moto[server]'") from None
            raise

    def stop(self) -> None:
        """Stop the server. Does nothing when it is stopped."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(OSError):  # a dead server no longer reads
            _pipe(process.stdin).close()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        _pipe(process.stdout).close()

    def user(self, *actions: str) -> dict[str, str]:
        """Make a user who may do ``actions`` (``s3:GetObject``, ``s3:*``) with the bucket.

        Returns:
            The environment variables with the user's new credentials.
        """
        self._check_users(False)
        try:
            iam = self._client("iam")
            self._users += 1
            name = f"user{self._users}"
            iam.create_user(UserName=name)
            arn = f"arn:aws:s3:::{self.bucket}"
            allowed = {"Effect": "Allow", "Action": list(actions), "Resource": [arn, f"{arn}/*"]}
            policy = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
            iam.put_user_policy(UserName=name, PolicyName="bucket", PolicyDocument=policy)
            key = iam.create_access_key(UserName=name)["AccessKey"]
        finally:
            self._check_users(True)
        return {
            "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
            "AWS_DEFAULT_REGION": _REGION,
        }

    def names(self) -> list[str]:
        """Names of the objects in the bucket."""
        self._check_users(False)
        try:
            pages = self._client("s3").get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
            return [entry["Key"] for page in pages for entry in page.get("Contents", [])]
        finally:
            self._check_users(True)

    def __enter__(self) -> S3Server:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _client(self, service: str) -> Any:
        import botocore.session  # type: ignore[import-untyped]

        session = botocore.session.get_session()
        session.set_credentials("administrator", "administrator")
        return session.create_client(service, endpoint_url=self.endpoint, region_name=_REGION)

    def _check_users(self, on: bool) -> None:
        body = b"0" if on else _UNCHECKED
        headers = {"Content-Type": "text/plain"}
        request = urllib.request.Request(  # noqa: S310 - our own server
            f"{self.endpoint}/moto-api/reset-auth", data=body, headers=headers
        )
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            answer.read()


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise RuntimeError("the server was started without pipes")
    return stream


def _read_line(stream: IO[bytes] | None, timeout: float) -> str:
    """The first line of a pipe, empty if none comes in time; the server writes it whole."""
    with selectors.DefaultSelector() as selector:
        selector.register(_pipe(stream), selectors.EVENT_READ)
        return _pipe(stream).readline().decode() if selector.select(timeout) else ""


def _serve() -> None:
    """Serve until the standard input ends, as it does when the program that started this one dies."""
    from moto.moto_server.threaded_moto_server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    print(server.get_host_and_port()[1], flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    _serve()
