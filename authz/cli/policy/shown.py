"""Shown: what commands print. Colour and tables where a person looks; plain lines in a file, a pipe or a log."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final

from authz.errors import Place

_COLOURS: Final = {"red": "31", "green": "32", "yellow": "33", "dim": "2", "bold": "1", "cyan": "36"}
DEFAULT_BUNDLE: Final = "."


def coloured() -> bool:
    """Whether a person looks: standard output is a terminal, and NO_COLOR is not set."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, colour: str) -> str:
    """``text`` in a colour, where a person looks."""
    return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if coloured() else text


def print_json(value: Any) -> None:
    """``value`` as indented JSON."""
    print(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def place_json(place: Place) -> dict[str, Any]:
    """A place as JSON."""
    return {"file": place.path, "line": place.line, "column": place.column}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table: columns as wide as what is in them; the last is cut where a terminal ends."""
    body = [list(map(str, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]
    limit = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    for number, row in enumerate([list(head), *body]):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        if limit and len(line) > limit:
            line = line[: limit - 3] + "..."
        print(paint(line, "bold") if number == 0 else line)


def short(values: Sequence[str], most: int = 4) -> str:
    """A list for a person: the first few, and how many more."""
    more = f" and {len(values) - most} more" if len(values) > most else ""
    return ", ".join(values[:most]) + more


def last_names(methods: Sequence[str]) -> list[str]:
    """Methods by their last names."""
    return [method.rpartition("/")[2] if not method.endswith("*") else method for method in methods]


def add_format(parser: argparse.ArgumentParser, *more: str) -> None:
    """The option ``--format``."""
    parser.add_argument(
        "--format", choices=("text", "json", *more), default="text", help="how to print the answer (default: text)"
    )


def add_bundle(parser: argparse.ArgumentParser, **settings: Any) -> None:
    """The option ``--bundle``."""
    settings.setdefault("help", "the bundle's folder, or REV:FOLDER for one in git (default: the current folder)")
    parser.add_argument("--bundle", "-b", default=DEFAULT_BUNDLE, metavar="BUNDLE", **settings)


def add_now(parser: argparse.ArgumentParser) -> None:
    """The option ``--at``."""
    parser.add_argument("--at", type=moment, metavar="TIME", help="answer as of 2026-12-31T18:00:00Z (default: now)")


def moment(text: str) -> float:
    """A moment on a command line, in seconds since the epoch."""
    from authz.policy.ending import NEVER, read_end

    try:
        if text == NEVER:
            raise ValueError(text)
        return read_end(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"`{text}` is no moment; write 2026-12-31T18:00:00Z") from None


def usage(message: object) -> int:
    """Say what is wrong with the command line; the exit code."""
    print(f"authz: {message}", file=sys.stderr)
    return 2


def printable(text: str) -> str:
    """``text`` without what a terminal would obey."""
    shown = text.rstrip("\r").expandtabs(4)[:300]
    return "".join(c if c.isprintable() else "\ufffd" for c in shown)
