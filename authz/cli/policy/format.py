"""``authz policy format``."""

from __future__ import annotations

import argparse
import difflib
import sys
from pathlib import Path
from typing import Any

from authz.admin.format import format_bundle
from authz.cli.policy.shown import add_format, print_json


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.epilog = (
        "Comments stay, rules keep their order and their meaning, and formatting twice changes nothing.\n\n"
        "exit codes: 0 formatted, 3 (with --check or --diff) it is not, 4 a file cannot be read as a policy"
    )
    parser.add_argument("bundle", nargs="?", default=".", help="a bundle's folder or one file (default: .)")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 3 if anything would change")
    parser.add_argument("--diff", action="store_true", help="write nothing; print what would change")
    add_format(parser)
    parser.set_defaults(run=run)


def run(options: Any) -> int:
    """Run the command."""
    look = options.check or options.diff
    changed = [each for each in format_bundle(Path(options.bundle), write=not look) if each.changed]
    if options.format == "json":
        print_json({"changed": [str(each.path) for each in changed], "written": not look})
    else:
        for each in changed:
            if options.diff:
                before, after = each.before.splitlines(keepends=True), each.after.splitlines(keepends=True)
                sys.stdout.writelines(difflib.unified_diff(before, after, str(each.path), str(each.path)))
            else:
                print(f"{'would format' if look else 'formatted'} {each.path}")
        if not changed:
            print("nothing to format")
    return 3 if changed and look else 0
