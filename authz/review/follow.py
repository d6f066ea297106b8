"""Follow: records as they are written, also by writers that begin later, and over the end of a segment."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import orjson

from authz.audit.segment import LINES, find_files
from authz.errors import AuditError
from authz.review.search import Search

_PAUSE_SECONDS: Final = 0.3


def follow(paths: Sequence[Path], search: Search, stop: Callable[[], bool] = lambda: False) -> Iterator[dict[str, Any]]:
    """What is written from now on and found by ``search``, as it comes; until ``stop()``.

    A file is known by its inode, so that one which is renamed at its end is not read twice.

    Raises:
        AuditError: a path does not exist, or is a file that can be no log.
    """
    offsets = {_key(file): file.stat().st_size for file in _lines(paths)}
    while not stop():
        for file in _still(paths):
            try:
                key = _key(file)
                with file.open("rb") as stream:
                    stream.seek(offsets.get(key, 0))
                    data = stream.read()
            except OSError:
                continue
            whole = data.rfind(b"\n") + 1
            offsets[key] = offsets.get(key, 0) + whole
            for line in data[:whole].splitlines():
                try:
                    fields = orjson.loads(line)
                except ValueError:
                    continue
                if isinstance(fields, dict) and search.matches(fields):
                    yield fields
        time.sleep(_PAUSE_SECONDS)


def _key(file: Path) -> tuple[int, int]:
    found = file.stat()
    return found.st_dev, found.st_ino


def _lines(paths: Sequence[Path]) -> list[Path]:
    return [file for file in find_files(paths) if file.suffix == LINES]


def _still(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        # a file that is rotated is away for a moment
        with suppress(AuditError):
            yield from _lines([path])
