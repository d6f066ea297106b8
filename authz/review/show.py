"""Show: one record, the rule that decided it as it was written then, and what that policy says today."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from authz.audit.shelf import find_on_shelf
from authz.decision import authorizer_for
from authz.decision.base import Verdict
from authz.errors import AuditError, PolicyError
from authz.policy.load import load_bundle
from authz.review.logs import Logs, Row
from authz.review.replay import decide_again


@dataclass(frozen=True, slots=True)
class Shown:
    """One record, explained.

    Attributes:
        record: its fields.
        bundle: the policy that decided it, as it was then; None: it is not at hand.
        around: the lines of that policy around the rule, with their numbers; none for a reviewer of some namespaces,
            since they may be about others.
        verdict: what that policy says of the same call, asked again; None: it cannot be asked.
        same: whether that is what was recorded; None: it could not be asked.
    """

    record: Row
    bundle: Path | None = None
    around: tuple[tuple[int, str], ...] = ()
    verdict: Verdict | None = None
    same: bool | None = None


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
    version = record["policy_version"]
    bundle = _bundle(version, logs.files, bundles) if version else None
    if bundle is None or record["event"] != "decision":
        return Shown(record, bundle)
    try:
        revision = load_bundle(bundle)
        verdict = decide_again(authorizer_for(revision), record)
    except PolicyError:
        return Shown(record)
    same = None
    if verdict is not None:
        text = verdict.rule.text if verdict.rule else None
        same = (verdict.effect.value, text) == (record["decision"], record["rule"])
    around = () if logs.limited else _around(bundle, record["rule_src"])
    return Shown(record, bundle, around, verdict, same)


def _bundle(version: str, files: Sequence[Path], bundles: Sequence[Path]) -> Path | None:
    for path in bundles:
        try:
            if load_bundle(path).id == version:
                return path
        except PolicyError:
            continue
    return find_on_shelf(version, list(files))


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
