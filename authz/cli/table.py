"""Table: rows for a terminal. What comes from a log can neither colour nor move anything there."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import chain, islice
from typing import Final

from authz.audit.printable import clean

_MEASURED: Final = 1000


def cell(value: object) -> str:
    """A value as it may stand in a terminal: printable, and without a line's end."""
    if value is None or value == "":
        return "-"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    if isinstance(value, list | tuple):
        return ", ".join(cell(item) for item in value) or "-"
    return clean(str(value), 2000)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], empty: str = "nothing found") -> str:
    """Rows under their columns, as wide as they need; on a terminal, lines end at its edge."""
    return "\n".join(table_lines(columns, rows, empty))


def table_lines(
    columns: Sequence[str], rows: Iterable[Sequence[object]], empty: str = "nothing found"
) -> Iterator[str]:
    """The lines of a table of any length: its columns are as wide as the first thousand rows need."""
    made = ([cell(value) for value in row] for row in rows)
    first = list(islice(made, _MEASURED))
    if not first:
        yield empty
        return
    widths = [max(len(name), *(len(row[at]) for row in first)) for at, name in enumerate(columns)]
    edge = shutil.get_terminal_size((10_000, 0)).columns
    for row in chain([list(columns)], first, made):
        line = "  ".join(value.ljust(width) for value, width in zip(row, widths, strict=True)).rstrip()
        yield line if len(line) <= edge else line[: max(edge - 1, 20)] + "…"
