"""``authz policy rollback``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from authz.admin.store import rollback
from authz.cli.policy.promote import print_step
from authz.cli.policy.shown import add_format


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.epilog = "exit codes: 0 the earlier revision is in force, 4 there is none that can be"
    parser.add_argument("store", help="the store's folder")
    parser.add_argument(
        "--to", default="", metavar="ID", help="the beginning of a revision's id (default: the one before)"
    )
    parser.add_argument("--note", default="", help="why, for the history")
    add_format(parser)
    parser.set_defaults(run=run)


def run(options: Any) -> int:
    """Run the command."""
    store = Path(options.store)
    print_step(rollback(store, options.to, note=options.note), store, options.format)
    return 0
