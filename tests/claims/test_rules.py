"""Rules: which claims give which roles, and what they never give."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest

from authz.authn.base import Principal, PrincipalKind
from authz.authn.conditions import IsBoolean
from authz.authn.pointer import Pointer
from authz.claims.base import Claims
from authz.claims.grants import Ceiling
from authz.claims.mapper import CheckedMapper, MapperByIssuer, RuleMapper
from authz.claims.permissions import PermissionsRule
from authz.claims.rules import ConditionalRule, GrantOf, MatchRule, Rule, StaticRule, TableRule
from authz.errors import MappingError
from authz.reason import Reason

NS_ROLE = re.compile(r"ns:(?P<ns>[^:]*):(?P<role>.*)", re.ASCII)


def mapped(rule: Rule, ceiling: Ceiling | None = None, **attributes: Any) -> Claims:
    principal = Principal(PrincipalKind.TOKEN, "corp", "alice", attributes=attributes)
    return RuleMapper([rule], ceiling or Ceiling()).map(principal)


def roles(claims: Claims) -> dict[str, list[str]]:
    found = {name: sorted(names) for name, names in claims.namespaces.items()}
    return {**found, **({"*": sorted(claims.system)} if claims.system else {})}


PERMISSIONS: list[tuple[list[str], dict[str, list[str]]]] = [
    (["orders:read"], {"orders": ["reader"]}),
    (["orders:READ", "orders:Write"], {"orders": ["reader", "writer"]}),
    (["orders:worker", "billing:admin"], {"orders": ["worker"], "billing": ["admin"]}),
    (["temporal-system:admin"], {"*": ["admin"]}),
    (["Temporal-System:admin"], {"Temporal-System": ["admin"]}),
    (["Orders:read", "orders:read"], {"Orders": ["reader"], "orders": ["reader"]}),
    ([], {}),
    ([":admin"], {}),
    (["*:admin"], {}),
    (["admin"], {}),
    (["orders:"], {}),
    (["orders:reader"], {}),
    (["orders:read:x"], {}),
    (["orders: read", " orders:read", "orders :read", "orders:read "], {}),
    (["a,b:read", "a/b:read", "a*:read"], {}),
    (["orders:everyone"], {}),
    (["orders:\u212aread"], {}),
    (["orders:wor\u212aer"], {}),
]


@pytest.mark.parametrize(("permissions", "expected"), PERMISSIONS)
def test_permissions(permissions: list[str], expected: dict[str, list[str]]) -> None:
    assert roles(mapped(PermissionsRule(Pointer("permissions")), permissions=permissions)) == expected


def test_permissions_by_pattern() -> None:
    rule = PermissionsRule(Pointer("p"), "sys", re.compile(r"(?P<role>\w+)@(?P<namespace>[\w-]+)", re.ASCII))
    claims = mapped(rule, p=["read@orders", "admin@sys", "xx read@orders", "read@orders\u0301"])
    assert roles(claims) == {"orders": ["reader"], "*": ["admin"]}
    assert len(claims.notes) == 2


@pytest.mark.parametrize(
    "value", ["orders:read", {"orders": "read"}, [["orders:read"]], None, 1, ["a\nb:read"], ["x"] * 1001, ["x" * 513]]
)
def test_permissions_of_another_shape_refuse_the_caller(value: Any) -> None:
    with pytest.raises(MappingError) as caught:
        mapped(PermissionsRule(Pointer("permissions")), permissions=value)
    assert caught.value.reason is Reason.CLAIMS_MALFORMED


def test_no_permissions_are_none() -> None:
    assert roles(mapped(PermissionsRule(Pointer("permissions")))) == {}


def test_a_table() -> None:
    table = {"admins": (GrantOf("admin"),), "devs": (GrantOf("writer", "dev"), GrantOf("reader", "prod"))}
    rule = TableRule(Pointer("/realm/groups"), table)
    claims = mapped(rule, realm={"groups": ["devs", "admins", "Admins", "admins "]})
    assert roles(claims) == {"dev": ["writer"], "prod": ["reader"], "*": ["admin"]}
    assert claims.used == ("/realm/groups",)
    assert roles(mapped(rule, realm={})) == {}


def test_a_blank_separates_only_where_the_rule_says_so() -> None:
    table = {"read": (GrantOf("reader"),)}
    assert roles(mapped(TableRule(Pointer("scope"), table, split=True), scope="openid read")) == {"*": ["reader"]}
    assert roles(mapped(TableRule(Pointer("scope"), table), scope="openid read")) == {}


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("ns:orders:reader", {"orders": ["reader"]}),
        ("ns::admin", {}),
        ("ns:*:admin", {}),
        ("ns:orders:everyone", {}),
        ("ns:orders:a,b", {}),
        ("xns:orders:reader", {}),
        ("ns:orders:", {}),
    ],
)
def test_a_match(entry: str, expected: dict[str, list[str]]) -> None:
    assert roles(mapped(MatchRule(Pointer("roles"), NS_ROLE, "{role}", "{ns}"), roles=[entry])) == expected


def test_a_match_with_a_fixed_namespace_or_none() -> None:
    assert roles(mapped(MatchRule(Pointer("r"), NS_ROLE, "team-{role}", "orders"), r="ns::a")) == {"orders": ["team-a"]}
    assert roles(mapped(MatchRule(Pointer("r"), NS_ROLE, "{role}"), r="ns::a")) == {"*": ["a"]}


def test_words_translate_what_a_match_found() -> None:
    rule = MatchRule(Pointer("roles"), NS_ROLE, "{role}", "{ns}", {"ro": "reader"})
    assert roles(mapped(rule, roles=["ns:a:ro", "ns:a:admin"])) == {"a": ["reader"]}


def test_a_static_grant() -> None:
    assert roles(mapped(StaticRule((GrantOf("reader", "shared"),)))) == {"shared": ["reader"]}


@pytest.mark.parametrize(
    ("ceiling", "expected"),
    [
        (Ceiling(), {"orders-a": ["admin"], "billing": ["reader"], "*": ["writer"]}),
        (Ceiling(namespaces=("orders-*",)), {"orders-a": ["admin"]}),
        (Ceiling(namespaces=("billing", "orders-")), {"billing": ["reader"]}),
        (
            Ceiling(namespaces=("billing",), system_roles=frozenset({"writer"})),
            {"billing": ["reader"], "*": ["writer"]},
        ),
        (Ceiling(roles=frozenset({"reader"})), {"billing": ["reader"]}),
        (Ceiling(system_roles=frozenset()), {"orders-a": ["admin"], "billing": ["reader"]}),
    ],
)
def test_a_ceiling(ceiling: Ceiling, expected: dict[str, list[str]]) -> None:
    rule = PermissionsRule(Pointer("p"))
    claims = mapped(rule, ceiling, p=["orders-a:admin", "billing:read", "temporal-system:write"])
    assert roles(claims) == expected


def test_claims_are_remembered_with_the_principal() -> None:
    mapper = MapperByIssuer({"corp": RuleMapper([StaticRule((GrantOf("reader"),))])})
    first, second = (Principal(PrincipalKind.TOKEN, "corp", "alice", expires_at=9.0) for _ in range(2))
    assert mapper.map(first) is mapper.map(first)
    assert mapper.map(second) is not mapper.map(first)
    assert mapper.map(first).system == {"reader"}
    assert mapper.map(first).expires_at == 9.0


@pytest.mark.parametrize("expires_at", [None, 500.0])
def test_when_claims_have_ended_their_mapper_is_asked_again(
    expires_at: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "time", lambda: now[0])

    class Directory:
        """Roles that are good for a while, as somebody's directory may have them."""

        def __init__(self) -> None:
            self.asked = 0

        def map(self, principal: Principal) -> Claims:
            self.asked += 1
            return Claims(principal, frozenset({f"role-{self.asked}"}), expires_at=now[0] + 10)

    directory = Directory()
    mapper = MapperByIssuer({"corp": CheckedMapper("corp", directory)})
    alice = Principal(PrincipalKind.TOKEN, "corp", "alice", expires_at=expires_at)
    first = mapper.map(alice)
    now[0] = 109.9
    assert mapper.map(alice) is first
    now[0] = 110.0
    second = mapper.map(alice)
    assert second.system == {"role-2"}
    assert second.expires_at == 120.0
    assert mapper.map(alice) is second
    assert directory.asked == 2


def test_a_principal_of_no_known_issuer_has_no_roles() -> None:
    assert roles(MapperByIssuer({}).map(Principal(PrincipalKind.ANONYMOUS, "", "anonymous"))) == {}


def test_notes_are_bounded() -> None:
    assert len(mapped(PermissionsRule(Pointer("p")), p=["x"] * 500).notes) == 20


def test_a_condition_decides_whether_a_rule_is_applied() -> None:
    rule = ConditionalRule([IsBoolean(Pointer("mfa"), True)], StaticRule((GrantOf("admin"),)))
    assert roles(mapped(rule, mfa=True)) == {"*": ["admin"]}
    for attributes in ({}, {"mfa": "true"}, {"mfa": False}):
        claims = mapped(rule, None, **attributes)
        assert roles(claims) == {}
        assert claims.notes == ("a rule was not applied: not so: `mfa` is true",)
