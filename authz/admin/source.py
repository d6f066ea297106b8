"""Source: where a bundle is read from: a folder, a revision of a git repository, or a store of revisions."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path, PurePosixPath
from typing import Final

import orjson

from authz.errors import PolicyError
from authz.policy.load import CATALOGUE, MODEL, MORE_POLICY, POLICY, load_bundle, parse_bundle, policies_among
from authz.policy.revision import Revision

_TAIL: Final = 1 << 20


def open_bundle(where: str) -> Revision:
    """The bundle that ``where`` names.

    Args:
        where: a folder; ``REV:FOLDER`` for the folder as it is in a git revision (``HEAD~1:policies/shop``), relative
            to the current folder; ``STORE@ID`` for a revision of a store by the beginning of its id; ``STORE@LOG`` for
            the revision that decided the last call in the audit log LOG: what a running server really has in force.

    Raises:
        PolicyError: there is none, or it cannot be used.
    """
    if Path(where).is_dir():
        return load_bundle(Path(where))
    revision, colon, folder = where.partition(":")
    if colon and revision and folder:
        return _from_git(revision, folder)
    store, at, beginning = where.rpartition("@")
    if at and (Path(store) / "revisions").is_dir():
        if Path(beginning).is_file():
            beginning = _last_revision(Path(beginning))
        found = [each for each in sorted((Path(store) / "revisions").iterdir()) if each.name.startswith(beginning)]
        if len(found) != 1:
            raise PolicyError.at(store, f"has {len(found)} revisions whose id begins with `{beginning}`")
        return load_bundle(found[0])
    raise PolicyError.at(where, "is no folder", "name a bundle's folder, or REV:FOLDER for one in git")


def _last_revision(log: Path) -> str:
    """The revision of the last decision in the audit log ``log``."""
    found = ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL))
        for line in file:
            with contextlib.suppress(orjson.JSONDecodeError):
                record = orjson.loads(line)
                if isinstance(record, dict) and isinstance(record.get("policy_version"), str):
                    found = record["policy_version"]
    if not found:
        raise PolicyError.at(log, "names no revision in its last records", "name an audit log, or the revision's id")
    return found


def _from_git(revision: str, folder: str) -> Revision:
    if revision.startswith("-"):
        raise PolicyError.at(f"{revision}:{folder}", "is no git revision")
    path = PurePosixPath(folder)
    listed = _git("ls-tree", "-rz", "--name-only", revision, "--", f"{path}/", where=f"{revision}:{folder}")
    names = [PurePosixPath(name) for name in os.fsdecode(listed).split("\0") if name]
    root = Path(f"{revision}:{path}")
    found = {root / name.relative_to(path): name for name in names}
    more = policies_among(file for file in found if file.parent == root / MORE_POLICY)
    files: dict[Path, bytes] = {}
    for file in (root / MODEL, root / CATALOGUE, root / POLICY, *more):
        if file not in found:
            raise PolicyError.at(file, "is missing", "a bundle needs it, even if it has nothing to say")
        files[file] = _git("show", f"{revision}:./{found[file]}", where=str(file))
    return parse_bundle(root, files)


def _git(*words: str, where: str) -> bytes:
    try:
        done = subprocess.run(["git", *words], capture_output=True, check=False)  # noqa: S603, S607 - no shell
    except OSError:
        raise PolicyError.at(where, "cannot be read: there is no git here") from None
    if done.returncode:
        reason = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise PolicyError.at(where, f"git cannot read it: {reason[-1] if reason else 'no reason given'}")
    return done.stdout
