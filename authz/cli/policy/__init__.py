"""``authz policy``: everything between an admin's idea and a rule in force. One module of this package a command."""

from __future__ import annotations

import argparse
import importlib
from typing import Any, Final

COMMANDS: Final = {
    "check": "everything that is wrong or suspicious in a bundle, at once",
    "test": "does the bundle answer as its tests say?",
    "can": "may this caller make this call, and why?",
    "who-can": "who may call a method?",
    "list": "what may a subject do?",
    "matrix": "every subject, method and namespace, as a table, CSV or a page",
    "diff": "who gains and who loses access between two bundles",
    "format": "write the policy files in the one form",
    "merge": "add the rules of a pack",
    "expiring": "the rules that end, and when",
    "sign": "sign a bundle, make a key, verify a signature",
    "promote": "put a checked and tested bundle in force",
    "rollback": "put an earlier revision in force again",
    "history": "which revisions were in force, and since when",
    "schema": "JSON Schemas for the YAML files, for editors",
}
"""What each command is for."""


def register(subparsers: Any) -> None:
    """Add the group and its commands; a command's module is imported when it is run, or asked for its help."""
    group = subparsers.add_parser(
        "policy",
        help="check, test, explain and compare policy bundles",
        description="Everything between an admin's idea and a rule in force.",
        epilog="exit codes: 0 allowed or clean, 1 crash, 2 usage, 3 denied or difference found, 4 invalid",
    )
    commands = group.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=_Late)
    for name, purpose in COMMANDS.items():
        commands.add_parser(
            name, help=purpose, description=purpose, formatter_class=argparse.RawDescriptionHelpFormatter
        ).module = f"authz.cli.policy.{name.replace('-', '_')}"


class _Late(argparse.ArgumentParser):
    """A command's parser, which asks the command's module for its arguments when it is used, and not before."""

    module = ""

    def ready(self) -> None:
        """Ask the module."""
        if self.module:
            name, self.module = self.module, ""
            importlib.import_module(name).arguments(self)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self.ready()
        return super().parse_known_args(args, namespace)
