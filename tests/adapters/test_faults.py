"""A fault of our own, on both servers: nobody is let in by it, and its text stays in the server's log."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import authz
from authz.engine import Policy
from tests.adapters.forms import FORMS, KINDS, Ran, Server
from tests.adapters.orders import configure

TEXT = "the password of the database is hunter2"


def fail(*_: Any) -> Any:
    raise RuntimeError(TEXT)


class Broken:
    """An authorizer with a fault."""

    authorize = staticmethod(fail)


def deciding(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.engine.adopt(Policy(server.engine.policy.revision, Broken()))


def reading(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("authz.adapters.admission.read_credentials", fail)


@pytest.fixture(params=["sync", "sync callbacks", "aio", "aio plain functions"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    config, keys = configure(tmp_path)
    ran = Ran()
    with authz.load_config(config) as engine, FORMS[request.param].serving(engine, ran) as port:
        yield Server(port, ran, keys, tmp_path, engine)


@pytest.mark.parametrize("method", KINDS)
@pytest.mark.parametrize("fault", [deciding, reading])
def test_a_fault_lets_nobody_in_and_tells_the_caller_nothing(
    server: Server,
    fault: Callable[[Server, pytest.MonkeyPatch], None],
    method: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    token = server.token(permissions=["acme:write"])
    assert server.call(method, "acme", metadata=token)[0] == "OK"
    server.ran.clear()
    fault(server, monkeypatch)
    with caplog.at_level(logging.ERROR, "authz"):
        code, ids, details, trailers = server.call(method, "acme", metadata=token)
    assert (code, ids, server.ran) == ("INTERNAL", [], [])
    assert details.startswith("authorization failed")
    assert "hunter2" not in f"{details}{trailers}"
    assert "hunter2" in caplog.text
