"""Diff: what it finds is exactly what asking both bundles every question finds."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from authz.admin.caller import claims_of
from authz.admin.diff import Difference, Kind, diff
from authz.admin.reach import Beyond
from authz.call import Call, Scope
from authz.decision.base import Effect
from authz.decision.casbin import CasbinAuthorizer
from authz.errors import PolicyError
from authz.policy.load import load_bundle
from authz.policy.revision import NOWHERE, Revision
from authz.reason import Reason
from tests.bundle import CATALOGUE, MODEL, POLICY, write_bundle

OTHER_CATALOGUE = CATALOGUE.replace("Put: write", "Put: admin").replace(
    "Regions: {access: read, scope: cluster}", "Regions: read\n      Fetch: read"
)
DOMAINS = MODEL.replace("g = _, _\n", "g = _, _, _\n").replace("g(r.sub, p.sub)", "g(r.sub, p.sub, r.dom)")
PLAIN = MODEL.replace("keyMatch(r.dom, p.dom)", '(r.dom == p.dom || p.dom == "*")')
ALLOWS = MODEL.replace(" && !some(where (p.eft == deny))", "")

subjects = st.sampled_from(
    ["role:a", "role:b", "role:c", "user:x", "user:y", "role:everyone", "role:authenticated", "role:b"]
)
namespaces = st.sampled_from(["*", "shop", "shop-1", "shop-*", "s*", "@cluster", "*", "sh*"])
methods = st.sampled_from(
    ["*", "/shop.Orders/*", "/shop.Orders/Get", "/shop.Orders/Put", "/shop.*", "/shop.Internal/*", "api:g", "/shop.O*"]
)
rules = st.tuples(
    subjects,
    namespaces,
    methods,
    st.sampled_from(["*", "read", "write", "admin"]),
    st.sampled_from(["allow", "allow", "deny"]),
)
grants = st.sampled_from([("role:a", "role:b"), ("role:b", "role:c"), ("user:x", "role:a"), ("user:y", "role:c")])
groups = st.sampled_from(["/shop.Orders/Get", "/shop.Orders/Cancel", "/shop.Internal/Reload"])
SPACES = ["shop", "shop-1", "shop-2", "sx", "shop1", "other", NOWHERE]
METHODS = [
    *(f"/shop.Orders/{name}" for name in ("Get", "List", "Put", "Cancel", "Purge", "Regions", "Fetch")),
    "/shop.Internal/Reload",
    "/shop.Internal/Other",
]
CALLERS = ["role:a", "role:b", "role:c", "role:d", "user:x", "user:y", "user:z", "role:authenticated", "role:everyone"]


@st.composite
def policies(draw: st.DrawFn, domains: bool = False) -> str:
    lines = [", ".join(("p", *rule)) for rule in draw(st.lists(rules, max_size=6, unique=True))]
    named = {line.split(", ")[1] for line in lines}
    given_ = sorted({grant for grant in draw(st.lists(grants, max_size=3)) if grant[1] in named})
    tail = [draw(st.sampled_from(["shop", "shop-1", NOWHERE])) for _ in given_] if domains else [""] * len(given_)
    lines += [", ".join(("g", *grant, *([end] if end else []))) for grant, end in zip(given_, tail, strict=True)]
    lines += [f"g2, {method}, api:g" for method in sorted({"/shop.Orders/Put", *draw(st.lists(groups, max_size=2))})]
    return "\n".join(lines) + "\n"


def told(revision: Revision, subject: str, space: str, method: str, authorizer: CasbinAuthorizer) -> Effect:
    call = Call(method, (None if space == NOWHERE else space,))
    verdict = authorizer.authorize(claims_of(subject, space), call)
    return Effect.NO_OPINION if verdict.reason is Reason.METHOD_UNKNOWN else verdict.effect


def covers(labels: tuple[str, ...], name: str, everything: set[str]) -> bool:
    """Whether one of ``labels`` is the class of ``name``: its own, else that of its longest beginning."""
    own = name if name in everything else None
    if own is None:
        beginnings = [each for each in everything if each.endswith("*") and name.startswith(each[:-1])]
        own = max(beginnings, key=len, default=None)
    return own in labels


def predicted(
    found: Difference, subject: str, space: str, method: str, classes: tuple[set[str], set[str]]
) -> list[tuple[Effect, Effect]]:
    here = [
        change
        for change in found.changes
        if covers(change.namespaces, space, classes[0]) and covers(change.methods, method, classes[1])
    ]
    own = [change for change in here if change.subject == subject]
    wide = [
        change
        for change in here
        if change.subject in ("role:everyone", "role:authenticated")
        and subject not in change.except_for
        and subject != "role:everyone"
        and not (change.subject == "role:everyone" and "role:authenticated" in change.except_for)
    ]
    return [(change.before, change.after) for change in (own or wide)]


@pytest.mark.parametrize("model", [MODEL, PLAIN, ALLOWS, DOMAINS], ids=["default", "equality", "allows", "domains"])
@settings(
    max_examples=8, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, phases=[Phase.generate]
)
@given(data=st.data())
def test_finds_exactly_the_flips_that_asking_everything_finds(tmp_path: Path, model: str, data: st.DataObject) -> None:
    from authz.admin.reach import Reach, method_classes, namespace_classes

    domains = model is DOMAINS
    catalogue = data.draw(st.sampled_from([CATALOGUE, CATALOGUE, OTHER_CATALOGUE]))
    pair = []
    for name, text, known in (
        ("old", data.draw(policies(domains)), CATALOGUE),
        ("new", data.draw(policies(domains)), catalogue),
    ):
        if model is PLAIN:
            text = "".join(
                line + "\n" for line in text.splitlines() if "-*" not in line and "s*" not in line and "sh*" not in line
            )
        if model is ALLOWS:
            # an effect that ignores denials is refused together with one
            text = "".join(line + "\n" for line in text.splitlines() if not line.endswith(", deny"))
        write_bundle(tmp_path / name, text, model=model, catalogue=known)
        try:
            pair.append(load_bundle(tmp_path / name))
        except PolicyError:
            return
    old, new = pair
    found = diff(old, new)
    reaches = Reach(old), Reach(new)
    classes = {each.label for each in namespace_classes(*reaches)}, {each.label for each in method_classes(*reaches)}
    one, other = CasbinAuthorizer(old, indexed=False), CasbinAuthorizer(new, indexed=False)
    for subject, space, method in itertools.product(CALLERS, SPACES, METHODS):
        entries = [each.catalogue.find(method) for each in pair]
        if space != NOWHERE and all(entry is None or entry.scope is Scope.CLUSTER for entry in entries):
            continue
        was, now = told(old, subject, space, method, one), told(new, subject, space, method, other)
        expected = [(was, now)] if was is not now else []
        assert predicted(found, subject, space, method, classes) == expected, (subject, space, method)


def test_each_change_has_a_call_that_both_bundles_were_asked(tmp_path: Path) -> None:
    old = load_bundle(write_bundle(tmp_path / "old"))
    more = POLICY + "p, role:auditor, shop-*, *, read, allow\np, role:reader, shop, *, *, deny\n"
    new = load_bundle(write_bundle(tmp_path / "new", more))
    found = diff(old, new)
    assert {(change.kind, change.subject, change.namespaces) for change in found.changes} == {
        (Kind.GAINED, "role:auditor", ("shop-*",)),
        (Kind.LOST, "role:reader", ("shop",)),
        (Kind.LOST, "role:writer", ("shop",)),
        (Kind.DENIED, "role:reader", ("shop",)),
        (Kind.DENIED, "role:writer", ("shop",)),
    }
    for change in found.changes:
        assert (change.example.before.effect, change.example.after.effect) == (change.before, change.after)
    assert [change.subject for change in found.new_access] == ["role:auditor"]
    assert not diff(new, new)


def test_a_method_that_only_one_catalogue_knows(tmp_path: Path) -> None:
    old = load_bundle(write_bundle(tmp_path / "old"))
    new = load_bundle(write_bundle(tmp_path / "new", catalogue=OTHER_CATALOGUE))
    gained = {(change.subject, method) for change in diff(old, new).new_access for method in change.methods}
    assert {("role:reader", "/shop.Orders/Fetch"), ("role:reader", "/shop.Orders/Regions")} <= gained


def test_where_a_request_names_its_namespaces_is_told(tmp_path: Path) -> None:
    old = load_bundle(write_bundle(tmp_path / "old"))
    catalogue = CATALOGUE.replace("Put: write", "Put: {access: write, namespaces: [namespace, target]}")
    found = diff(old, load_bundle(write_bundle(tmp_path / "new", catalogue=catalogue)))
    assert not found.changes
    assert found.catalogue == ("/shop.Orders/Put: names its namespaces in namespace, target, before in namespace",)
    assert found


def test_another_end_is_told_though_no_answer_differs_yet(tmp_path: Path) -> None:
    model = MODEL.replace("obj, act, eft\n", "obj, act, eft, until\n").rstrip() + " && validUntil(p.until)\n"
    pair = []
    for name, end in (("old", "2099-01-01T00:00:00Z"), ("new", "2098-01-01T00:00:00Z")):
        rule = f"p, role:reader, *, *, read, allow, {end}\n"
        pair.append(load_bundle(write_bundle(tmp_path / name, rule, model=model)))
    old, new = pair
    found = diff(old, new)
    assert not found.changes
    assert found.ends == ("p, role:reader, *, *, read, allow: ends 2098-01-01T00:00:00Z, before 2099-01-01T00:00:00Z",)
    later = diff(old, new, 4_060_000_000.0)
    assert {change.kind for change in later.changes} == {Kind.LOST}


def test_what_is_beyond_is_said(tmp_path: Path) -> None:
    model = MODEL.replace("keyMatch(r.dom, p.dom)", "regexMatch(r.dom, p.dom)")
    policy = "p, role:reader, ^shop$, *, read, allow\n"
    revision = load_bundle(write_bundle(tmp_path, policy, model=model))
    with pytest.raises(Beyond, match="without finite classes; `authz policy can` answers for one call at a time"):
        diff(revision, revision)
