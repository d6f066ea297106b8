"""Several authorizers: any deny wins, else any allow; and no plugin lets in what the catalogue does not know."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from authz.call import Call
from authz.claims.base import Claims
from authz.decision import authorizer_for
from authz.decision.base import Effect, Rule, Verdict
from authz.decision.bundle import BundleAuthorizer
from authz.decision.union import UnionAuthorizer
from authz.errors import EvaluationError, Place
from authz.policy.load import load_bundle
from authz.reason import Reason
from tests.bundle import POLICY, caller, write_bundle

ALLOW = Verdict(Effect.ALLOW, Reason.ALLOWED, Rule("on call", Place("plugin")))
DENY = Verdict(Effect.DENY, Reason.DENIED_BY_RULE)
NOTHING = Verdict(Effect.NO_OPINION, Reason.NO_RULE)
BY_NAME = {"allow": ALLOW, "deny": DENY, "nothing": NOTHING}
ALICE = caller(acme="reader")


class Plugin:
    """Says what a function of the call says, and notes what it was asked."""

    def __init__(self, answer: Callable[[Call], object]) -> None:
        self.answer = answer
        self.asked: list[Call] = []

    def authorize(self, claims: Claims, call: Call) -> Verdict:
        self.asked.append(call)
        answer = self.answer(call)
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[return-value]


def says(answer: object) -> Plugin:
    return Plugin(lambda call: answer)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> BundleAuthorizer:
    policy = POLICY + "p, role:everyone, frozen, *, *, deny\n"
    return authorizer_for(load_bundle(write_bundle(tmp_path_factory.mktemp("bundle"), policy)))


RULES = {"allow": Call("/shop.Orders/Get", ("acme",)), "deny": Call("/shop.Orders/Get", ("frozen",)),
         "nothing": Call("/shop.Orders/Put", ("acme",))}  # fmt: skip
TABLE = [
    ("allow", ["nothing"], "allow"),
    ("allow", ["deny"], "deny"),
    ("allow", ["allow", "deny"], "deny"),
    ("nothing", ["allow"], "allow"),
    ("nothing", ["nothing", "allow"], "allow"),
    ("nothing", ["nothing", "nothing"], "no_opinion"),
    ("nothing", ["allow", "deny"], "deny"),
    ("deny", ["allow"], "deny"),
    ("deny", ["allow", "allow"], "deny"),
]


@pytest.mark.parametrize(("rules", "plugins", "expected"), TABLE)
def test_any_deny_wins_else_any_allow(bundle: BundleAuthorizer, rules: str, plugins: list[str], expected: str) -> None:
    union = UnionAuthorizer(bundle, [says(BY_NAME[name]) for name in plugins], bundle.revision.id)
    verdict = union.authorize(ALICE, RULES[rules])
    assert verdict.effect.value == expected
    assert verdict.revision == bundle.revision.id


ALONE = [("deny", ["allow"], "allow"), ("allow", ["nothing"], "no_opinion"), ("allow", ["deny", "allow"], "deny")]


@pytest.mark.parametrize(("rules", "plugins", "expected"), ALONE)
def test_where_rules_are_ignored_only_plugins_decide(
    bundle: BundleAuthorizer, rules: str, plugins: list[str], expected: str
) -> None:
    others = [says(BY_NAME[name]) for name in plugins]
    union = UnionAuthorizer(bundle, others, bundle.revision.id, ignore_rules=True)
    assert union.authorize(ALICE, RULES[rules]).effect.value == expected


UNKNOWN = [
    (Call("/shop.Orders/Steal", ("acme",)), Reason.METHOD_UNKNOWN),
    (Call("shop.Orders/Get", ("acme",)), Reason.METHOD_MALFORMED),
    (Call("/shop.Orders/Get", ("*",)), Reason.NAMESPACE_MALFORMED),
    (Call("/shop.Orders/Get", ("acme", "")), Reason.NAMESPACE_MALFORMED),
    (Call("/shop.Orders/Get", (), "no such field"), Reason.NAMESPACE_UNREADABLE),
]


@pytest.mark.parametrize("ignore_rules", [False, True])
@pytest.mark.parametrize(("call", "reason"), UNKNOWN)
def test_no_plugin_lets_in_what_the_catalogue_does_not_know(
    bundle: BundleAuthorizer, call: Call, reason: Reason, ignore_rules: bool
) -> None:
    plugin = says(ALLOW)
    union = UnionAuthorizer(bundle, [plugin], bundle.revision.id, ignore_rules=ignore_rules)
    verdict = union.authorize(ALICE, call)
    assert (verdict.effect, verdict.reason) == (Effect.DENY, reason)
    assert not plugin.asked


@pytest.mark.parametrize("ignore_rules", [False, True])
def test_each_namespace_needs_an_allow_of_its_own(bundle: BundleAuthorizer, ignore_rules: bool) -> None:
    plugin = Plugin(lambda call: ALLOW if call.namespaces == ("globex",) else NOTHING)
    union = UnionAuthorizer(bundle, [plugin], bundle.revision.id, ignore_rules=ignore_rules)
    both = union.authorize(ALICE, Call("/shop.Orders/Get", ("acme", "globex")))
    assert both.effect is (Effect.NO_OPINION if ignore_rules else Effect.ALLOW)
    assert union.authorize(ALICE, Call("/shop.Orders/Get", ("globex", None))).effect is Effect.NO_OPINION
    assert all(len(call.namespaces) == 1 for call in plugin.asked)


def test_a_deny_in_one_namespace_refuses_the_call(bundle: BundleAuthorizer) -> None:
    plugin = Plugin(lambda call: DENY if call.namespaces == ("globex",) else ALLOW)
    union = UnionAuthorizer(bundle, [plugin], bundle.revision.id)
    verdict = union.authorize(ALICE, Call("/shop.Orders/Get", ("acme", "globex")))
    assert verdict.effect is Effect.DENY
    assert verdict.detail.startswith("in globex")


NO_VERDICTS = [
    True, None, "allow", Effect.ALLOW, EvaluationError("no answer"), ValueError("bug"), RecursionError(),
    Verdict(Effect.ALLOW, Reason.NO_RULE), Verdict(Effect.DENY, Reason.ALLOWED),
    Verdict(True, Reason.ALLOWED), Verdict(Effect.DENY, "because"),  # type: ignore[arg-type]
    Verdict(Effect.DENY, Reason.NO_RULE, detail=3), Verdict(Effect.ALLOW, Reason.ALLOWED, "rule"),  # type: ignore[arg-type]
    Verdict(Effect.DENY, Reason.NO_RULE, Rule("a\ud800b", Place("plugin"))),
    Verdict(Effect.DENY, Reason.NO_RULE, Rule("a\nb", Place("plugin"))),
    Verdict(Effect.DENY, Reason.NO_RULE, Rule("a", Place("\x1b[2J"))),
    Verdict(Effect.DENY, Reason.NO_RULE, Rule("a", "plugin")),  # type: ignore[arg-type]
    Verdict(Effect.DENY, Reason.NO_RULE, Rule("a", Place("plugin"), ("\ud800",))),
    Verdict(Effect.DENY, Reason.NO_RULE, Rule("a", Place("plugin"), ["role:a"])),  # type: ignore[arg-type]
]  # fmt: skip


@pytest.mark.parametrize("answer", NO_VERDICTS, ids=repr)
def test_what_is_no_verdict_is_a_failure_also_beside_an_allow(bundle: BundleAuthorizer, answer: object) -> None:
    union = UnionAuthorizer(bundle, [says(ALLOW), says(answer)], bundle.revision.id)
    with pytest.raises(EvaluationError):
        union.authorize(ALICE, RULES["allow"])


def test_a_plugin_cannot_speak_for_the_shadow(bundle: BundleAuthorizer) -> None:
    union = UnionAuthorizer(bundle, [says(ALLOW._replace(shadow=DENY))], bundle.revision.id)
    assert union.authorize(ALICE, RULES["nothing"]).shadow is None


def test_the_allow_names_the_rule_that_gave_it(bundle: BundleAuthorizer) -> None:
    union = UnionAuthorizer(bundle, [says(ALLOW)], bundle.revision.id)
    by_plugin = union.authorize(ALICE, RULES["nothing"])
    assert by_plugin.rule is ALLOW.rule
    by_rules = union.authorize(ALICE, RULES["allow"])
    assert by_rules.rule is not None
    assert by_rules.rule.text == "p, role:reader, *, *, read, allow"


def test_a_union_of_one_is_no_union(bundle: BundleAuthorizer) -> None:
    with pytest.raises(ValueError, match="another authorizer"):
        UnionAuthorizer(bundle, [], bundle.revision.id)
