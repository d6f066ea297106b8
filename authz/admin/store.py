"""Store: the revisions of a policy that were in force, and the one that is.

    STORE/revisions/<id>/    every file of a revision, its tests and its signature
    STORE/current            a symbolic link to the one in force: what a server's configuration names
    STORE/history.jsonl      what was put in force, when, by whom, and what came before

To promote is to copy a bundle into the store and to swap the link; to roll back is to swap it again. A server that
watches ``STORE/current`` sees one revision or the other, and never a mixture.
"""

from __future__ import annotations

import getpass
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from authz.admin.check import TESTS, check
from authz.admin.test import run_tests
from authz.errors import PolicyError, Problem
from authz.policy.load import bundle_files, load_bundle
from authz.policy.signature import SIGNATURE, read_signer, verify_signature

CURRENT: Final = "current"
REVISIONS: Final = "revisions"
HISTORY: Final = "history.jsonl"


@dataclass(frozen=True, slots=True)
class Step:
    """One change of what is in force.

    Attributes:
        time: when, RFC 3339 in UTC.
        action: ``promote`` or ``rollback``.
        revision: the id that is in force since then.
        previous: the id that was before; empty: none.
        by: who did it.
        note: why, as that person said.
    """

    time: str
    action: str
    revision: str
    previous: str
    by: str
    note: str = ""


def in_force(store: Path) -> str:
    """The id of the revision in force; empty: none yet."""
    link = store / CURRENT
    return link.readlink().name if link.is_symlink() else ""


def history(store: Path) -> list[Step]:
    """What was in force, the oldest first.

    Raises:
        PolicyError: the history cannot be read.
    """
    file = store / HISTORY
    if not file.exists():
        return []
    steps = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        try:
            steps.append(Step(**json.loads(line)))
        except (ValueError, TypeError):
            raise PolicyError.at(f"{file}:{number}", "is no step of a history") from None
    return steps


def promote(bundle: Path, store: Path, *, note: str = "", keys: tuple[Path, ...] = (), tested: bool = True) -> Step:
    """Put the bundle in the folder ``bundle`` in force, if it is clean and answers as its tests say.

    Args:
        bundle: the folder.
        store: the store's folder; made if it is not there.
        note: why, for the history.
        keys: public keys; given any, one of them must have signed the bundle.
        tested: whether the bundle must have tests, and pass them.

    Raises:
        PolicyError: it has errors or warnings that are not waived, fails a test, or is not signed. Nothing changes.
    """
    report = check(bundle)
    wrong = [Problem(f.place, f"{f.code} {f.message}", f.remedy) for f in (*report.errors, *report.warnings)]
    if wrong or report.revision is None:
        raise PolicyError(wrong)
    revision = report.revision
    if tested:
        results = run_tests(bundle)
        if not results.passed:
            raise PolicyError(Problem(each.case.place, str(each).split(": ", 1)[1]) for each in results.failures)
    if keys:
        verify_signature(revision, [read_signer(key) for key in keys])
    target = store / REVISIONS / revision.id
    extra = [bundle / TESTS, bundle / SIGNATURE]
    partial = target.with_name(f".{revision.id}.{os.getpid()}")
    try:
        for file in [each for each in (*bundle_files(bundle), *extra) if each.is_file()]:
            copy = partial / file.relative_to(bundle)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
        if load_bundle(partial).id != revision.id:
            raise PolicyError.at(bundle, "changed while it was being copied", "try again")
        if target.exists():
            _refresh(partial, target)
        else:
            partial.rename(target)
    except OSError as exc:
        raise PolicyError.at(store, f"cannot be written: {exc.strerror}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return _swap(store, "promote", revision.id, note)


def rollback(store: Path, to: str = "", *, note: str = "") -> Step:
    """Put the revision that was in force before in force again, or the one whose id begins with ``to``.

    Raises:
        PolicyError: there is none, or it cannot be used any more.
    """
    now = in_force(store)
    if to:
        fits: Callable[[str], bool] = lambda each: each.startswith(to)  # noqa: E731
        folder = store / REVISIONS
        found = sorted(filter(fits, (each.name for each in folder.iterdir()))) if folder.is_dir() else []
        if len(found) != 1:
            raise PolicyError.at(store, f"has {len(found)} revisions whose id begins with `{to}`")
        earlier = found[0]
    else:
        earlier = next((step.previous for step in reversed(history(store)) if step.revision == now), "")
        if not earlier:
            raise PolicyError.at(store, "has no earlier revision to go back to")
    if load_bundle(store / REVISIONS / earlier).id != earlier:
        raise PolicyError.at(store / REVISIONS / earlier, "was changed since it was put there")
    return _swap(store, "rollback", earlier, note)


def _refresh(partial: Path, target: Path) -> None:
    """The tests and the signature of a revision that is there already may be newer: they are no part of its id."""
    for name in (TESTS, SIGNATURE):
        if (partial / name).is_file():
            (partial / name).replace(target / name)


def _swap(store: Path, action: str, revision: str, note: str) -> Step:
    previous = in_force(store)
    link = store / f".{CURRENT}.{os.getpid()}"
    step = Step(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", action, revision, previous, _who(), note)
    try:
        # the record first: a swap that nobody recorded must not happen
        with (store / HISTORY).open("a", encoding="utf-8") as file:
            file.write(json.dumps(_fields(step)) + "\n")
        link.symlink_to(Path(REVISIONS) / revision)
        link.replace(store / CURRENT)
    except OSError as exc:
        link.unlink(missing_ok=True)
        raise PolicyError.at(store, f"cannot be written: {exc.strerror}") from None
    return step


def _fields(step: Step) -> dict[str, str]:
    return {name: getattr(step, name) for name in ("time", "action", "revision", "previous", "by", "note")}


def _who() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"
