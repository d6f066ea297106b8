"""``authz policy check``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from authz.admin.check import check
from authz.admin.findings import CODES, Finding, Severity
from authz.cli.policy.shown import add_format, add_now, paint, place_json, print_json, printable

_COLOURS = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.NOTE: "cyan"}


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.epilog = (
        "Reads files and touches nothing: a server in force goes on with its last good policy.\n\n"
        "A warning is waived by a comment on the line above, with a reason:\n"
        "  # waive AZ204: the break-glass role is meant to reach everything\n\n"
        "exit codes: 0 clean, 3 warnings, 4 the bundle cannot be used"
    )
    parser.add_argument("bundle", nargs="?", default=".", help="the bundle's folder (default: the current folder)")
    parser.add_argument("--no-lint", action="store_true", help="only what a server would refuse or warn of")
    parser.add_argument("--all", action="store_true", help="print what is waived, too")
    parser.add_argument("--soon", type=float, default=14, metavar="DAYS", help="tell of rules that end within (14)")
    parser.add_argument("--config", type=Path, metavar="FILE", help="tell of users whom no issuer of it can prove")
    add_now(parser)
    add_format(parser)
    parser.set_defaults(run=run)


def run(options: Any) -> int:
    """Run the command."""
    soon = options.soon * 86_400
    report = check(Path(options.bundle), lint=not options.no_lint, now=options.at, soon=soon, config=options.config)
    shown = [each for each in report.findings if options.all or not each.waived]
    if options.format == "json":
        print_json(
            {
                "bundle": str(report.path),
                "revision": report.revision.id if report.revision else None,
                "findings": [_json(each) for each in shown],
            }
        )
    else:
        for each in shown:
            _print(each)
        _summary(report.revision is not None, len(report.errors), len(report.warnings), report.findings)
    return 4 if report.errors else 3 if report.warnings else 0


def _print(finding: Finding) -> None:
    what = finding.severity.value + (" (waived)" if finding.waived else "")
    print(f"{finding.place}: {paint(what, _COLOURS[finding.severity])} {finding.code}: {printable(finding.message)}")
    if finding.line:
        line = printable(finding.line)
        print(f"    {line}")
        if finding.place.column > 1:
            print(paint(f"    {' ' * (finding.place.column - 1)}^", "dim"))
    if finding.remedy:
        print(f"    {paint('->', 'green')} {printable(finding.remedy)}")
    if finding.waived:
        print(f"    waived: {printable(finding.waived)}")


def _summary(usable: bool, errors: int, warnings: int, findings: tuple[Finding, ...]) -> None:
    waived = sum(1 for each in findings if each.waived)
    notes = sum(1 for each in findings if each.severity is Severity.NOTE and not each.waived)
    counts = [(errors, "error"), (warnings, "warning"), (notes, "note"), (waived, "waived")]
    told = [f"{n} {word}{'s' * (n != 1 and word != 'waived')}" for n, word in counts if n]
    print(("; ".join(told) or "clean") + ("" if usable else ": this bundle would be refused"))


def _json(finding: Finding) -> dict[str, Any]:
    return {
        "code": finding.code,
        "meaning": CODES[finding.code],
        "severity": finding.severity.value,
        **place_json(finding.place),
        "message": finding.message,
        "remedy": finding.remedy,
        "text": finding.line,
        "waived": finding.waived,
    }
