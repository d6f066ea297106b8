"""Table: rows for a terminal. What comes from a log can neither colour nor move anything there."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from datetime import datetime

from authz.audit.printable import clean


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
    made = [[cell(value) for value in row] for row in rows]
    if not made:
        return empty
    widths = [max(len(name), *(len(row[at]) for row in made)) for at, name in enumerate(columns)]
    edge = shutil.get_terminal_size((10_000, 0)).columns
    lines = []
    for row in [list(columns), *made]:
        line = "  ".join(value.ljust(width) for value, width in zip(row, widths, strict=True)).rstrip()
        lines.append(line if len(line) <= edge else line[: max(edge - 1, 20)] + "…")
    return "\n".join(lines)
