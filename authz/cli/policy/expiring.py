"""``authz policy expiring``."""

from __future__ import annotations

import argparse
from typing import Any

from authz.admin.expiring import expiring
from authz.admin.source import open_bundle
from authz.cli.policy.shown import add_bundle, add_format, add_now, print_json, table


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.epilog = "exit codes: 0 none has ended or ends in time, 3 some have or do, 4 the bundle cannot be used"
    parser.add_argument("--within", type=float, metavar="DAYS", help="only those that end within so many days")
    add_bundle(parser)
    add_now(parser)
    add_format(parser)
    parser.set_defaults(run=run)


def run(options: Any) -> int:
    """Run the command."""
    within = None if options.within is None else options.within * 86_400
    found = expiring(open_bundle(options.bundle), options.at, within)
    if options.format == "json":
        print_json(
            [
                {
                    "ends": each.when,
                    "ended": each.ended,
                    "rule": each.line.text,
                    "rule_src": f"{each.line.place.path}:{each.line.place.line}",
                }
                for each in found
            ]
        )
    elif found:
        rows = [
            (
                each.when,
                "ended" if each.ended else f"in {each.left}",
                f"{each.line.place.path}:{each.line.place.line}",
                each.line.text,
            )
            for each in found
        ]
        table(("end", "", "place", "rule"), rows)
    else:
        print("no rule ends")
    return 3 if any(each.ended or within is not None for each in found) else 0
