"""Show: one record, the rule that decided it as it was written then, and what that policy says when asked again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from authz.audit.printable import TEXT_LIMIT, clean
from authz.audit.shelf import find_on_shelf
from authz.decision.base import Verdict
from authz.errors import AuditError, PolicyError
from authz.policy.load import load_bundle
from authz.policy.revision import Revision
from authz.review.logs import Logs, Row
from authz.review.matching import KeptPolicies
from authz.review.replay import BY_POLICY, Again

_ABSENT: Final = "the policy that decided is not at hand; name its folder with --policy"
_CHANGED: Final = "the copy of the policy that was kept is not what it was; name a folder of it with --policy"
_UNASKED: Final = "no policy decided it"
_LACKING: Final = "the record does not tell all of the caller: it was shortened, or the subject is hashed"


@dataclass(frozen=True, slots=True)
class Shown:
    """One record, explained.

    Attributes:
        record: its fields.
        bundle: the policy that decided it, as it was then; None: it is not at hand.
        around: the lines of that policy around the rule, with their numbers; none for a reviewer of some namespaces,
            since they may be about others.
        verdict: what that policy says of the same call at the same time, asked again; None: it was not asked.
        same: whether that is what was recorded; None: it was not asked.
        why: why it was not asked; empty: it was, or the record is no decision.
    """

    record: Row
    bundle: Path | None = None
    around: tuple[tuple[int, str], ...] = ()
    verdict: Verdict | None = None
    same: bool | None = None
    why: str = ""


def show(logs: Logs, audit_id: str, bundles: Sequence[Path] = ()) -> Shown:
    """Explain the record with the id ``audit_id``, or with the one id that begins so.

    Args:
        logs: where to look.
        audit_id: what the caller was told as ``x-audit-id``.
        bundles: folders of policy bundles, besides those kept with the log.

    Raises:
        AuditError: there is no such record, or several.
    """
    rows = logs.ask(
        "SELECT * FROM records WHERE id = ? OR starts_with(id, ?) ORDER BY id <> ?, event <> 'decision', id LIMIT 2",
        [audit_id, audit_id, audit_id],
    )
    several = len(rows) > 1 and rows[0]["id"] != audit_id and rows[1]["event"] == rows[0]["event"]
    if not rows or several:
        raise AuditError(f"{'several records have' if rows else 'no record has'} the id {audit_id}")
    record = rows[0]
    version, decided = record["policy_version"], record["event"] == "decision"
    revision = _revision(version, logs.files, bundles) if version else None
    if revision is None:
        changed = version and find_on_shelf(version, list(logs.files))
        return Shown(record, why=(_CHANGED if changed else _ABSENT) if decided else "")
    if not decided:
        return Shown(record, revision.path)
    around = () if logs.limited else _around(revision.path, record["rule_src"])
    try:
        verdict = Again(revision).decide(record, record["time"])
    except PolicyError as exc:
        return Shown(record, revision.path, around, why=str(exc))
    if verdict is None:
        return Shown(record, revision.path, around, why=_LACKING if record["reason"] in BY_POLICY else _UNASKED)
    text = clean(verdict.rule.text, 4 * TEXT_LIMIT) if verdict.rule else None
    same = (verdict.effect.value, text) == (record["decision"], record["rule"])
    return Shown(record, revision.path, around, verdict, same)


def _revision(version: str, files: Sequence[Path], bundles: Sequence[Path]) -> Revision | None:
    for path in bundles:
        try:
            revision = load_bundle(path)
        except PolicyError:
            continue
        if revision.id == version:
            return revision
    return KeptPolicies(files).find(version)


def _around(bundle: Path, source: str | None, context: int = 2) -> tuple[tuple[int, str], ...]:
    """The lines around ``<file>:<line>``, of the file of that name in the bundle."""
    path, _, number = (source or "").rpartition(":")
    if not number.isdigit():
        return ()
    named = Path(path)
    for file in (bundle / named.name, bundle / named.parent.name / named.name):
        if file.is_file():
            lines = file.read_text("utf-8").split("\n")
            at = int(number)
            return tuple((i, lines[i - 1]) for i in range(max(1, at - context), min(len(lines), at + context) + 1))
    return ()
