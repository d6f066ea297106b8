"""Who can, list, matrix and can: all of them say what asking the policy says."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from authz.admin.access import list_access, matrix, who_can
from authz.admin.caller import NoSubject, claims_of
from authz.admin.can import can, smallest_holds
from authz.admin.classes import name_classes
from authz.admin.reach import Beyond, Reach
from authz.call import Call, is_namespace
from authz.decision.base import Effect
from authz.decision.casbin import CasbinAuthorizer
from authz.policy.load import load_bundle
from authz.policy.revision import NOWHERE
from tests.bundle import MODEL, write_bundle

POLICIES = Path(__file__).parents[2] / "policies"
BUNDLES = ["default", "temporal"]


@pytest.mark.parametrize("bundle", BUNDLES)
def test_the_matrix_is_what_the_policy_says(bundle: str) -> None:
    revision = load_bundle(POLICIES / bundle)
    found = matrix(revision)
    authorizer = CasbinAuthorizer(revision)
    examples = {"*": "example", **{name: name for name in found.namespaces if not name.endswith("*")}}
    for s, n, m in itertools.product(
        range(len(found.subjects)), range(len(found.namespaces)), range(0, len(found.methods), 3)
    ):
        space = examples.get(found.namespaces[n], found.namespaces[n].replace("*", "x"))
        if space != NOWHERE and found.entries[m].scope.value == "cluster":
            assert (s, n, m) not in found.cells
            continue
        call = Call(found.methods[m], (None if space == NOWHERE else space,))
        told = authorizer.authorize(claims_of(found.subjects[s], space), call)
        rule = found.cells.get((s, n, m))
        assert (found.rules[rule][1] if rule is not None else Effect.NO_OPINION) is told.effect
        if rule is not None and told.rule is not None:
            assert found.rules[rule][0].place == told.rule.place


def test_who_can_and_list_are_the_matrix_read_by_row_and_column() -> None:
    revision = load_bundle(POLICIES / "default")
    found = matrix(revision)
    cells = {
        (found.subjects[s], found.namespaces[n], found.methods[m]): found.rules[rule][0].text
        for (s, n, m), rule in found.cells.items()
    }
    listed = {
        (each.subject, space, method): each.line.text
        for subject in found.subjects
        for each in list_access(revision, subject)
        for space in each.namespaces
        for method in each.methods
    }
    assert listed == cells
    for method in found.methods:
        asked = {
            (g.subject, n, m): g.line.text for g in who_can(revision, method) for n in g.namespaces for m in g.methods
        }
        assert asked == {key: text for key, text in cells.items() if key[2] == method}


@pytest.mark.parametrize("subject", ["role:reader", "role:worker", "user:corp:rita", "role:authenticated"])
@pytest.mark.parametrize("space", ["shop", NOWHERE])
def test_the_smallest_rule_allows_what_was_refused(subject: str, space: str) -> None:
    revision = load_bundle(POLICIES / "default")
    for method in revision.catalogue.methods:
        claims = claims_of(subject, space)
        answer = can(revision, claims, space, method)
        if answer.verdict.effect:
            assert answer.smallest == ""
        elif answer.smallest:
            assert smallest_holds(revision, answer, claims, space, method), answer.smallest


def test_near_misses_lack_one_thing() -> None:
    revision = load_bundle(POLICIES / "default")
    answer = can(revision, claims_of("role:auditor", "shop"), "shop", "/example.orders.v1.Orders/GetOrder")
    assert [(miss.line.place.line, miss.missing) for miss in answer.near] == [
        (20, "the caller is not `role:reader`"),
        (34, "it is about `billing-*`, not `shop`"),
    ]


def test_a_service_that_is_known_as_a_whole(tmp_path: Path) -> None:
    policy = "p, role:a, *, /shop.Internal/Re*, admin, allow\np, role:b, *, /shop.Internal/*, admin, allow\n"
    found = matrix(load_bundle(write_bundle(tmp_path, policy)))
    assert {"/shop.Internal/*", "/shop.Internal/Re*"} <= set(found.methods)
    cells = {(found.subjects[s], found.methods[m]) for s, n, m in found.cells if found.namespaces[n] == NOWHERE}
    assert {("role:a", "/shop.Internal/Re*"), ("role:b", "/shop.Internal/Re*"), ("role:b", "/shop.Internal/*")} <= cells
    assert ("role:a", "/shop.Internal/*") not in cells


BEYOND = {
    "a pattern of namespaces": ("keyMatch(r.dom, p.dom)", "regexMatch(r.dom, p.dom)", "without finite classes"),
    "a pattern of subjects": ("g(r.sub, p.sub)", "regexMatch(r.sub, p.sub)", "without finite classes"),
    "another function": ("g(r.sub, p.sub)", "globMatch(r.sub, p.sub)", "without finite classes"),
    "two fields at once": (
        "g(r.sub, p.sub)", "(g(r.sub, p.sub) || r.sub == p.sub && r.dom == p.dom)", "no condition on one field",
    ),
    "the request alone": ("g(r.sub, p.sub)", 'g(r.sub, p.sub) && r.act != "admin"', "no condition on one field"),
    "priorities": (
        "some(where (p.eft == allow)) && !some(where (p.eft == deny))", "priority(p.eft) || deny", "order of the rules",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BEYOND)
def test_what_is_beyond_is_said(name: str, tmp_path: Path) -> None:
    before, after, why = BEYOND[name]
    assert before in MODEL
    write_bundle(tmp_path, "p, role:a, shop, /shop.Orders/Get, read, allow\n", model=MODEL.replace(before, after))
    with pytest.raises(Beyond, match=why):
        Reach(load_bundle(tmp_path))


def test_a_model_without_namespaces(tmp_path: Path) -> None:
    model = MODEL.replace("r = sub, dom, obj, act", "r = sub, obj, act").replace("p = sub, dom, obj", "p = sub, obj")
    model = model.replace(" && keyMatch(r.dom, p.dom)", "")
    write_bundle(tmp_path, "p, role:a, /shop.Orders/Get, read, allow\n", model=model)
    (grant,) = list_access(load_bundle(tmp_path), "role:a")
    assert grant.namespaces == (NOWHERE, "*")


def test_classes_have_an_example_or_are_left_out() -> None:
    def classes(names: set[str], starts: set[str]) -> dict[str, str]:
        return {each.label: each.example for each in name_classes(names, starts, is_namespace)}

    assert classes({"shop"}, {"", "sh", "-"}) == {"shop": "shop", "sh*": "shexample", "*": "example"}
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-."
    assert classes({"s"}, {"s", *(f"s{letter}" for letter in letters)}).get("s*") is None
    assert classes(set(), {"s", *(f"s{letter}" for letter in letters)})["s*"] == "s"


@pytest.mark.parametrize("subject", ["reader", "role:", "user:", "role:a b", "group:x"])
def test_what_is_no_subject(subject: str) -> None:
    with pytest.raises(NoSubject, match="is no subject"):
        claims_of(subject, "shop")
