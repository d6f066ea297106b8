"""``authz policy promote``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from authz.admin.store import CURRENT, Step, promote
from authz.cli.policy.shown import add_format, paint, print_json


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.epilog = (
        "The bundle must be clean and pass its tests. It is copied to STORE/revisions, and STORE/current, which the\n"
        "server's configuration names, is swapped to it in one step.\n\n"
        "exit codes: 0 it is in force, 4 it is not fit to be"
    )
    parser.add_argument("bundle", help="the bundle's folder")
    parser.add_argument("store", help="the store's folder; made if it is not there")
    parser.add_argument("--note", default="", help="why, for the history")
    parser.add_argument("--require-signature", metavar="FILE", action="append", default=[], help="a public key")
    parser.add_argument("--untested", action="store_true", help="do not ask for tests")
    add_format(parser)
    parser.set_defaults(run=run)


def run(options: Any) -> int:
    """Run the command."""
    store = Path(options.store)
    (store / "revisions").mkdir(parents=True, exist_ok=True)
    keys = tuple(Path(key) for key in options.require_signature)
    step = promote(Path(options.bundle), store, note=options.note, keys=keys, tested=not options.untested)
    print_step(step, store, options.format)
    return 0


def print_step(step: Step, store: Path, form: str) -> None:
    """What is in force now, and how to undo it."""
    if form == "json":
        names = ("time", "action", "revision", "previous", "by", "note")
        print_json({name: getattr(step, name) for name in names})
        return
    print(f"{paint('in force', 'green')}: {step.revision[:12]} at {store / CURRENT}")
    if step.previous:
        print(f"before: {step.previous[:12]}; go back with `authz policy rollback {store}`")
