"""UnionAuthorizer: several authorizers that decide together: any deny wins, else any allow.

A method that the catalogue does not know, and a request of which the namespaces cannot be read, are refused by the
bundle before anyone else is asked: no plugin can let them in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from authz.call import Call
from authz.claims.base import Claims
from authz.decision.base import Authorizer, Effect, Rule, Verdict
from authz.errors import EvaluationError, Place
from authz.reason import Reason

_BY_THE_CALL: Final = frozenset(
    {Reason.METHOD_UNKNOWN, Reason.METHOD_MALFORMED, Reason.NAMESPACE_UNREADABLE, Reason.NAMESPACE_MALFORMED}
)


class UnionAuthorizer:
    """Decides by a policy bundle and by further authorizers.

    A call that names several namespaces is decided for one after the other, so that an authorizer is never asked about
    more than one, and the call needs an allow in each.

    Args:
        bundle: decides by the rules of a bundle. Its refusals of what is no call of the catalogue always count.
        others: asked in their order.
        revision: SHA-256 of the bundle (hex), which every verdict carries.
        ignore_rules: the bundle's rules say nothing: only ``others`` allow and deny.
    """

    def __init__(
        self, bundle: Authorizer, others: Sequence[Authorizer], revision: str, *, ignore_rules: bool = False
    ) -> None:
        if not others:
            raise ValueError("a union needs another authorizer beside the bundle")
        self._bundle = bundle
        self._others = tuple(others)
        self._revision = revision
        self._ignore_rules = ignore_rules

    @property
    def caches(self) -> Mapping[str, Any]:
        """What the policy in force remembers, for metrics."""
        found: Mapping[str, Any] = getattr(self._bundle, "caches", {})
        return found

    def authorize(self, claims: Claims, call: Call) -> Verdict:
        """See :class:`authz.decision.base.Authorizer`."""
        first = self._bundle.authorize(claims, call)
        if first.reason in _BY_THE_CALL or (first.effect is Effect.DENY and not self._ignore_rules):
            return first
        if len(call.namespaces) < 2:
            return self._one(claims, call, first)
        verdicts: list[Verdict] = []
        for namespace in call.namespaces:
            verdict = self._one(claims, call._replace(namespaces=(namespace,)), None).among_others(namespace)
            if verdict.effect is Effect.DENY:
                return verdict
            verdicts.append(verdict)
        return next((verdict for verdict in verdicts if verdict.effect is not Effect.ALLOW), verdicts[0])

    def _one(self, claims: Claims, call: Call, first: Verdict | None) -> Verdict:
        """The verdict on a call in at most one namespace; ``first``: what the bundle says, if it was asked."""
        verdicts: list[Verdict] = []
        if not self._ignore_rules:
            verdicts.append(first or self._bundle.authorize(claims, call))
        for other in self._others:
            verdict = self._ask(other, claims, call)
            if verdict.effect is Effect.DENY:
                return verdict
            verdicts.append(verdict)
        return next((verdict for verdict in verdicts if verdict.effect is Effect.ALLOW), verdicts[0])

    def _ask(self, other: Authorizer, claims: Claims, call: Call) -> Verdict:
        name = type(other).__name__
        try:
            verdict = other.authorize(claims, call)
        except EvaluationError:
            raise
        except Exception as exc:
            raise EvaluationError(f"the authorizer {name}: {type(exc).__name__}: {exc}") from exc
        # what is no verdict, or says one thing and means another, is a fault and never an allow
        if not _is_whole(verdict):
            raise EvaluationError(f"the authorizer {name} answered with {verdict!r}, not a Verdict with a Reason")
        if (verdict.effect is Effect.ALLOW) is not (verdict.reason is Reason.ALLOWED):
            raise EvaluationError(
                f"the authorizer {name} says {verdict.effect.value}, with the reason {verdict.reason!r}"
            )
        return verdict._replace(revision=self._revision, shadow=None)


def _is_whole(verdict: object) -> bool:
    return (
        isinstance(verdict, Verdict)
        and isinstance(verdict.effect, Effect)
        and isinstance(verdict.reason, Reason)
        and isinstance(verdict.detail, str)
        and (verdict.rule is None or _is_whole_rule(verdict.rule))
    )


def _is_whole_rule(rule: object) -> bool:
    """Whether ``rule`` can be recorded: a record that cannot be written would be a decision without one."""
    return (
        isinstance(rule, Rule)
        and isinstance(rule.text, str)
        and rule.text.isprintable()
        and isinstance(rule.place, Place)
        and str(rule).isprintable()
        and isinstance(rule.chain, tuple)
        and all(isinstance(name, str) and name.isprintable() for name in rule.chain)
    )
