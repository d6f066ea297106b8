"""Admission: one RPC from its opening to its last message, without a server."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from authz.adapters.admission import Admission
from authz.decision import authorizer_for
from authz.engine import Policy
from authz.policy.load import load_bundle
from authz.testing.stage import Stage
from examples.orders import orders_pb2 as pb
from tests.bundle import CATALOGUE, POLICY, write_bundle

TRACK = "/example.orders.v1.Orders/TrackOrders"


def context(metadata: Any) -> Any:
    """As much of a servicer context as it takes."""
    return SimpleNamespace(invocation_metadata=lambda: metadata, auth_context=dict, peer=lambda: "ipv4:127.0.0.1:1")


def order(namespace: str) -> Any:
    return pb.TrackOrdersRequest(namespace=namespace)


def adopt(stage: Stage, folder: Path, catalogue: str) -> None:
    """Put a bundle with another catalogue in force."""
    revision = load_bundle(write_bundle(folder, POLICY, catalogue=catalogue))
    stage.engine.adopt(Policy(revision, authorizer_for(revision)))


def test_a_method_that_a_new_catalogue_takes_out_of_every_namespace_is_decided_there(tmp_path: Path) -> None:
    catalogue = CATALOGUE.replace("shop.Orders", "example.orders.v1.Orders").replace("Get", "TrackOrders")
    stage = Stage(write_bundle(tmp_path / "old", catalogue=catalogue))
    here, everywhere = (
        Admission(stage.engine, TRACK, context(stage.as_caller("rita", roles, system=system)))
        for roles, system in (({"acme": "reader"}, ()), ({}, "reader"))
    )
    assert here.decide(order("acme"))
    assert everywhere.decide(order("acme"))
    adopt(
        stage, tmp_path / "new", catalogue.replace("TrackOrders: read", "TrackOrders: {access: read, scope: cluster}")
    )
    refused = here.recheck()
    assert refused is not None
    assert refused.reason == "no_rule", "the role in one namespace does not count there"
    assert everywhere.recheck() is None
    assert everywhere.refuse_next(order("globex")) is None
