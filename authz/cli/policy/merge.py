"""``authz policy merge``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from authz.admin.merge import merge
from authz.cli.policy.shown import add_format, paint, print_json


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.epilog = (
        "What is there already is not added again, and what cannot be used together is not written.\n\n"
        "exit codes: 0 merged, 3 (with --dry-run) there is something to add, 4 the bundles cannot be used together"
    )
    parser.add_argument("bundle", help="the bundle's folder")
    parser.add_argument("pack", help="a policy file, or a bundle's folder")
    parser.add_argument("--dry-run", action="store_true", help="write nothing; print what would be added")
    add_format(parser)
    parser.set_defaults(run=run)


def run(options: Any) -> int:
    """Run the command."""
    merged = merge(Path(options.bundle), Path(options.pack), write=not options.dry_run)
    if options.format == "json":
        print_json({"file": str(merged.path), "added": list(merged.added), "present": merged.present})
    else:
        for line in merged.added:
            print(f"{paint('+', 'green')} {line}")
        verb = "to add" if options.dry_run else "added"
        print(f"{len(merged.added)} {verb} to {merged.path}, {merged.present} there already")
    return 3 if options.dry_run and merged.added else 0
