"""``authz policy diff``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from authz.admin.diff import Change, Difference, Kind, diff
from authz.admin.source import open_bundle
from authz.cli.policy.shown import add_format, add_now, last_names, paint, print_json, short
from authz.decision.base import Verdict

_SIGNS = {Kind.GAINED: "+", Kind.LOST: "-", Kind.DENIED: "!", Kind.UNDENIED: "?"}
_COLOURS = {Kind.GAINED: "green", Kind.LOST: "red", Kind.DENIED: "yellow", Kind.UNDENIED: "yellow"}


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.epilog = (
        "Compares answers, not text: complete, for every subject, namespace and method. Each change comes with one\n"
        "call that shows it, which both bundles were really asked.\n\n"
        "  + gained    a caller with this subject is allowed now\n"
        "  - lost      it was allowed before\n"
        "  ! denied    not allowed before either, and now a rule denies it: who was allowed otherwise no longer is\n"
        "  ? undenied  a denial is gone: who is allowed otherwise now may\n\n"
        "A bundle is a folder, REV:FOLDER in git (HEAD~1:policies/shop), STORE/current for what is in force, or\n"
        "STORE@ID for a revision by the beginning of its id, STORE@LOG for what decided the last call in a log.\n\n"
        "exit codes: 0 the same answers, 3 differences (with --fail-on-new-access: only if somebody may do more),\n"
        "4 a bundle cannot be used"
    )
    parser.add_argument("old", help="the bundle before")
    parser.add_argument("new", help="the bundle after")
    parser.add_argument("--fail-on-new-access", action="store_true", help="exit with 3 only if somebody may do more")
    parser.add_argument("--replay", metavar="LOG", help="an audit log: which recorded calls would be decided otherwise")
    add_now(parser)
    add_format(parser, "markdown")
    parser.set_defaults(run=run)


def run(options: Any) -> int:
    """Run the command."""
    found = diff(open_bundle(options.old), open_bundle(options.new), options.at)
    flips = None
    if options.replay:
        from authz.admin.recorded import replay

        flips = replay(Path(options.replay), found.old, found.new)
    if options.format == "json":
        answer = difference_json(found)
        if flips is not None:
            answer["replay"] = {
                "asked": flips.asked,
                "skipped": flips.skipped,
                "flips": [f.json() for f in flips.flips],
            }
        print_json(answer)
    else:
        for line in _lines(found, markdown=options.format == "markdown"):
            print(line)
        if flips is not None:
            print(f"{flips.asked} recorded calls asked again, {len(flips.flips)} decided otherwise")
            for flip in flips.flips:
                print(f"  {flip}")
    if options.fail_on_new_access:
        return 3 if found.new_access or (flips is not None and any(flip.gained for flip in flips.flips)) else 0
    return 3 if found or (flips is not None and flips.flips) else 0


def _lines(found: Difference, *, markdown: bool) -> list[str]:
    if not found:
        return ["the same answers to every call"]
    if markdown:
        rows = [
            f"| {c.kind} | `{c.subject}` | {_codes(c.namespaces)} | {_codes(c.methods)} | {_why(c)} |"
            for c in found.changes
        ]
        head = ["| change | subject | namespaces | methods | by |", "| --- | --- | --- | --- | --- |"]
        return [
            *head,
            *rows,
            *(f"\ncatalogue: {line}" for line in found.catalogue),
            *(f"\nend: {e}" for e in found.ends),
        ]
    lines = []
    for change in found.changes:
        kind = change.kind
        sign = paint(f"{_SIGNS[kind]} {kind:<8}", _COLOURS[kind])
        who = change.subject + (f" (but {short(change.except_for)})" if change.except_for else "")
        lines.append(f"{sign} {who}  in {short(change.namespaces)}: {short(last_names(change.methods))}")
        example = change.example
        lines.append(f"    e.g. {example.subject} {example.namespace} {example.method}")
        lines.append(f"    was  {change.before.value}{_rule(example.before)}")
        lines.append(f"    now  {change.after.value}{_rule(example.after)}")
    lines += [f"catalogue: {line}" for line in found.catalogue]
    lines += [f"end: {line}" for line in found.ends]
    counts = [(sum(change.kind is kind for change in found.changes), kind.value) for kind in Kind]
    lines.append(", ".join(f"{number} {word}" for number, word in counts if number) or "the same answers to every call")
    return lines


def _rule(verdict: Verdict) -> str:
    return f" by {verdict.rule}: {verdict.rule.text}" if verdict.rule else f" ({verdict.reason})"


def _why(change: Change) -> str:
    rule = change.example.after.rule or change.example.before.rule
    return f"`{rule.text}` ({rule})" if rule else change.example.after.reason.value


def _codes(values: tuple[str, ...]) -> str:
    return ", ".join(f"`{value}`" for value in values)


def difference_json(found: Difference) -> dict[str, Any]:
    """A difference as JSON."""
    return {
        "old": found.old.id,
        "new": found.new.id,
        "changes": [
            {
                "kind": each.kind.value,
                "subject": each.subject,
                "except_for": list(each.except_for),
                "namespaces": list(each.namespaces),
                "methods": list(each.methods),
                "before": each.before.value,
                "after": each.after.value,
                "example": {
                    "subject": each.example.subject,
                    "namespace": each.example.namespace,
                    "method": each.example.method,
                    "rule_before": each.example.before.rule.text if each.example.before.rule else None,
                    "rule_after": each.example.after.rule.text if each.example.after.rule else None,
                },
            }
            for each in found.changes
        ],
        "catalogue": list(found.catalogue),
        "ends": list(found.ends),
    }
