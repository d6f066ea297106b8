"""``authz policy schema``."""

from __future__ import annotations

import argparse
from importlib.resources import files
from typing import Any

NAMES = ("catalogue", "tests", "config")


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.epilog = (
        "An editor that knows YAML schemas completes and checks the files with them. On a file's first line, write\n"
        "  # yaml-language-server: $schema=./tests.schema.json\n\n"
        "exit codes: 0 always"
    )
    parser.add_argument("name", choices=NAMES, help="which file the schema is for")
    parser.set_defaults(run=run)


def run(options: Any) -> int:
    """Run the command."""
    print(files("authz.admin").joinpath("schemas", f"{options.name}.schema.json").read_text(encoding="utf-8"), end="")
    return 0
