"""The command ``authz``: ``authz <group> <command>``, one module of this package for each group.

A group's module is imported only when its name is on the command line, so that no command pays for another's imports.
It has one function, ``register(subparsers)``, which adds the group's parser and gives each command of it a
``set_defaults(run=...)``: a function from the parsed arguments to an :class:`Exit`.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from enum import IntEnum
from importlib.util import find_spec
from typing import Any, Final, Protocol

from authz.errors import AuthzError

GROUPS: Final = {
    "init": "make a starter: configuration, policy bundle, policy tests",
    "policy": "check, test, explain and compare policy bundles",
    "token": "look into tokens",
    "serve": "answer for servers in any language",
    "api": "find out what an API is made of",
    "audit": "verify, search and report on audit logs",
    "completion": "completion of commands and options, for shells",
}
"""What each group is for; a group whose module is not there is not offered."""


class Subparsers(Protocol):
    """Where parsers are added: what ``ArgumentParser.add_subparsers()`` returns."""

    def add_parser(self, name: str, **settings: Any) -> argparse.ArgumentParser:
        """A parser of its own for what follows the word ``name``."""
        ...


class Exit(IntEnum):
    """What the exit code of a command says."""

    OK = 0
    CRASH = 1
    """A fault of the command itself."""
    USAGE = 2
    """The command line is wrong."""
    FINDING = 3
    """The answer is no: denied, different, or something was found."""
    INVALID = 4
    """A file that was named cannot be used."""
    CLOSED = 141
    """Whoever read the output went away before the answer was known."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line ``arguments`` (by default the process's own); the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser(words).parse_args(words)
    code = int(Exit.CLOSED)
    try:
        code = int(options.run(options))
        sys.stdout.flush()
    except AuthzError as exc:
        print(exc, file=sys.stderr)
        return Exit.INVALID
    except BrokenPipeError:
        # the reader has seen enough, which makes no failure a success; what is left to flush must not complain again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        return 130
    return code


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """The parser of the group that ``words`` name, beside the bare names of the others."""
    parser = argparse.ArgumentParser(
        prog="authz",
        description="Who may call what, in which namespace.",
        epilog="exit codes: 0 ok, 1 crash, 2 usage, 3 denied, different or found, 4 a file cannot be used, "
        "141 the output was closed first",
    )
    parser.add_argument("--version", action="version", version=_version())
    subparsers = parser.add_subparsers(title="groups", metavar="GROUP", required=True)
    named = next((word for word in words if not word.startswith("-")), None)
    for group, purpose in GROUPS.items():
        if group == named and find_spec(f"authz.cli.{group}") is not None:
            importlib.import_module(f"authz.cli.{group}").register(subparsers)
        elif find_spec(f"authz.cli.{group}") is not None:
            subparsers.add_parser(group, help=purpose)
    return parser


def _version() -> str:
    from authz import __version__

    return f"authz {__version__}"
