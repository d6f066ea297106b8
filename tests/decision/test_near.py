"""What a refusal says of the rules that came near."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from authz.call import Call
from authz.claims.base import Claims
from authz.decision import near
from authz.decision.compiled import CompiledAuthorizer
from authz.policy.load import load_bundle
from tests.bundle import MODEL, caller, write_bundle

POLICY = """\
p, role:reader, a, *, read, allow
p, role:reader, b-*, *, read, allow
p, role:writer, a, /shop.Orders/Put, write, allow
p, role:admin, *, *, write, allow
p, role:banned, a, *, *, deny
g, role:lead, role:reader
"""

REFUSALS = [
    # who, what, where, and what is said of it
    (caller("reader"), "Put", "a", "it needs role:writer ({csv}:3) or role:admin ({csv}:4)"),
    (caller("reader"), "Get", "c", "the caller may do it in a ({csv}:1)"),
    (caller("lead"), "Get", "c", "the caller may do it in a ({csv}:1)"),
    (caller("writer"), "Put", "c", "it needs role:admin ({csv}:4); the caller may do it in a ({csv}:3)"),
    (caller("writer"), "Get", "b-1", "it needs role:reader ({csv}:2)"),
    (caller("writer"), "Purge", "a", "no rule comes near"),
    (caller(), "Get", None, "no rule comes near"),
]


@pytest.mark.parametrize(("claims", "method", "namespace", "said"), REFUSALS)
def test_near_misses(tmp_path: Path, claims: Claims, method: str, namespace: str | None, said: str) -> None:
    bundle = write_bundle(tmp_path / "b", POLICY)
    authorizer = CompiledAuthorizer(load_bundle(bundle))
    for _ in range(2):
        verdict = authorizer.authorize(claims, Call(f"/shop.Orders/{method}", (namespace,)))
        assert verdict.detail == said.format(csv=bundle / "policy.csv")


def test_what_is_said_is_remembered_within_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near, "_TEXTS_LIMIT", 1)
    bundle = write_bundle(tmp_path / "b", POLICY)
    authorizer = CompiledAuthorizer(load_bundle(bundle))
    for claims, method, namespace, said in REFUSALS:
        verdict = authorizer.authorize(claims, Call(f"/shop.Orders/{method}", (namespace,)))
        assert verdict.detail == said.format(csv=bundle / "policy.csv")


def test_a_model_without_namespaces(tmp_path: Path) -> None:
    model = MODEL.replace(" && keyMatch(r.dom, p.dom)", "").replace("sub, dom, obj", "sub, obj")
    bundle = write_bundle(tmp_path / "b", "p, role:reader, *, read, allow\n", model=model)
    authorizer = CompiledAuthorizer(load_bundle(bundle))
    assert authorizer.authorize(caller("reader"), Call("/shop.Orders/Get", ("a",))).effect
    refused = authorizer.authorize(caller("writer"), Call("/shop.Orders/Get", ("a",)))
    assert refused.detail == f"it needs role:reader ({bundle / 'policy.csv'}:1)"


def test_lines_that_come_from_elsewhere_are_told_alike(tmp_path: Path) -> None:
    revision = load_bundle(write_bundle(tmp_path / "b", POLICY))
    first = CompiledAuthorizer(revision)
    other = CompiledAuthorizer(replace(revision, lines=tuple(revision.lines)))
    for claims, method, namespace, _ in REFUSALS:
        call = Call(f"/shop.Orders/{method}", (namespace,))
        assert other.authorize(claims, call) == first.authorize(claims, call)
