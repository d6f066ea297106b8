"""The incident, recorded once for all tests of this room."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from authz.review.logs import Logs
from examples.incident.__main__ import record
from tests.review.world import World, opened


@pytest.fixture(scope="session")
def incident(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the log ``audit``, its key and anchors, and ``policies/default``."""
    folder = tmp_path_factory.mktemp("incident")
    record(folder)
    return folder


@pytest.fixture
def logs(incident: Path) -> Iterator[Logs]:
    """The log of the incident."""
    with Logs([incident / "audit"]) as opened:
        yield opened


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """An empty log, and a clock that the test sets."""
    with opened(tmp_path) as world:
        yield world
