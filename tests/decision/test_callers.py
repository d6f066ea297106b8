"""Whom the rules mean: whatever was decided for others before, and whatever a caller's roles are called."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest

from authz.authn.base import Principal, PrincipalKind
from authz.call import Call
from authz.claims.base import Claims
from authz.decision.base import Effect
from authz.decision.casbin import CasbinAuthorizer
from authz.decision.compiled import CompiledAuthorizer
from authz.policy.load import load_bundle
from authz.policy.revision import Revision
from tests.bundle import anonymous, caller, write_bundle

POLICY = """\
p, role:reader, a, *, read, allow
p, role:writer, *, /shop.Orders/Put, write, allow
p, role:banned, a, *, write, deny
p, role:elsewhere, b, *, read, allow
p, role:authenticated, open, *, read, allow
p, role:everyone, wide-open, *, read, allow
p, user:corp:eve, a, *, write, deny
p, user:corp:alice, a, /shop.Orders/Cancel, write, allow
g, role:admin, role:writer
g, role:writer, role:reader
g, role:a-guest, role:elsewhere
g, user:corp:carol, role:writer
g, user:corp:alice, role:elsewhere
"""
USERS = ("alice", "bob", "carol", "eve")
ROLES = ("reader", "writer", "admin", "a-guest", "banned", "elsewhere", "unheard-of")


@pytest.fixture(scope="module")
def revision(tmp_path_factory: pytest.TempPathFactory) -> Revision:
    many = "".join(f"p, user:corp:u{number}, crowd, *, read, allow\n" for number in range(40))
    many += "p, role:crowd, crowd, *, read, allow\np, user:corp:u7, crowd, *, *, deny\n"
    return load_bundle(write_bundle(tmp_path_factory.mktemp("bundles") / "b", POLICY + many))


def test_every_caller_gets_his_own_answer(tmp_path: Path) -> None:
    revision = load_bundle(write_bundle(tmp_path / "b", POLICY))
    fast, slow = CompiledAuthorizer(revision), CasbinAuthorizer(revision, indexed=False)
    callers = [
        caller(*roles, user=user) for count in range(3) for roles in combinations(ROLES, count) for user in USERS
    ]
    callers += [anonymous(), *(caller(user=user, a="reader banned", b="writer") for user in USERS)]
    for method in ("Get", "Put", "Cancel"):
        for namespace in ("a", "b", "open", "wide-open", "nowhere", None):
            asked = Call(f"/shop.Orders/{method}", (namespace,))
            for claims in callers:
                assert fast.authorize(claims, asked).effect is slow.authorize(claims, asked).effect
                assert fast.authorize(claims, asked).rule == slow.authorize(claims, asked).rule


def test_roles_that_make_no_difference_make_no_new_question(revision: Revision) -> None:
    authorizer = CompiledAuthorizer(revision)
    asked = Call("/shop.Orders/Get", ("a",))
    first = authorizer.authorize(caller("reader"), asked)
    kept = authorizer._known.shared.stored
    for number in range(50):
        assert authorizer.authorize(caller("reader", f"other-{number}"), asked) is first
    assert authorizer._known.shared.stored == kept


@pytest.mark.parametrize("name", ["user:corp:alice", "role:reader", "role:writer", ""])
def test_a_role_is_nobody_else_whatever_it_is_called(revision: Revision, name: str) -> None:
    authorizer = CompiledAuthorizer(revision)
    for method in ("Get", "Put", "Cancel"):
        assert authorizer.authorize(caller(name, user="bob"), Call(f"/shop.Orders/{method}", ("a",))).rule is None


def test_one_of_many(revision: Revision) -> None:
    authorizer = CompiledAuthorizer(revision)
    asked = Call("/shop.Orders/Get", ("crowd",))
    for number in range(45):
        expected = Effect.DENY if number == 7 else Effect.ALLOW if number < 40 else Effect.NO_OPINION
        assert authorizer.authorize(caller(user=f"u{number}"), asked).effect is expected
        if number != 7:
            assert authorizer.authorize(caller("crowd", user=f"u{number}"), asked).effect is Effect.ALLOW
    assert "it needs user:corp:u0" in authorizer.authorize(caller(user="u99"), asked).detail


def test_each_of_many_rules_is_where_it_is_looked_for(tmp_path: Path) -> None:
    lines = [f"p, role:r{number % 7}, n{number}, /shop.Orders/Get, read, allow\n" for number in range(5_000)]
    authorizer = CompiledAuthorizer(load_bundle(write_bundle(tmp_path / "b", "".join(lines))))
    for number in range(0, 5_000, 11):
        asked = Call("/shop.Orders/Get", (f"n{number}",))
        rule = authorizer.authorize(caller(f"r{number % 7}"), asked).rule
        assert rule is not None
        assert rule.place.line == number + 1
        assert not authorizer.authorize(caller(f"r{(number + 1) % 7}"), asked).effect


def test_a_certificate_is_proven_too(revision: Revision) -> None:
    authorizer = CompiledAuthorizer(revision)
    asked = Call("/shop.Orders/Get", ("open",))
    principal = Principal(PrincipalKind.CERTIFICATE, "mesh", "svc", "mesh:")
    assert not authorizer.authorize(anonymous(), asked).effect
    assert authorizer.authorize(Claims(principal), asked).effect
    assert not authorizer.authorize(anonymous(), asked).effect
