"""What every authorizer answers, whichever way it looks the rules up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from authz.authn.base import ANONYMOUS
from authz.call import Call
from authz.claims.base import Claims
from authz.decision import authorizer_for
from authz.decision.base import Effect, Verdict
from authz.decision.bundle import BundleAuthorizer
from authz.decision.casbin import CasbinAuthorizer
from authz.decision.compiled import CompiledAuthorizer
from authz.errors import EvaluationError
from authz.policy.load import load_bundle
from authz.policy.revision import Revision
from authz.reason import Reason
from tests.bundle import MODEL, anonymous, caller, write_bundle

Build = Callable[[Revision], BundleAuthorizer]


def every_rule(revision: Revision) -> BundleAuthorizer:
    return CasbinAuthorizer(revision, indexed=False)


BUILDS: list[Build] = [authorizer_for, CompiledAuthorizer, CasbinAuthorizer, every_rule]

POLICY = """\
# who may do what
p, role:reader, *, *, read, allow
p, role:writer, *, *, write, allow
p, role:admin, *, *, admin, allow
g, role:admin, role:writer
g, role:writer, role:reader
p, role:canceller, *, api:cancel, *, allow
g2, /shop.Orders/Cancel, api:stop
g2, api:stop, api:cancel
p, role:auditor, billing-*, *, read, allow
p, role:cluster-reader, @cluster, *, read, allow
p, role:everyone, frozen-*, api:cancel, *, deny
p, user:corp:mallory, *, *, *, deny
p, role:everyone, open, /shop.Orders/List, read, allow
p, role:authenticated, half-open, /shop.Orders/Li*, read, allow
g, user:corp:carol, role:admin
"""

GET, LIST, PUT, CANCEL = (f"/shop.Orders/{name}" for name in ("Get", "List", "Put", "Cancel"))
PURGE, REGIONS, INTERNAL = "/shop.Orders/Purge", "/shop.Orders/Regions", "/shop.Internal/Anything"

CASES: list[tuple[str, Claims, Call, Effect, int]] = [
    # what it shows, who, what, the answer, and the line that decided (0: none)
    ("a system-wide role", caller("reader"), Call(GET, ("a",)), Effect.ALLOW, 2),
    ("is for its access alone", caller("reader"), Call(PUT, ("a",)), Effect.NO_OPINION, 0),
    ("inherited", caller("writer"), Call(GET, ("a",)), Effect.ALLOW, 2),
    ("inherited from afar", caller("admin"), Call(GET, ("a",)), Effect.ALLOW, 2),
    ("never the other way round", caller("writer"), Call(PURGE, ("a",)), Effect.NO_OPINION, 0),
    ("a role in a namespace", caller(a="reader"), Call(GET, ("a",)), Effect.ALLOW, 2),
    ("not in another", caller(a="reader"), Call(GET, ("b",)), Effect.NO_OPINION, 0),
    ("not outside every namespace", caller(a="reader"), Call(GET), Effect.NO_OPINION, 0),
    ("a system-wide role outside every namespace", caller("reader"), Call(GET, (None,)), Effect.ALLOW, 2),
    ("a cluster method", caller("cluster-reader"), Call(REGIONS), Effect.ALLOW, 11),
    ("ignores namespaces", caller("cluster-reader"), Call(REGIONS, ("a", "?")), Effect.ALLOW, 11),
    ("ignores roles in namespaces", caller(a="reader"), Call(REGIONS, ("a",)), Effect.NO_OPINION, 0),
    ("every namespace allowed", caller(a="reader", b="reader"), Call(GET, ("a", "b")), Effect.ALLOW, 2),
    ("one namespace not", caller(a="reader"), Call(GET, ("a", "b")), Effect.NO_OPINION, 0),
    ("one namespace denied", caller(a="writer"), Call(CANCEL, ("a", "b", "frozen-1")), Effect.DENY, 12),
    ("a group in a group", caller("canceller"), Call(CANCEL, ("a",)), Effect.ALLOW, 7),
    ("and nothing else", caller("canceller"), Call(PUT, ("a",)), Effect.NO_OPINION, 0),
    ("a namespace that begins so", caller("auditor"), Call(GET, ("billing-7",)), Effect.ALLOW, 10),
    ("a namespace that only ends so", caller("auditor"), Call(GET, ("x-billing-7",)), Effect.NO_OPINION, 0),
    ("a namespace one letter short", caller("auditor"), Call(GET, ("billing",)), Effect.NO_OPINION, 0),
    ("a denial beats an allow", caller("admin"), Call(CANCEL, ("frozen-1",)), Effect.DENY, 12),
    ("a denied user", caller("admin", user="mallory"), Call(GET, ("a",)), Effect.DENY, 13),
    ("a user with a role by policy", caller(user="carol"), Call(PURGE, ("a",)), Effect.ALLOW, 4),
    ("everyone", caller(), Call(LIST, ("open",)), Effect.ALLOW, 14),
    ("also the unproven", anonymous(), Call(LIST, ("open",)), Effect.ALLOW, 14),
    ("authenticated", caller(), Call(LIST, ("half-open",)), Effect.ALLOW, 15),
    ("not the unproven", anonymous(), Call(LIST, ("half-open",)), Effect.NO_OPINION, 0),
    ("a whole service", caller("admin"), Call(INTERNAL), Effect.ALLOW, 4),
    ("a name is no role", caller(user="admin"), Call(GET, ("a",)), Effect.NO_OPINION, 0),
    ("no namespace is the star", caller("auditor"), Call(GET, ("billing-",)), Effect.ALLOW, 10),
]


@pytest.fixture(scope="module")
def revision(tmp_path_factory: pytest.TempPathFactory) -> Revision:
    return load_bundle(write_bundle(tmp_path_factory.mktemp("bundles") / "b", POLICY))


@pytest.fixture(params=BUILDS, ids=lambda build: build.__name__)
def authorizer(request: pytest.FixtureRequest, revision: Revision) -> BundleAuthorizer:
    build: Build = request.param
    return build(revision)


@pytest.mark.parametrize(("claims", "call", "effect", "line"), [case[1:] for case in CASES], ids=[c[0] for c in CASES])
def test_answers(authorizer: BundleAuthorizer, claims: Claims, call: Call, effect: Effect, line: int) -> None:
    for _ in range(3):
        verdict = authorizer.authorize(claims, call)
        assert verdict.effect is effect
        assert (verdict.rule.place.line if verdict.rule else 0) == line
        assert verdict.revision == authorizer.revision.id
        assert (
            verdict.reason
            is {
                Effect.ALLOW: Reason.ALLOWED,
                Effect.DENY: Reason.DENIED_BY_RULE,
                Effect.NO_OPINION: Reason.NO_RULE,
            }[effect]
        )


REFUSALS = [
    (Call(GET, ("a",), unreadable="the request has two"), Reason.NAMESPACE_UNREADABLE, "the request has two"),
    (Call("/shop.Orders/Gett", ("a",)), Reason.METHOD_UNKNOWN, "/shop.Orders/Gett"),
    (Call("/shop.Orders/*", ("a",)), Reason.METHOD_MALFORMED, "not '/shop.Orders/*'"),
    (Call("shop.Orders/Get", ("a",)), Reason.METHOD_MALFORMED, "not 'shop.Orders/Get'"),
    (Call("/shop.Internal/*"), Reason.METHOD_MALFORMED, "not '/shop.Internal/*'"),
    (Call("", ("a",)), Reason.METHOD_MALFORMED, "not ''"),
    (Call(GET, ("*",)), Reason.NAMESPACE_MALFORMED, "not '*'"),
    (Call(GET, ("",)), Reason.NAMESPACE_MALFORMED, "not ''"),
    (Call(GET, ("a", "@cluster")), Reason.NAMESPACE_MALFORMED, "not '@cluster'"),
    (Call(GET, ("a\n" * 99,)), Reason.NAMESPACE_MALFORMED, "a\\n...'"),
]


@pytest.mark.parametrize(("call", "reason", "detail"), REFUSALS)
def test_refusals(authorizer: BundleAuthorizer, call: Call, reason: Reason, detail: str) -> None:
    for claims in (caller("admin"), anonymous(), caller("admin")):
        verdict = authorizer.authorize(claims, call)
        assert (verdict.effect, verdict.reason, verdict.rule) == (Effect.DENY, reason, None)
        assert detail in verdict.detail


@pytest.mark.parametrize("namespaces", [(), ("a",)])
def test_what_was_decided_of_a_readable_call_says_nothing_of_an_unreadable_one(
    authorizer: BundleAuthorizer, namespaces: tuple[str, ...]
) -> None:
    claims = caller("admin")
    readable, unreadable = Call(GET, namespaces), Call(GET, namespaces, unreadable="cut short")
    for _ in range(2):
        assert authorizer.authorize(claims, readable).effect is Effect.ALLOW
        assert authorizer.authorize(claims, unreadable).reason is Reason.NAMESPACE_UNREADABLE


def test_the_rule_that_decided(authorizer: BundleAuthorizer) -> None:
    rule = authorizer.authorize(caller("admin"), Call(GET, ("a",))).rule
    assert rule is not None
    assert rule.text == "p, role:reader, *, *, read, allow"
    assert rule.chain == ("role:admin", "role:writer", "role:reader")
    rule = authorizer.authorize(caller(user="carol"), Call(PURGE, ("a",))).rule
    assert rule is not None
    assert rule.chain == ("user:corp:carol", "role:admin")


def test_the_namespace_that_decided(authorizer: BundleAuthorizer) -> None:
    def decided(claims: Claims, *namespaces: str | None) -> Verdict:
        return authorizer.authorize(claims, Call(CANCEL, namespaces))

    assert decided(caller("writer"), "a", "b").detail == ""
    assert decided(caller(a="writer"), "a", "b", "c").detail.startswith("in b")
    assert decided(caller(a="writer"), "a", None).detail.startswith("outside every namespace")
    assert decided(caller("writer"), "a", "frozen-1", "b").detail == "in frozen-1"
    assert not decided(caller(a="writer"), "b").detail.startswith("in b")


def test_a_failure_is_never_an_answer(authorizer: BundleAuthorizer) -> None:
    for call in (Call(GET, (7,)), Call(GET, 7), Call(7), Call(None), None):  # type: ignore[arg-type]
        with pytest.raises(EvaluationError):
            authorizer.authorize(caller("admin"), call)  # type: ignore[arg-type]
    with pytest.raises(EvaluationError):
        authorizer.authorize(None, Call(GET, ("a",)))  # type: ignore[arg-type]


OTHER_MODELS = [
    # another model, a policy for it, and who is allowed to do what
    (
        MODEL.replace("_, _\n", "_, _, _\n", 1).replace("g(r.sub, p.sub)", "g(r.sub, p.sub, r.dom)"),
        "p, role:a, *, *, *, allow\ng, user:corp:alice, role:a, n1\ng, role:b, role:a, n2\n",
        [(caller(), "n1", True), (caller(), "n2", False), (caller("b"), "n2", True), (caller("b"), "n3", False)],
    ),
    (
        MODEL.replace("r = sub, dom, obj, act", "r = act, sub").replace("sub, dom, obj, act, eft", "act, sub, eft")
        + "# \n",
        "p, read, role:a, allow\n",
        [(caller("a"), "n1", True), (caller("b"), "n1", False)],
    ),
    (
        MODEL.replace("some(where (p.eft == allow)) && !some(where (p.eft == deny))", "priority(p.eft) || deny"),
        "p, user:corp:alice, *, *, *, allow\np, role:a, *, *, *, deny\np, role:a, n2, *, *, allow\n",
        [(caller("a"), "n1", True), (caller("a", user="bob"), "n2", False), (caller(), "n2", True)],
    ),
]


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize(("model", "policy", "cases"), OTHER_MODELS, ids=["domains", "another order", "priority"])
def test_other_models(
    tmp_path: Path, build: Build, model: str, policy: str, cases: list[tuple[Claims, str, bool]]
) -> None:
    if "r = act, sub" in model:
        model = model[: model.index("m = ")] + "m = g(r.sub, p.sub) && r.act == p.act\n"
    authorizer = build(load_bundle(write_bundle(tmp_path / "b", policy, model=model)))
    for claims, namespace, allowed in cases:
        assert bool(authorizer.authorize(claims, Call(GET, (namespace,))).effect) is allowed


INHERITED = """\
p, role:reader, *, *, read, allow
p, role:writer, *, *, write, allow
p, role:both, *, *, admin, allow
g, role:everyone, role:reader
g, role:authenticated, role:writer
g, role:everyone, role:both
g, role:authenticated, role:both
g, user:corp:dora, role:reader
"""


@pytest.mark.parametrize("build", BUILDS)
def test_what_everybody_inherits(tmp_path: Path, build: Build) -> None:
    authorizer = build(load_bundle(write_bundle(tmp_path / "b", INHERITED)))

    def chain(claims: Claims, method: str) -> tuple[str, ...]:
        rule = authorizer.authorize(claims, Call(method, ("a",))).rule
        return rule.chain if rule else ()

    for user in ("alice", "dora"):
        assert chain(caller("other", user=user), PUT) == ("role:authenticated", "role:writer")
        assert chain(caller("other", user=user), PURGE) == ("role:authenticated", "role:both")
        assert chain(caller("reader", user=user), GET) == ("role:reader",)
    assert chain(caller(), GET) == ("role:everyone", "role:reader")
    assert chain(caller(user="dora"), GET) == ("user:corp:dora", "role:reader")
    assert chain(anonymous(), GET) == ("role:everyone", "role:reader")
    assert chain(anonymous(), PUT) == ()
    assert chain(anonymous(), PURGE) == ("role:everyone", "role:both")
    assert chain(Claims(ANONYMOUS, frozenset({"writer", "reader"})), PUT) == ("role:writer",)


@pytest.mark.parametrize("build", BUILDS)
def test_rules_that_name_no_subject(tmp_path: Path, build: Build) -> None:
    model = MODEL.replace("p = sub, dom", "p = dom").replace("g(r.sub, p.sub)", 'g(r.sub, "role:reader")')
    authorizer = build(load_bundle(write_bundle(tmp_path / "b", "p, *, *, read, allow", model=model)))
    rule = authorizer.authorize(caller("reader"), Call(GET, ("a",))).rule
    assert rule is not None
    assert rule.chain == ("role:reader",)
    assert not authorizer.authorize(caller("writer"), Call(GET, ("a",))).effect


@pytest.mark.parametrize("build", BUILDS)
def test_lines_from_anywhere(revision: Revision, build: Build) -> None:
    authorizer = build(replace(revision, lines=tuple(revision.lines)))
    assert authorizer.authorize(caller("reader"), Call(GET, ("a",))).effect is Effect.ALLOW
