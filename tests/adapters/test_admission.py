"""Admission: one RPC from its opening to its last message, without a server."""

from __future__ import annotations

from contextvars import copy_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from authz.adapters import admission
from authz.adapters.admission import Admission
from authz.adapters.namespaces import NAMED_LIMIT, read_namespaces
from authz.decision import authorizer_for
from authz.decision.base import Decision
from authz.engine import Policy
from authz.policy.load import load_bundle
from authz.testing.stage import Stage
from examples.orders import orders_pb2 as pb
from tests.bundle import CATALOGUE, POLICY, write_bundle

TRACK = "/example.orders.v1.Orders/TrackOrders"
SHOP = CATALOGUE.replace("shop.Orders", "example.orders.v1.Orders").replace("Get", "TrackOrders")


def context(metadata: Any) -> Any:
    """As much of a servicer context as it takes."""
    return SimpleNamespace(invocation_metadata=lambda: metadata, auth_context=dict, peer=lambda: "ipv4:127.0.0.1:1")


def order(namespace: str) -> Any:
    return pb.TrackOrdersRequest(namespace=namespace)


def opened(admission: Admission, namespace: str) -> Decision:
    """The decision on the opening, which becomes the current call elsewhere and not of the tests to come."""
    return copy_context().run(admission.decide, order(namespace))


def adopt(stage: Stage, folder: Path, catalogue: str) -> None:
    """Put a bundle with another catalogue in force."""
    revision = load_bundle(write_bundle(folder, POLICY, catalogue=catalogue))
    stage.engine.adopt(Policy(revision, authorizer_for(revision)))


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(write_bundle(tmp_path / "bundle", catalogue=SHOP))


def test_a_method_that_a_new_catalogue_takes_out_of_every_namespace_is_decided_there(
    stage: Stage, tmp_path: Path
) -> None:
    here, everywhere = (
        Admission(stage.engine, TRACK, context(stage.as_caller("rita", roles, system=system)))
        for roles, system in (({"acme": "reader"}, ()), ({}, "reader"))
    )
    assert opened(here, "acme")
    assert opened(everywhere, "acme")
    adopt(stage, tmp_path / "new", SHOP.replace("TrackOrders: read", "TrackOrders: {access: read, scope: cluster}"))
    refused = here.recheck()
    assert refused is not None
    assert refused.reason == "no_rule", "the role in one namespace does not count there"
    assert everywhere.recheck() is None
    assert everywhere.refuse_next(order("globex")) is None


async def test_an_rpc_names_no_more_namespaces_than_a_message_may(stage: Stage) -> None:
    admission, other = (Admission(stage.engine, TRACK, context(stage.as_caller("rita", system="reader"))) for _ in "ab")
    assert opened(admission, "team-0")
    assert await other.decide_async(order("team-0"))
    for number in range(1, NAMED_LIMIT):
        assert admission.refuse_next(order(f"team-{number}")) is None
        assert await other.refuse_next_async(order(f"team-{number}")) is None
    assert admission.refuse_next(order("team-7")) is None, "it is one of them"
    assert await other.refuse_next_async(order("team-7")) is None
    before = len(stage.decisions.records)
    for refused in (admission.refuse_next(order("one-more")), await other.refuse_next_async(order("one-more"))):
        assert refused is not None
        assert refused.reason == "namespace_unreadable"
    assert [record["unreadable"] for record in stage.decisions.records[before:]] == [
        "the call names more than 1000 namespaces in all"
    ] * 2
    assert len(admission.admitted) == len(other.admitted) == NAMED_LIMIT
    assert admission.refuse_next(order("team-7")) is admission.refused, "a call that was refused stays refused"


@pytest.mark.parametrize("entry", ["{access: read, constant: globex}", "{access: read, metadata: x-team}"])
def test_what_a_new_catalogue_adds_to_a_call_under_way_is_decided_too(stage: Stage, tmp_path: Path, entry: str) -> None:
    here, everywhere = (
        Admission(stage.engine, TRACK, context([*stage.as_caller("rita", roles, system=system), ("x-team", "globex")]))
        for roles, system in (({"acme": "reader"}, ()), ({}, "reader"))
    )
    assert opened(here, "acme")
    assert opened(everywhere, "acme")
    adopt(stage, tmp_path / "new", SHOP.replace("TrackOrders: read", f"TrackOrders: {entry}"))
    refused = here.refuse_now()
    assert refused is not None
    assert set(stage.decisions.records[-1]["namespaces"]) == {"acme", "globex"}
    assert everywhere.refuse_now() is None
    assert everywhere.admitted == {"acme", "globex"}


async def test_an_rpc_is_opened_by_the_policy_in_force_when_its_message_comes(stage: Stage, tmp_path: Path) -> None:
    caller = stage.as_caller("rita", {"acme": "reader", "globex": "reader"})
    given = context([*caller, ("x-team", "globex")])
    waiting, other = (Admission(stage.engine, TRACK, given) for _ in "ab")
    adopt(stage, tmp_path / "new", SHOP.replace("TrackOrders: read", "TrackOrders: {access: read, metadata: x-team}"))
    assert opened(waiting, "acme")
    assert await other.decide_async(order("acme"))
    assert waiting.admitted == other.admitted == {"globex"}
    assert stage.decisions.records[-1]["policy_version"] == stage.engine.policy.revision.id


def test_a_message_is_decided_by_the_rules_beside_the_catalogue_that_it_was_read_by(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = Admission(stage.engine, TRACK, context(stage.as_caller("rita", system="reader")))
    assert opened(call, "acme")
    before = stage.engine.policy.revision.id

    def read(*asked: Any) -> Any:
        # another thread looks at the call again while the message is being read
        adopt(stage, tmp_path / "new", SHOP.replace("TrackOrders: read", "TrackOrders: {access: read, scope: cluster}"))
        assert call.recheck() is None
        return read_namespaces(*asked)

    monkeypatch.setattr(admission, "read_namespaces", read)
    assert call.refuse_next(order("globex")) is None
    assert stage.decisions.records[-1]["namespaces"] == ["globex"]
    assert stage.decisions.records[-1]["policy_version"] == before
