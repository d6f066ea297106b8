"""Shelf: a copy of each policy that was in force, beside the log, so that a decision can be understood years later."""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path
from typing import Final

from authz.errors import AuditError, PolicyError
from authz.policy.load import bundle_files, load_bundle

SHELF: Final = "kept-policies"


def shelve(bundle: Path, revision: str, folder: Path) -> Path:
    """Copy the bundle in the folder ``bundle`` to ``<folder>/kept-policies/<revision>``, unless it is there.

    Raises:
        AuditError: the folder does not hold that revision any more, or cannot be copied.
    """
    kept = folder / SHELF / revision
    if kept.exists():
        return kept
    # made under another name, so that nobody finds half of it
    making = folder / SHELF / f".{revision[:16]}-{secrets.token_hex(4)}"
    try:
        making.mkdir(parents=True, mode=0o700)
        for file in bundle_files(bundle):
            copy = making / file.relative_to(bundle)
            copy.parent.mkdir(exist_ok=True)
            shutil.copyfile(file, copy)
        if load_bundle(making).id != revision:
            raise AuditError(f"the policy in {bundle} has changed since it was loaded, and was not kept")
        making.rename(kept)
    except (OSError, PolicyError) as exc:
        if not kept.exists():
            raise AuditError(f"the policy in {bundle} could not be kept: {exc}") from None
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return kept


def find_on_shelf(revision: str, places: list[Path]) -> Path | None:
    """The bundle of ``revision`` among ``places``: logs and their folders, with the shelves beside them."""
    for place in places:
        folder = place if place.is_dir() else place.parent
        for each in (folder, folder.parent):
            kept = each / SHELF / revision
            if kept.is_dir():
                return kept
        found = next((path for path in folder.rglob(f"{SHELF}/{revision}") if path.is_dir()), None)
        if found is not None:
            return found
    return None
