"""Fixtures for pytest. In the tests' ``conftest.py``: name this module, and the bundle.

pytest_plugins = ["authz.testing.fixtures"]


@pytest.fixture
def authz_bundle():
    return "policies/orders"
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from functools import partial
from os import PathLike
from typing import Any, TypeAlias

import pytest

from authz.engine import Engine
from authz.testing.decisions import Decisions
from authz.testing.serving import serve, serve_aio
from authz.testing.stage import Metadata, Stage

Add: TypeAlias = Callable[[Any], object]


@pytest.fixture
def authz_bundle() -> str | PathLike[str]:
    """The folder of the policy bundle to decide by. Define a fixture of this name."""
    raise pytest.UsageError("no policy to decide by: define a fixture `authz_bundle` that returns a bundle's folder")


@pytest.fixture
def authz_anonymous() -> Iterable[str]:
    """The methods that a caller who shows nothing may call. Define a fixture of this name if there are any."""
    return ()


@pytest.fixture
def authz_stage(authz_bundle: str | PathLike[str], authz_anonymous: Iterable[str]) -> Iterator[Stage]:
    """The stage that the other fixtures are parts of."""
    stage = Stage(authz_bundle, anonymous=authz_anonymous)
    with stage.engine:
        yield stage


@pytest.fixture
def authz_engine(authz_stage: Stage) -> Engine:
    """An engine that decides by the bundle."""
    return authz_stage.engine


@pytest.fixture
def as_caller(authz_stage: Stage) -> Callable[..., Metadata]:
    """Makes the metadata of a caller; see :meth:`authz.testing.Stage.as_caller`."""
    return authz_stage.as_caller


@pytest.fixture
def decisions(authz_stage: Stage) -> Decisions:
    """What was decided in this test; see :class:`authz.testing.Decisions`."""
    return authz_stage.decisions


@pytest.fixture
def authz_server(authz_engine: Engine) -> Callable[[Add], AbstractContextManager[Any]]:
    """Serves on ``grpc.server``: ``with authz_server(add) as channel``; see :func:`authz.testing.serve`."""
    return partial(serve, authz_engine)


@pytest.fixture
def authz_aio_server(authz_engine: Engine) -> Callable[[Add], AbstractAsyncContextManager[Any]]:
    """Serves on ``grpc.aio``: ``async with authz_aio_server(add) as channel``; see :func:`authz.testing.serve_aio`."""
    return partial(serve_aio, authz_engine)
