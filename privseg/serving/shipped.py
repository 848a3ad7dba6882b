"""The model that comes with privseg: what a repository serves until the first retraining has beaten it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import privseg
from privseg.errors import GateFailedError, StorageError
from privseg.serving.artifact import MODEL_NAME, read_artifact
from privseg.serving.config import ensure_config
from privseg.serving.versions import Store, current

__all__ = ["SHIPPED", "seed"]

SHIPPED: Final = Path(privseg.__file__).resolve().parents[1] / "model_repository"  # of the checkout


def seed(repository: Path, shipped: Path | None = None) -> int | None:
    """Make the shipped model the first version of an empty repository; no server is told.

    Args:
        repository: The model repository.
        shipped: The repository to take it from; None: ``SHIPPED``, which an installed package has not.

    Returns:
        The version it became; None where the repository has versions of its own, or nothing is shipped.

    Raises:
        GateFailedError: The shipped files do not belong together; the repository stays empty.
        StorageError: The disk is full or cannot be written; the repository stays empty.
    """
    shipped = shipped or SHIPPED
    offered = current(shipped)
    if offered is None or current(repository) is not None:
        return None
    try:
        artifact = read_artifact(shipped / MODEL_NAME / str(offered))
    except GateFailedError as error:
        raise GateFailedError(error.subject, error.fault, "restore it: git checkout -- model_repository") from None
    store = Store(repository)
    with store.locked():
        if current(repository) is not None:  # another was quicker
            return None
        try:
            ensure_config(repository)
        except OSError as error:
            raise StorageError.from_os_error(repository, error) from error
        version = store.add(artifact)
        store.accept()
    return version
