"""``authz policy history``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from authz.admin.store import history, in_force
from authz.cli.policy.shown import add_format, print_json, table


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.epilog = "exit codes: 0 always, 4 the history cannot be read"
    parser.add_argument("store", help="the store's folder")
    add_format(parser)
    parser.set_defaults(run=run)


def run(options: Any) -> int:
    """Run the command."""
    store = Path(options.store)
    steps, now = history(store), in_force(store)
    if options.format == "json":
        names = ("time", "action", "revision", "previous", "by", "note")
        print_json({"in_force": now or None, "steps": [{name: getattr(s, name) for name in names} for s in steps]})
    elif steps:
        last = len(steps) - 1
        rows = [
            (s.time, s.action, s.revision[:12], s.by, "in force" if n == last else "", s.note)
            for n, s in enumerate(steps)
        ]
        table(("since", "step", "revision", "who", "", "note"), rows)
    else:
        print("nothing was put in force yet")
    return 0
