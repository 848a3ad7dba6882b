"""Does the repository hold what was published, and do the servers answer with it?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from privseg.errors import GateFailedError, PrivsegError, ServerUnavailableError, UsageError
from privseg.serving.access import Access
from privseg.serving.activation import exam_of
from privseg.serving.replicas import Replicas
from privseg.serving.versions import accepted, list_versions, verify

__all__ = ["Finding", "require_sound", "verify_disk", "verify_live"]


@dataclass(frozen=True)
class Finding:
    """What was found of one version on disk, or of one replica.

    Attributes:
        subject: ``version 3``, or a replica's address.
        version: The version on disk; for a replica, the one it should answer with.
        sha256: The hash its files were found to have; '' where they do not belong together, and for a replica.
        error: What is wrong; None if nothing is.
    """

    subject: str
    version: int
    sha256: str = ""
    error: PrivsegError | None = None

    def to_dict(self) -> dict[str, object]:
        """JSON-ready."""
        fault = f"{self.error.subject}: {self.error.fault}" if self.error else None
        return {"subject": self.subject, "version": self.version, "sha256": self.sha256 or None, "fault": fault}


def verify_disk(repository: Path) -> list[Finding]:
    """Check the files of every version against their records, oldest first."""
    findings = []
    for version in list_versions(repository):
        try:
            findings.append(Finding(f"version {version}", version, str(verify(repository, version)["sha256"])))
        except GateFailedError as error:
            findings.append(Finding(f"version {version}", version, error=error))
    return findings


def verify_live(repository: Path, endpoints: Sequence[str], access: Access | None = None) -> list[Finding]:
    """Ask every replica for the golden frames: the accepted version must answer, as its file on disk does.

    Raises:
        UsageError: The repository has no version.
        GateFailedError: The version that should serve is damaged on disk.
        ServerUnavailableError: A name resolves to no address.
    """
    version = accepted(repository)
    if version is None:
        raise UsageError(repository, "has no version that could serve", "publish a model")
    verify(repository, version)
    exam = exam_of(repository, version)
    if exam is None:
        raise GateFailedError(f"version {version}", "cannot be run in this process", "privseg model verify")
    findings = []
    with Replicas(endpoints, access) as replicas:
        for server in replicas.servers:
            try:
                exam.check(server, version)
                findings.append(Finding(server.url, version))
            except (GateFailedError, ServerUnavailableError) as error:
                findings.append(Finding(server.url, version, error=error))
    return findings


def require_sound(findings: Sequence[Finding]) -> None:
    """Raise the first fault found: a mismatch before a server that is down.

    Raises:
        GateFailedError: A version is damaged, or a replica answers otherwise; the message names all of them.
        ServerUnavailableError: A replica is down.
    """
    errors = [finding.error for finding in findings if finding.error]
    for kind in (GateFailedError, ServerUnavailableError):
        if any(isinstance(error, kind) for error in errors):
            first, *others = sorted(errors, key=lambda error: not isinstance(error, kind))
            also = "".join(f"; {error.subject}: {error.fault}" for error in others)
            raise kind(first.subject, f"{first.fault}{also}", first.next_step)
