"""Who is a member of what."""

from __future__ import annotations

from authz.decision.roles import Roles

LINES = [("a", "b"), ("a", "c"), ("b", "d"), ("c", "d"), ("d", "e"), ("e", "d"), ("x", "x")]


def test_at_any_depth_and_in_circles() -> None:
    roles = Roles(LINES)
    assert roles.reached("a") == {"a", "b", "c", "d", "e"}
    assert roles.reached("d") == roles.reached("e") == {"d", "e"}
    assert roles.reached("nobody") == {"nobody"}
    assert roles.has("a", "e")
    assert roles.has("nobody", "nobody")
    assert not roles.has("e", "a")
    long = Roles([(str(i), str(i + 1)) for i in range(5_000)])
    assert long.has("0", "5000")


def test_the_shortest_chain() -> None:
    roles = Roles(LINES)
    assert roles.chain("a", "e") == ("a", "b", "d", "e")
    assert roles.chain("e", "d") == ("e", "d")
    assert roles.chain("a", "a") == ("a",)
    assert roles.chain("e", "a") == ()


def test_by_domain() -> None:
    roles = Roles([("a", "b", "one"), ("b", "c", "two")], domains=True)
    assert roles.has("a", "b", "one")
    assert not roles.has("a", "b", "two")
    assert not roles.has("a", "c", "one")
    assert not roles.has("a", "b")


def test_asking_leaves_nothing_behind() -> None:
    roles = Roles(LINES)
    for number in range(1_000):
        roles.reached(f"stranger-{number}")
        roles.has("a", f"stranger-{number}", f"domain-{number}")
    assert len(roles._reached) <= len(LINES)
