"""The calls under way: how much of an event loop's time is taken in one go to look at them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from authz.adapters.ongoing import OngoingOnLoop


class Call:
    """A call that was admitted in so many namespaces, and that notes when it is looked at."""

    def __init__(self, looks: list[Call], namespaces: int) -> None:
        self._looks = looks
        self.admitted = frozenset(map(str, range(namespaces)))

    def recheck(self) -> None:
        self._looks.append(self)


@pytest.mark.parametrize(
    ("calls", "namespaces", "at_once"), [(600, 1, 256), (600, 0, 256), (20, 100, 3), (5, 1000, 1), (256, 1, 256)]
)
async def test_calls_are_looked_at_by_the_namespaces_that_it_takes(calls: int, namespaces: int, at_once: int) -> None:
    looks: list[Call] = []
    ongoing = OngoingOnLoop(0.01)
    under_way: list[Any] = [Call(looks, namespaces) for _ in range(calls)]
    stays = [ongoing.enter(each, lambda _: None) for each in under_way]
    most = before = 0
    while len(looks) < 2 * calls:  # the second look begins when the first is over
        await asyncio.sleep(0)
        most, before = max(most, len(looks) - before), len(looks)
    assert most == at_once
    assert looks[: 2 * calls] == under_way * 2
    assert all(stay.leave() for stay in stays)
