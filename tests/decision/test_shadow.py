"""A shadow policy: what it says otherwise is in the verdict, and nothing that it does has an effect."""

from __future__ import annotations

import logging

import pytest

from authz.call import Call
from authz.claims.base import Claims
from authz.decision.base import Effect, Rule, Verdict
from authz.decision.shadow import ShadowAuthorizer
from authz.errors import EvaluationError, Place
from authz.reason import Reason
from tests.bundle import caller

CALL = Call("/shop.Orders/Get", ("acme",))
ALICE = caller()
RULE = Rule("p, role:reader, *, *, read, allow", Place("policy.csv", 1))
ALLOW = Verdict(Effect.ALLOW, Reason.ALLOWED, RULE, "first", "acme")
DENY = Verdict(Effect.DENY, Reason.DENIED_BY_RULE, RULE, "first", "acme")
NOTHING = Verdict(Effect.NO_OPINION, Reason.NO_RULE, None, "first", "acme")


class Says:
    """An authorizer with one answer."""

    def __init__(self, answer: object) -> None:
        self.answer = answer
        self.asked = 0

    def authorize(self, claims: Claims, call: Call) -> Verdict:
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer  # type: ignore[return-value]


@pytest.mark.parametrize("first", [ALLOW, DENY, NOTHING])
@pytest.mark.parametrize("other", [ALLOW, DENY, NOTHING])
def test_the_first_decides_and_the_difference_is_noted(first: Verdict, other: Verdict) -> None:
    verdict = ShadowAuthorizer(Says(first), Says(other), "second").authorize(ALICE, CALL)
    assert (verdict.effect, verdict.reason, verdict.rule, verdict.revision) == (
        first.effect,
        first.reason,
        first.rule,
        "first",
    )
    assert verdict.shadow is (None if first is other else other)


@pytest.mark.parametrize("first", [ALLOW, DENY, NOTHING])
@pytest.mark.parametrize("failure", [EvaluationError("no"), ValueError("bug"), RecursionError(), None, True])
def test_a_shadow_that_fails_is_noted_and_has_no_effect(
    first: Verdict, failure: object, caplog: pytest.LogCaptureFixture
) -> None:
    authorizer = ShadowAuthorizer(Says(first), Says(failure), "second")
    with caplog.at_level(logging.ERROR, "authz.shadow"):
        for _ in range(3):
            verdict = authorizer.authorize(ALICE, CALL)
            assert verdict.effect is first.effect
            assert verdict.shadow is not None
            assert (verdict.shadow.reason, verdict.shadow.revision) == (Reason.EVALUATION_FAILED, "second")
    assert len(caplog.records) == 1


def test_a_failure_of_the_policy_in_force_is_not_blamed_on_the_shadow() -> None:
    shadow = Says(ALLOW)
    with pytest.raises(EvaluationError):
        ShadowAuthorizer(Says(EvaluationError("no")), shadow, "second").authorize(ALICE, CALL)
    with pytest.raises(AttributeError):
        ShadowAuthorizer(Says(None), shadow, "second").authorize(ALICE, CALL)
    assert not shadow.asked
