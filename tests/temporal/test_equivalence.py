"""What the SDK's user sees through the proxy is what is seen without it."""

from __future__ import annotations

import re
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from examples.temporal.parts import Front
from examples.temporal.workflows import QUEUE, Order, fail, pack
from tests.temporal.operations import OPERATIONS

_IDS = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def clients(front: Front, temporal_port: int) -> AsyncIterator[tuple[Client, Client]]:
    """A client that calls the server itself, and one that calls through the proxy; and a worker behind the proxy."""
    direct = await Client.connect(f"127.0.0.1:{temporal_port}", namespace="alpha")
    token = front.token("walt", "alpha:admin", "temporal-system:admin")
    proxied = await front.client("alpha", token)
    working = await front.client("alpha", front.token("packer", "alpha:write"))
    async with Worker(
        working, task_queue=QUEUE, workflows=[Order], activities=[pack, fail],
        workflow_runner=UnsandboxedWorkflowRunner(),
    ):  # fmt: skip
        yield direct, proxied


def comparable(found: Any) -> str:
    """As text, without ids, and without the order of a protobuf map, which has none."""
    if isinstance(found, dict):
        found = sorted(found.items(), key=repr)
    return _IDS.sub("<id>", repr(found))


def test_there_are_at_least_25_operations() -> None:
    assert len(OPERATIONS) >= 25


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", OPERATIONS)
async def test_an_operation_is_the_same_through_the_proxy(clients: tuple[Client, Client], name: str) -> None:
    one, other = [await OPERATIONS[name](client, f"{name}-{uuid.uuid4()}") for client in clients]
    assert comparable(one) == comparable(other)
