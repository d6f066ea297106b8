"""The default bundle, in stock Casbin: what each role may do, where."""

from __future__ import annotations

import pytest

from authz.decision.base import Effect
from tests.policies.stock import Stock

ALLOW, DENY, NONE = Effect.ALLOW, Effect.DENY, Effect.NO_OPINION
BUNDLE = Stock("default")
ORDERS = "/example.orders.v1.Orders/"
READS, WRITES = ("GetOrder", "ListOrders", "TrackOrders"), ("CreateOrder", "CancelOrder", "ImportOrders")
METHODS = (*READS, *WRITES, "PurgeNamespace")
MAY = {
    "reader": READS,
    "writer": READS + WRITES,
    "admin": METHODS,
    "worker": ("ImportOrders", "TrackOrders"),
    "auditor": (),
    "nobody": (),
}


@pytest.mark.parametrize("role", MAY)
@pytest.mark.parametrize("method", METHODS)
def test_roles(role: str, method: str) -> None:
    expected = ALLOW if method in MAY[role] else NONE
    assert BUNDLE.decide(ORDERS + method, ["shop"], system=[role]) is expected
    assert BUNDLE.decide(ORDERS + method, ["shop"], roles={"shop": [role]}) is expected
    assert BUNDLE.decide(ORDERS + method, ["shop"], roles={"other": [role], "Shop": [role]}) is NONE
    assert BUNDLE.decide(ORDERS + method, ["shop", "other"], roles={"shop": [role]}) is NONE
    assert BUNDLE.decide(ORDERS + method, [None], roles={"shop": [role], "": [role]}) is NONE
    assert BUNDLE.decide(ORDERS + method, [None], system=[role]) is expected


@pytest.mark.parametrize(
    ("who", "expected"),
    [
        ({"system": ["reader"]}, ALLOW),
        ({"system": ["admin"]}, ALLOW),
        ({"system": ["auditor"]}, ALLOW),
        ({"system": ["worker"]}, NONE),
        ({"roles": {"shop": ["admin"], "@cluster": ["admin"]}}, NONE),
        ({}, NONE),
    ],
)
def test_listing_namespaces_takes_a_system_wide_role(who: dict, expected: Effect) -> None:
    assert BUNDLE.decide(ORDERS + "ListNamespaces", **who) is expected


@pytest.mark.parametrize(
    ("namespace", "method", "expected"),
    [
        ("billing-eu", "GetOrder", ALLOW),
        ("billing-", "GetOrder", ALLOW),
        ("billing", "GetOrder", NONE),
        ("Billing-eu", "GetOrder", NONE),
        ("not-billing-eu", "GetOrder", NONE),
        ("billing-eu", "CreateOrder", NONE),
    ],
)
def test_an_auditor_reads_by_pattern(namespace: str, method: str, expected: Effect) -> None:
    assert BUNDLE.decide(ORDERS + method, [namespace], system=["auditor"]) is expected


@pytest.mark.parametrize("role", MAY)
def test_nobody_cancels_in_a_frozen_namespace(role: str) -> None:
    assert BUNDLE.decide(ORDERS + "CancelOrder", ["frozen-2024"], system=[role]) is DENY
    assert BUNDLE.decide(ORDERS + "CancelOrder", ["frozen-2024"], roles={"frozen-2024": [role]}) is DENY
    assert BUNDLE.decide(ORDERS + "CancelOrder", ["shop", "frozen-2024"], system=[role]) is DENY
    for method in set(METHODS) - {"CancelOrder"}:
        assert BUNDLE.decide(ORDERS + method, ["frozen-2024"], system=[role]) is not DENY


@pytest.mark.parametrize("method", BUNDLE.catalogue.methods)
def test_a_suspended_user_does_nothing(method: str) -> None:
    assert BUNDLE.decide(method, ["shop"], user="staff:mallory", system=["admin"]) is DENY
    assert BUNDLE.decide(method, ["shop"], user="staff:mallory2", system=["admin"]) is not DENY
    assert BUNDLE.decide(method, ["shop"], user="mallory", system=["admin"]) is not DENY


@pytest.mark.parametrize(
    ("method", "everyone", "reader"),
    [
        ("/grpc.health.v1.Health/Check", ALLOW, ALLOW),
        ("/grpc.health.v1.Health/Watch", ALLOW, ALLOW),
        ("/grpc.health.v1.Health/List", NONE, ALLOW),
        ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", NONE, ALLOW),
        ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", NONE, ALLOW),
        ("/grpc.health.v1.Health/Other", NONE, NONE),
    ],
)
def test_health_is_open_and_reflection_is_not(method: str, everyone: Effect, reader: Effect) -> None:
    assert BUNDLE.decide(method, proven=False) is everyone
    assert BUNDLE.decide(method) is everyone
    assert BUNDLE.decide(method, roles={"shop": ["admin"]}) is everyone
    assert BUNDLE.decide(method, system=["reader"]) is reader


def test_the_catalogue_is_the_example_service() -> None:
    orders = pytest.importorskip("examples.orders.orders_pb2").DESCRIPTOR.services_by_name["Orders"]
    known = [name for name in BUNDLE.catalogue.methods if name.startswith(ORDERS)]
    assert known == [ORDERS + method.name for method in orders.methods]
    for method in orders.methods:
        for path in BUNDLE.catalogue.methods[ORDERS + method.name].namespaces:
            assert path in method.input_type.fields_by_name
