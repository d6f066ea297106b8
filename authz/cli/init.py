"""``authz init``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def register(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "init",
        help="make a starter: configuration, policy bundle, policy tests",
        description="Make a starter: configuration, policy bundle and policy tests, with comments that teach.",
        epilog="Nothing that is there is overwritten.\n\nexit codes: 0 made, 4 a file is there already",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", help="where; made if it is not there")
    parser.add_argument("--format", choices=("text", "json"), default="text", help="how to print (default: text)")
    parser.set_defaults(run=run)


def run(options: Any) -> int:
    """Run the command."""
    from authz.admin.init import init

    folder = Path(options.folder)
    written = init(folder)
    if options.format == "json":
        import json

        print(json.dumps({"written": [str(file) for file in written]}, indent=2))
        return 0
    for file in written:
        print(f"wrote {file}")
    print(f"next: edit {folder / 'policy' / 'policy.csv'}, then")
    print(f"  authz policy check {folder / 'policy'}")
    print(f"  authz policy test {folder / 'policy'}")
    return 0
