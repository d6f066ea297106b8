"""The limit of failures: who is counted together, who is let in again when, and that nobody can turn it on another."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.authn.failure_limit import FailureLimit, group_of


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def fail(limit: FailureLimit, peer: str, times: int) -> None:
    for _ in range(times):
        limit.failed(peer)


ALICE, MALLORY = "ipv4:192.0.2.1:1000", "ipv4:192.0.2.66:1000"


def test_a_peer_is_limited_after_so_many_failures_and_no_other_is(clock: Clock) -> None:
    limit = FailureLimit(3, 60.0, clock=clock)
    for _ in range(3):
        assert not limit.limits(MALLORY)
        limit.failed(MALLORY)
    assert limit.limits(MALLORY)
    assert limit.limits("ipv4:192.0.2.66:2000")
    assert not limit.limits(ALICE)


def test_it_is_let_in_again_evenly_also_if_it_goes_on(clock: Clock) -> None:
    limit = FailureLimit(3, 60.0, clock=clock)
    fail(limit, MALLORY, 50)
    clock.now += 19.9
    assert limit.limits(MALLORY)
    clock.now += 0.2
    assert not limit.limits(MALLORY)
    limit.failed(MALLORY)
    assert limit.limits(MALLORY)
    clock.now += 60.1
    fail(limit, MALLORY, 2)
    assert not limit.limits(MALLORY)


def test_one_failure_is_a_limit_too(clock: Clock) -> None:
    limit = FailureLimit(1, 60.0, clock=clock)
    limit.failed(MALLORY)
    assert limit.limits(MALLORY)
    clock.now += 60.1
    assert not limit.limits(MALLORY)


GROUPS = [
    ("ipv4:192.0.2.1:40412", "192.0.2.1"),
    ("ipv6:%5B2001:db8:1:2:3:4:5:6%5D:40412", "2001:db8:1:2::/64"),
    ("ipv6:[2001:db8:1:2::1]:40412", "2001:db8:1:2::/64"),
    ("ipv6:%5Bfe80::1%25eth0%5D:40412", "fe80::/64"),
    ("ipv6:%5B::ffff:192.0.2.1%5D:40412", "192.0.2.1"),
    ("unix:", ""),
    ("unix:/run/orders.sock", ""),
    ("unix-abstract:orders", ""),
    ("", ""),
    ("192.0.2.1:40412", "192.0.2.1"),
    ("192.0.2.1", "192.0.2.1"),
    ("2001:db8:1:2::1:40412", "2001:db8:1:2::/64"),
    ("ipv4:not-an-address:1", "not-an-address"),
    ("ipv6:nonsense:1", "nonsense"),
    ("vsock:3:1000", "vsock:3"),
    ("x:" + "y" * 1000 + ":1", "x:" + "y" * 126),
]


@pytest.mark.parametrize(("peer", "group"), GROUPS)
def test_who_is_counted_together(peer: str, group: str) -> None:
    assert group_of(peer) == group


@given(st.text(max_size=100))
def test_no_peer_is_too_odd(peer: str) -> None:
    limit = FailureLimit(1)
    limit.failed(peer)
    assert limit.limits(peer) is bool(group_of(peer))
    assert len(group_of(peer)) <= 128


def test_an_ipv6_network_is_one_peer(clock: Clock) -> None:
    limit = FailureLimit(20, 60.0, clock=clock)
    for host in range(20):
        limit.failed(f"ipv6:%5B2001:db8::{host:x}%5D:1")
    assert len(limit) == 1
    assert limit.limits("ipv6:%5B2001:db8::ffff%5D:1")
    assert not limit.limits("ipv6:%5B2001:db8:0:1::1%5D:1")


def test_callers_on_a_unix_socket_are_not_limited() -> None:
    limit = FailureLimit(1)
    fail(limit, "unix:", 100)
    assert not limit.limits("unix:")
    assert len(limit) == 0


def address(number: int) -> str:
    return f"ipv4:10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}:1"


def test_the_table_is_bounded_and_a_flood_pushes_no_limited_peer_out(clock: Clock) -> None:
    limit = FailureLimit(3, 3600.0, peers=100, clock=clock)
    fail(limit, MALLORY, 3)
    for number in range(5_000):
        limit.failed(address(number))
        assert len(limit) <= 100
        assert limit.limits(MALLORY)


def test_a_table_full_of_limited_peers_limits_nobody_else_and_empties(clock: Clock) -> None:
    limit = FailureLimit(3, 60.0, peers=50, clock=clock)
    for number in range(50):
        fail(limit, address(number), 3)
    fail(limit, ALICE, 100)
    assert not limit.limits(ALICE)
    assert len(limit) == 50
    clock.now += 120.0
    fail(limit, ALICE, 3)
    assert limit.limits(ALICE)
    for number in range(1000, 1200):
        limit.failed(address(number))
    assert len(limit) <= 50


def test_at_random_a_limit_never_hits_who_did_not_fail(clock: Clock) -> None:
    chance = random.Random(7)
    limit = FailureLimit(4, 10.0, peers=64, clock=clock)
    counted: dict[str, int] = {}
    for _ in range(5_000):
        clock.now += chance.random() / 50
        peer = address(int(chance.expovariate(0.02)))
        counted[peer] = counted.get(peer, 0) + 1
        limit.failed(peer)
        innocent = address(100_000 + chance.randrange(100))
        assert not limit.limits(innocent)
        some = chance.choice(list(counted))
        if limit.limits(some):
            assert counted[some] >= 4


@pytest.mark.parametrize("numbers", [(0, 60.0, 10), (20, 0.0, 10), (20, 60.0, 0), (20, float("nan"), 10)])
def test_what_limits_nothing_is_refused(numbers: tuple[int, float, int]) -> None:
    with pytest.raises(ValueError, match="a limit is of at least one failure"):
        FailureLimit(*numbers)
