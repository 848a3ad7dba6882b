"""One audit: every golden clip through every replica, and every replica against the version's own file."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pydantic import BaseModel, Field

from privseg.audit.clips import Clip, golden_clips
from privseg.audit.witness import FILL, ClipCounts, Witness
from privseg.errors import GateFailedError, ServerUnavailableError
from privseg.params import AuditParams
from privseg.privacy.filters.blank import Blank, BlankParams
from privseg.privacy.masks import MaskPolicy
from privseg.serving.access import Access
from privseg.serving.admin import Endpoint
from privseg.serving.artifact import MODEL_NAME, Artifact, read_artifact
from privseg.serving.golden import compare, draw_frame, run_onnx
from privseg.serving.replicas import Replicas, resolve
from privseg.serving.versions import accepted
from privseg.streaming.camera import run_camera
from privseg.streaming.segmenter_triton import TritonSegmenter
from privseg.streaming.source import VideoSource
from privseg.streaming.telemetry import Telemetry
from privseg.triton_channel import refuse_plaintext

__all__ = ["Audit", "ClipAudit", "Worst", "audit"]

_DEADLINE: Final = 10.0
# What the model sees is judged, not what is withheld because it doubts: one that always doubts would never be judged.
_POLICY: Final = MaskPolicy(unsure_share=1.0)
_NEXT: Final = "set PRIVSEG_TRITON_TLS=1, or PRIVSEG_TRITON_INSECURE=1 where the network itself protects them"
_PARITY_SIZES: Final = ((384, 640), (512, 512))


class Worst(BaseModel):
    """A frame that leaked, as areas: no pixel of the scene is in it."""

    clip: str
    frame: int
    pixels: int = Field(description="uncovered pixels of people")
    outlines: bytes = Field(exclude=True, description="PNG: green covered, red uncovered, grey covered without need")


class ClipAudit(BaseModel):
    """One clip through one replica."""

    clip: str
    replica: int = Field(description="in the order they were asked; an address would tell too much")
    counts: ClipCounts


class Audit(BaseModel):
    """What an audit found; figures are the worst replica's."""

    version: int
    candidate: str | None = None
    dataset_version: str | None = None
    sha256: str
    created: str
    replicas: int
    person_recall: float | None
    leak_frames: int
    frames: int
    withheld: int
    background_covered: float
    mean_difference: float = Field(description="mean absolute difference of probability x 255 to ONNX Runtime")
    mask_agreement: float
    clips: list[ClipAudit]
    worst: list[Worst] = Field(default_factory=list)
    breaches: list[str] = Field(default_factory=list, description="rules that do not hold, in words")


@dataclass
class _Replica:
    """What one replica did."""

    clips: list[ClipAudit] = field(default_factory=list)
    worst: list[Worst] = field(default_factory=list)
    differences: list[float] = field(default_factory=list)
    agreements: list[float] = field(default_factory=list)
    other_versions: set[int] = field(default_factory=set)

    @property
    def total(self) -> ClipCounts:
        return sum((entry.counts for entry in self.clips), ClipCounts())


def audit(
    repository: Path,
    endpoints: Sequence[str],
    folder: Path,
    rules: AuditParams,
    *,
    access: Access | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Audit:
    """Send every golden clip through every server, protected as a camera's frames are, and look at what comes out.

    Args:
        repository: The model repository; its newest accepted version is what must answer.
        endpoints: ``host:port`` of a server's gRPC service, or ``dns:///name:port`` for every replica behind a name.
        folder: The golden clips.
        rules: What must hold.
        access: How the servers are spoken to.
        say: Takes a line of progress a clip.

    Raises:
        UsageError: The clips, or the key of the servers, would go to another machine in clear.
        ServerUnavailableError: A server is down, has nothing loaded yet, or withholds more frames than the rules
            permit; or another version was published meanwhile: nothing is known.
        GateFailedError: The repository has no version, or one that does not belong together.
        DataError: A golden clip cannot be used.
        StorageError: The clips cannot be written.
    """
    version = accepted(repository)
    if version is None:
        raise GateFailedError(repository, "has no version to audit", "privseg model publish")
    artifact = read_artifact(repository / MODEL_NAME / str(version))
    clips, access = golden_clips(folder, rules), access or Access()
    for url in resolve(endpoints):  # before anything is sent
        refuse_plaintext(url, encrypted=access.tls is not None, insecure=access.insecure, next_step=_NEXT)
    seen: list[_Replica] = []

    def look(server: Endpoint) -> None:
        """Keep what a replica did; nothing of one that went meanwhile."""
        if not server.statistics():
            raise ServerUnavailableError(server.url, "has no version loaded yet", "audit again when it is ready")
        replica = _parity(server, artifact, version)
        for clip in clips:
            witness = _watch(clip, server)
            replica.clips.append(ClipAudit(clip=clip.name, replica=len(seen), counts=witness.counts))
            replica.worst += [
                Worst(clip=clip.name, frame=frame, pixels=pixels, outlines=png) for frame, pixels, png in witness.worst
            ]
            say(f"audit {clip.name}: {witness.counts.leak_frames} of {witness.counts.frames} frames leak")
        total = replica.total
        if total.withheld > rules.max_withheld_ratio * total.frames:
            fault = (
                f"withheld {total.withheld} of {total.frames} golden frames: the model is not known to be good or bad"
            )
            raise ServerUnavailableError("Triton", fault, "see `privseg triton status`, then audit again")
        seen.append(replica)

    with Replicas(endpoints, access) as replicas:
        replicas.require_live()
        replicas.each(look)
    if accepted(repository) != version:
        fault = f"was followed by version {accepted(repository)} while it was audited"
        raise ServerUnavailableError(f"version {version}", fault, "audit again: privseg audit")
    if not seen:
        raise ServerUnavailableError("Triton", "went before it was audited", "audit again when a replica is ready")
    totals = [replica.total for replica in seen]
    worst = min(totals, key=lambda total: 1.0 if total.person_recall is None else total.person_recall)
    result = Audit(
        version=version,
        candidate=artifact.record.get("candidate"),
        dataset_version=artifact.record.get("dataset_version"),
        sha256=artifact.sha256,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        replicas=len(seen),
        person_recall=worst.person_recall,
        leak_frames=max(total.leak_frames for total in totals),
        frames=worst.frames,
        withheld=max(total.withheld for total in totals),
        background_covered=max(total.background_covered / max(total.background_pixels, 1) for total in totals),
        mean_difference=max(value for replica in seen for value in replica.differences),
        mask_agreement=min(value for replica in seen for value in replica.agreements),
        clips=[entry for replica in seen for entry in replica.clips],
        worst=sorted((item for replica in seen for item in replica.worst), key=lambda item: -item.pixels)[:6],
    )
    result.breaches = [
        f"server {number} answers with version {other}, not {version}"
        for number, replica in enumerate(seen)
        for other in sorted(replica.other_versions)
    ]
    result.breaches += _breaches(result, rules)
    return result


def _parity(server: Endpoint, artifact: Artifact, version: int) -> _Replica:
    """Ask for drawn frames: does the server answer as the version's own file does?"""
    replica = _Replica()
    for height, width in _PARITY_SIZES:
        frame = draw_frame(height, width, seed=height)[None]
        found, answered_by = server.infer(frame)
        agreement = compare(run_onnx(artifact.onnx, frame), found)
        replica.differences.append(agreement.mean_difference)
        replica.agreements.append(agreement.mask_agreement)
        if answered_by != version:
            replica.other_versions.add(answered_by)
    return replica


def _watch(clip: Clip, server: Endpoint) -> Witness:
    """Play one clip as a recording through one server."""
    witness, access = Witness(clip.masks), server.access
    colour = "#{:02x}{:02x}{:02x}".format(*FILL)
    opened = TritonSegmenter(
        server.url, deadline_seconds=_DEADLINE, tls=access.tls, insecure=access.insecure, headers=access.headers
    )
    with contextlib.closing(opened) as segmenter:
        segmenter.check_ready()
        report = run_camera(
            "audit",
            VideoSource(str(clip.video)),
            segmenter,
            Blank(BlankParams(color=colour)),
            lambda width, height, rate, aspect: witness,
            output="nowhere",
            telemetry=Telemetry(),
            policy=_POLICY,
        )
    if report.error is not None:
        raise report.error
    return witness


def _breaches(result: Audit, rules: AuditParams) -> list[str]:
    found = []
    if result.person_recall is not None and result.person_recall < rules.min_person_recall:
        found.append(f"{result.person_recall:.3f} of the people's pixels is covered, {rules.min_person_recall} is due")
    leaks = result.leak_frames / max(result.frames, 1)
    if leaks > rules.max_leak_frame_ratio:
        found.append(f"{leaks:.3f} of the frames leak, {rules.max_leak_frame_ratio} may")
    if result.background_covered > rules.max_background_covered:
        covered = f"{result.background_covered:.3f} of the background is covered"
        found.append(f"{covered}, {rules.max_background_covered} may be")
    if result.mean_difference > rules.max_mean_difference or result.mask_agreement < rules.min_mask_agreement:
        figures = f"mean difference {result.mean_difference:.3f} of 255, mask agreement {result.mask_agreement:.5f}"
        found.append(f"the servers answer otherwise than the version's file does: {figures}")
    return found
