"""The example's workflow and activity: a signal, a query, an update, and an activity that heartbeats."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError

QUEUE = "orders"


@activity.defn
async def pack(item: str) -> str:
    """Pack an item, and say how far it is."""
    for number in range(3):
        activity.heartbeat(number)
        await asyncio.sleep(0.02)
    return f"{item}, packed"


@activity.defn
async def fail(item: str) -> str:
    """Fail, for good."""
    raise ApplicationError(f"{item} is broken", "details", type="Broken", non_retryable=True)


@workflow.defn
class Order:
    """An order: items come by signal, it is closed by update."""

    @workflow.init
    def __init__(self, first: str) -> None:
        # a signal may come before `run` begins
        self.items = [first]
        self.closed = False

    @workflow.run
    async def run(self, first: str) -> list[str]:
        """Collect items until the order is closed, and pack them."""
        await workflow.wait_condition(lambda: self.closed)
        work = fail if first == "broken" else pack
        return [
            await workflow.execute_activity(
                work,
                item,
                start_to_close_timeout=timedelta(seconds=20),
                heartbeat_timeout=timedelta(seconds=5),
                retry_policy=RetryPolicy(maximum_attempts=1),
            )
            for item in self.items
        ]

    @workflow.signal
    def add(self, item: str) -> None:
        """One more item."""
        self.items.append(item)

    @workflow.query
    def count(self) -> int:
        """How many items there are."""
        return len(self.items)

    @workflow.update
    async def close(self, by: str) -> str:
        """No more items."""
        self.closed = True
        return f"closed by {by} with {len(self.items)} items"

    @close.validator
    def check_close(self, by: str) -> None:
        """Somebody has to close it."""
        if not by:
            raise ValueError("nobody closes it")
