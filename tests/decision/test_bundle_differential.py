"""Whole calls of callers with several subjects and namespaces, answered three ways: compiled, by Casbin rule by rule,
and worked out from stock enforcers, one subject and one namespace at a time."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from authz.call import Access, ApiMethod, Call, Scope
from authz.claims.base import Claims
from authz.decision import authorizer_for, index
from authz.decision.base import Effect
from authz.decision.bundle import subjects_of
from authz.decision.casbin import CasbinAuthorizer
from authz.policy.catalogue import Catalogue
from authz.policy.model import PolicyEffect
from authz.policy.revision import NOWHERE, Revision
from tests.bundle import MODEL, anonymous, caller
from tests.decision.stock import enforcer, lines_of

G = "g(r.sub, p.sub)"
MODELS = {
    "default": MODEL,
    "everybody": MODEL.replace(G, f'({G} || p.sub == "*")'),
    "patterns of subjects": MODEL.replace(G, "keyMatch(r.sub, p.sub)"),
    "no roles": MODEL.replace(G, "r.sub == p.sub"),
    "roles by namespace": MODEL.replace("g = _, _\n", "g = _, _, _\n").replace(G, "g(r.sub, p.sub, r.dom)"),
    "an alternative": MODEL.rstrip() + ' || r.sub == "role:a"\n',
    "an exception": MODEL.rstrip() + ' && r.sub != "role:b"\n',
    "no namespaces": MODEL.replace("keyMatch(r.dom, p.dom) && ", ""),
    "slow": MODEL.rstrip() + " && r.act + 'x' == r.act + 'x' && r.sub <= p.sub\n",
    "priority": MODEL.replace(PolicyEffect.ALLOW_AND_DENY.value, PolicyEffect.PRIORITY.value),
    "allow alone": MODEL.replace(PolicyEffect.ALLOW_AND_DENY.value, PolicyEffect.ALLOW_OVERRIDE.value),
}
METHODS = {
    "/s.A/Get": ApiMethod("/s.A/Get", Access.READ, Scope.NAMESPACE, ("n",)),
    "/s.A/Put": ApiMethod("/s.A/Put", Access.WRITE, Scope.NAMESPACE, ("n",)),
    "/s.B/All": ApiMethod("/s.B/All", Access.READ, Scope.CLUSTER),
    "/s.C/*": ApiMethod("/s.C/*", Access.ADMIN, Scope.NAMESPACE, ("n",)),
}
CATALOGUE = Catalogue(METHODS)
ROLES = ["a", "b", "c"]
SUBJECTS = [*(f"role:{role}" for role in [*ROLES, "everyone", "authenticated"]), "user:corp:alice", "user:corp:bob"]
NAMESPACES = ["n1", "n12", "m"]
BOTH = PolicyEffect.ALLOW_AND_DENY.value

rule = st.tuples(
    st.sampled_from([*SUBJECTS, "*", "role:*", "user:corp:*"]),
    st.sampled_from([*NAMESPACES, "n*", "n1*", "*", NOWHERE]),
    st.sampled_from(["/s.A/Get", "/s.A/Put", "/s.A/*", "*", "/s.C/X", "/s.C/*", "/s.B/All", "api:x", "api:y"]),
    st.sampled_from(["read", "write", "admin", "*"]),
    st.sampled_from(["allow", "allow", "allow", "deny"]),
)
member = st.tuples(st.sampled_from(SUBJECTS), st.sampled_from(SUBJECTS[:3])).filter(lambda pair: pair[0] < pair[1])
group = st.tuples(st.sampled_from(["/s.A/Get", "/s.C/X", "api:x"]), st.sampled_from(["api:x", "api:y"])).filter(
    lambda pair: pair[0] != pair[1]
)
roles = st.lists(st.sampled_from(ROLES), max_size=2).map(" ".join)
claims = st.one_of(
    st.builds(
        lambda system, **here: caller(*system.split(), **here),
        roles,
        user=st.sampled_from(["alice", "bob", "eve"]),
        n1=roles,
        m=roles,
    ),
    st.builds(anonymous),
)
call = st.builds(
    lambda method, namespaces: Call(method, namespaces),
    st.sampled_from(["/s.A/Get", "/s.A/Put", "/s.B/All", "/s.C/X", "/s.C/Y"]),
    st.lists(st.sampled_from([*NAMESPACES, None]), max_size=3, unique=True).map(tuple),
)


def expected(model: str, policy: str, claims: Claims, call: Call) -> Effect:
    """The answer, from stock enforcers that know one effect each."""
    allows = enforcer(model.replace(BOTH, PolicyEffect.ALLOW_OVERRIDE.value), policy)
    denies = enforcer(model.replace(BOTH, PolicyEffect.DENY_OVERRIDE.value), policy)
    api = CATALOGUE.find(call.method)
    assert api is not None
    namespaces = (None,) if api.scope is Scope.CLUSTER else call.namespaces or (None,)
    answers = set()
    for namespace in namespaces:
        requests = [
            (subject, namespace or NOWHERE, call.method, api.access.value) for subject in subjects_of(claims, namespace)
        ]
        if not all(denies.enforce(*request) for request in requests):
            answers.add(Effect.DENY)
        else:
            allowed = any(allows.enforce(*request) for request in requests)
            answers.add(Effect.ALLOW if allowed else Effect.NO_OPINION)
    return next(effect for effect in (Effect.DENY, Effect.NO_OPINION, Effect.ALLOW) if effect in answers)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("few", [index._FEW, 1])
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(
    st.lists(rule, min_size=1, max_size=10),
    st.lists(member, max_size=4),
    st.lists(group, max_size=3),
    st.lists(st.tuples(claims, call), min_size=1, max_size=12),
)
def test_several_ways_to_one_answer(
    model: str,
    few: int,
    monkeypatch: pytest.MonkeyPatch,
    rules: list[tuple[str, ...]],
    members: list[tuple[str, str]],
    groups: list[tuple[str, str]],
    asked: list[tuple[Claims, Call]],
) -> None:
    monkeypatch.setattr(index, "_FEW", few)
    text = MODELS[model]
    domain = ", n1" if "g = _, _, _" in text else ""
    lines = [f"p, {', '.join(each)}" for each in rules]
    lines += [f"g, {', '.join(each)}{domain}" for each in members] + [f"g2, {', '.join(each)}" for each in groups]
    policy = "\n".join(dict.fromkeys(lines))
    revision = Revision("0" * 64, Path("bundle"), text, lines_of(policy), CATALOGUE)
    fast, indexed, plain = (
        authorizer_for(revision),
        CasbinAuthorizer(revision),
        CasbinAuthorizer(revision, indexed=False),
    )
    assert isinstance(fast, CasbinAuthorizer) == (model == "slow") == bool(fast.slow)
    for caller_claims, one_call in asked:
        answer = plain.authorize(caller_claims, one_call)
        if BOTH in text:
            assert answer.effect is expected(text, policy, caller_claims, one_call)
        assert indexed.authorize(caller_claims, one_call) == answer
        for _ in range(2):
            again = fast.authorize(caller_claims, one_call)
            assert (again.effect, again.rule) == (answer.effect, answer.rule)
            assert (again.rule is None) == (again.effect is Effect.NO_OPINION)
