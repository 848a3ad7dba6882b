"""`privseg keys`, `approve`, `unscramble`: keys of keyed methods, and bringing scrambled people back."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from privseg.cli_options import JsonOption, show_table
from privseg.errors import UsageError

if TYPE_CHECKING:
    from privseg.privacy.key_ring import Epoch

__all__ = ["KeyRingOption", "approve", "keys_app", "unscramble"]

keys_app = typer.Typer(help="The keys of keyed methods, and the log of who was shown.", no_args_is_help=True)

KeyRingOption = Annotated[
    Path | None,
    typer.Option("--key-ring", help="The key ring's file [the text in PRIVSEG_KEY_RING]; see `privseg keys`."),
]
RingFile = Annotated[Path, typer.Option("--key-ring", help="The key ring's file; keep it apart from the videos.")]
FromOption = Annotated[float, typer.Option("--from", min=0, help="Seconds of the video.")]
ToOption = Annotated[float, typer.Option("--to", min=0, help="Seconds of the video.")]
VideoArgument = Annotated[Path, typer.Argument(metavar="IN", help="A scrambled video, its sidecar beside it.")]


@keys_app.command("create")
def keys_create(key_ring: RingFile) -> None:
    """Make a key ring with a first key, and its empty disclosure log."""
    from privseg.privacy.disclosure import DisclosureLog
    from privseg.privacy.key_ring import KeyRing

    ring = KeyRing.create(key_ring)
    try:
        DisclosureLog(ring).create()
    except BaseException:  # the log of another ring lies there; a ring without its own log is no good
        key_ring.unlink()
        raise
    print(f"{key_ring}: epoch {ring.epoch}. Back it up apart from the videos: without it nothing can be unscrambled.")


@keys_app.command("list")
def keys_list(key_ring: RingFile, as_json: JsonOption = False) -> None:
    """List epochs and approvers; keys are never shown."""
    from privseg.privacy.key_ring import KeyRing

    ring = KeyRing.load(key_ring)
    epochs = [
        {
            "epoch": epoch.id,
            "created": epoch.created.isoformat(),
            "state": _state(epoch, ring.epoch),
            "destroyed": epoch.destroyed and epoch.destroyed.isoformat(),
        }
        for epoch in ring.epochs
    ]
    approvers = [{"name": one.name, "created": one.created.isoformat()} for one in ring.approvers]
    if as_json:
        print(json.dumps({"epochs": epochs, "approvers": approvers}, indent=2))
        return
    show_table(["epoch", "created", "state"], [[str(e["epoch"]), str(e["created"]), str(e["state"])] for e in epochs])
    show_table(["approver", "since"], [[one["name"], one["created"]] for one in approvers])


@keys_app.command("rotate")
def keys_rotate(key_ring: RingFile) -> None:
    """Begin a new epoch; older ones stay usable for unscrambling. Running cameras take it when they start again."""
    from privseg.privacy.key_ring import KeyRing

    print(f"{key_ring}: epoch {KeyRing.load(key_ring).rotate().epoch} is in use")


@keys_app.command("destroy")
def keys_destroy(epoch: Annotated[str, typer.Argument(metavar="EPOCH")], key_ring: RingFile) -> None:
    """Destroy an epoch's key: what was scrambled with it is unrecoverable."""
    from privseg.privacy.key_ring import KeyRing

    KeyRing.load(key_ring).destroy(epoch)
    print(f"{key_ring}: the key of epoch {epoch} is destroyed")
    print("backups, snapshots and PRIVSEG_KEY_RING elsewhere may hold it still: destroy it there, too", file=sys.stderr)


@keys_app.command("approver")
def keys_approver(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The approver's login name.")],
    key_ring: RingFile,
    private_key: Annotated[
        Path | None, typer.Option(help="Make a pair of keys; write the private one to this new file, for the approver.")
    ] = None,
    public_key: Annotated[
        Path | None, typer.Option(help="Take this public key (Ed25519, PEM), whose private one the approver made.")
    ] = None,
) -> None:
    """Trust a second person's approvals."""
    from privseg.privacy.approval import create_approver_key, read_public_key
    from privseg.privacy.key_ring import KeyRing

    ring = KeyRing.load(key_ring)
    if private_key is not None and public_key is None:
        if any(name == one.name for one in ring.approvers):
            raise UsageError(f"approver {name}", "is known already", "give another name")
        ring.trust(name, create_approver_key(private_key))
        print(f"{key_ring}: trusts {name}; hand {private_key} to {name} and keep no copy")
    elif public_key is not None and private_key is None:
        ring.trust(name, read_public_key(public_key))
        print(f"{key_ring}: trusts {name}")
    else:
        raise UsageError(f"approver {name}", "needs one key", "give either --public-key or --private-key")


@keys_app.command("log")
def keys_log(
    key_ring: RingFile,
    verify: Annotated[bool, typer.Option("--verify", help="Only check that nobody touched it; exit 3 if so.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show who was unscrambled, when, why and by whose approval; every line is checked."""
    from privseg.privacy.disclosure import DisclosureLog
    from privseg.privacy.key_ring import KeyRing

    log = DisclosureLog(KeyRing.load(key_ring))
    entries = log.verify()
    if verify:
        print(f"{log.path}: {len(entries)} entries, none was touched")
    elif as_json:
        print(json.dumps(entries, indent=2))
    else:
        facts = ("user", "video", "from", "to", "reason", "approver", "of", "fault")
        show_table(
            ["", "time", "event", "facts"],
            [
                [
                    str(entry["sequence"]),
                    entry["time"],
                    entry["event"],
                    ", ".join(f"{fact} {entry[fact]}" for fact in facts if fact in entry),
                ]
                for entry in entries
            ],
        )


def approve(
    video: VideoArgument,
    approver_key: Annotated[Path, typer.Option(help="The approver's private key.")],
    start: FromOption,
    end: ToOption,
    reason: Annotated[str, typer.Option(help="Why people must be seen.")],
    requester: Annotated[str, typer.Option(help="Login name of the one who may unscramble.")],
    expires_in: Annotated[str, typer.Option(help="How long it is valid: 30m, 8h, 2d.")] = "8h",
    out: Annotated[Path, typer.Option(help="Where to write the approval.")] = Path("approval.json"),
) -> None:
    """Approve, as a second person, that a window of a scrambled video is unscrambled once."""
    from privseg.privacy.approval import approve as sign
    from privseg.privacy.approval import seconds_of
    from privseg.streaming.places import refuse_shared_files, write_whole
    from privseg.streaming.scramble_record import Sidecar, sidecar_path

    refuse_shared_files([str(video), str(sidecar_path(video)), str(approver_key)], {"approval": out})
    sidecar = Sidecar.read(video, end=-1)
    approval = sign(
        approver_key,
        video=video.name,
        sidecar_sha256=sidecar.sha256,
        session=sidecar.header.session,
        camera=sidecar.header.camera,
        start=start,
        end=end,
        reason=reason,
        requester=requester,
        expires_in=seconds_of(expires_in),
    )
    write_whole(out, (approval.model_dump_json(indent=2) + "\n").encode())
    print(f"{out}: {requester} may see {start:g} to {end:g} s of {video.name}, once, for {expires_in}")


def unscramble(
    video: VideoArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new H.264 file (.mp4); it will show people.")],
    key_ring: RingFile,
    reason: Annotated[str, typer.Option(help="Why people must be seen; it is logged.")],
    approval: Annotated[Path, typer.Option(help="A second person's approval, from `privseg approve`.")],
    start: FromOption,
    end: ToOption,
    as_json: JsonOption = False,
) -> None:
    """Show the people of a window of a scrambled video again. It takes two, and is logged before it begins."""
    from privseg.streaming.unscramble import unscramble as bring_back

    done = bring_back(video, out, key_ring=key_ring, reason=reason, approval=approval, start=start, end=end)
    summary = f"{out}: {done['frames']} frames, {done['unscrambled']} of them unscrambled; log entry {done['entry']}"
    print(json.dumps(done, indent=2) if as_json else summary)
    print(f"WARNING: {out} SHOWS PEOPLE. It is not protected: delete it as soon as it has served.", file=sys.stderr)


def _state(epoch: Epoch, current: str) -> str:
    if epoch.destroyed is not None:
        return f"destroyed {epoch.destroyed:%Y-%m-%d}"
    return "in use" if epoch.id == current else "for unscrambling only"
