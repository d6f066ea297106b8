"""BundleAuthorizer: what every authorizer of a policy bundle has in common: from claims and a call to single questions.

A question is about one namespace: do the rules allow one of these subjects this method here? The way from a call to its
questions, and from their answers to one verdict, is the same however the rules are looked up.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Final

from authz.authn.base import PrincipalKind
from authz.call import METHOD_RULE, NAMESPACE_RULE, ApiMethod, Call, Scope, is_method, is_namespace
from authz.claims.base import AUTHENTICATED, EVERYONE, Claims
from authz.decision.base import Effect, Rule, Verdict
from authz.decision.rules import ALLOW, DENY, NEITHER, Rules
from authz.errors import EvaluationError, Problem
from authz.policy.lines import PolicyLines
from authz.policy.load import MODEL
from authz.policy.matcher import parse_matcher, uses
from authz.policy.model import read_model
from authz.policy.revision import NOWHERE, Revision
from authz.reason import Reason

EFFECTS: Final = {ALLOW: Effect.ALLOW, DENY: Effect.DENY, NEITHER: Effect.NO_OPINION}
_REASONS: Final = {
    Effect.ALLOW: Reason.ALLOWED,
    Effect.DENY: Reason.DENIED_BY_RULE,
    Effect.NO_OPINION: Reason.NO_RULE,
}
_SHOWN: Final = 80


def subjects_of(claims: Claims, namespace: str | None) -> tuple[str, ...]:
    """Who the caller is to the policy, in ``namespace``; None: outside every namespace."""
    roles = claims.system
    if namespace is not None:
        roles = roles | claims.namespaces.get(namespace, frozenset())
    subjects = [f"role:{role}" for role in sorted(roles)]
    if claims.principal.kind is not PrincipalKind.ANONYMOUS:
        subjects.insert(0, claims.principal.id)
        subjects.append(f"role:{AUTHENTICATED}")
    subjects.append(f"role:{EVERYONE}")
    return tuple(subjects)


class BundleAuthorizer(ABC):
    """Decides calls by one revision of a policy bundle.

    Attributes:
        revision: the revision.
        slow: why its rules are evaluated by Casbin one by one, with the place in the model; empty: they are not.
    """

    slow: tuple[Problem, ...] = ()

    def __init__(self, revision: Revision) -> None:
        """
        Raises:
            PolicyError: the revision's model cannot be evaluated.
        """
        self.revision = revision
        self._find = revision.catalogue.find
        lines = revision.lines
        self._model = read_model(revision.model, str(revision.path / MODEL))
        rows = lines.take_rows() if isinstance(lines, PolicyLines) else ([line.ptype, *line.fields] for line in lines)
        self._rules = Rules(self._model, rows, owned=True)
        tree = parse_matcher(self._model)
        self._subject_roles = [roles for key, roles in self._rules.roles.items() if uses(tree, key, "r_sub", "p_sub")]
        names = self._model.policies["p"]
        self._subject_field = names.index("sub") if "sub" in names else -1

    def authorize(self, claims: Claims, call: Call) -> Verdict:
        """Whether the caller with ``claims`` may make ``call``, in every namespace that it names.

        Raises:
            EvaluationError: it could not be decided.
        """
        try:
            return self._verdict(claims, call)
        except EvaluationError:
            raise
        except Exception as exc:
            raise EvaluationError(f"revision {self.revision.id[:12]}: {type(exc).__name__}: {exc}") from exc

    def _verdict(self, claims: Claims, call: Call) -> Verdict:
        if call.unreadable is not None:
            return self._refusal(Reason.NAMESPACE_UNREADABLE, call.unreadable)
        api = self._find(call.method)
        if api is None:
            if not is_method(call.method):
                return self._refusal(Reason.METHOD_MALFORMED, f"a method is {METHOD_RULE}, not {_shown(call.method)}")
            return self._refusal(Reason.METHOD_UNKNOWN, f"the API catalogue does not know {call.method}")
        if api.scope is Scope.CLUSTER:
            return self._ask(claims, call.method, api, None)
        for namespace in call.namespaces:
            if namespace is not None and not is_namespace(namespace):
                return self._refusal(
                    Reason.NAMESPACE_MALFORMED, f"a namespace is {NAMESPACE_RULE}, not {_shown(namespace)}"
                )
        return self._all(claims, call.method, api, call.namespaces or (None,))

    def _all(self, claims: Claims, method: str, api: ApiMethod, namespaces: Sequence[str | None]) -> Verdict:
        """One verdict for several namespaces: a denial anywhere, else the first that is not allowed, else the first."""
        decided, where = self._ask(claims, method, api, namespaces[0]), namespaces[0]
        if len(namespaces) == 1:
            return decided
        for namespace in namespaces[1:]:
            if decided.effect is Effect.DENY:
                break
            verdict = self._ask(claims, method, api, namespace)
            if verdict.effect is Effect.DENY or (decided.effect is Effect.ALLOW and verdict.effect is not Effect.ALLOW):
                decided, where = verdict, namespace
        return decided.among_others(where)

    def _refusal(self, reason: Reason, detail: str) -> Verdict:
        return Verdict(Effect.DENY, reason, None, self.revision.id, detail)

    def _answer(self, effect: Effect, rule: Rule | None, detail: str = "") -> Verdict:
        return Verdict(effect, _REASONS[effect], rule, self.revision.id, detail)

    def _rule(self, line: int, subjects: Sequence[str], matched: str, domain: str) -> Rule:
        """The rule on ``line``, which matched for ``matched``, and the way to it from one of ``subjects``."""
        lines = self.revision.lines
        text, place = lines.written(line) if isinstance(lines, PolicyLines) else (lines[line].text, lines[line].place)
        chain: tuple[str, ...] = ()
        if self._subject_field >= 0:
            role = text.split(", ")[self._subject_field + 1]
            if role in subjects:
                return Rule(text, place, (role,))
            for roles in self._subject_roles:
                for subject in subjects:
                    chain = chain or roles.chain(subject, role, domain if roles.domains else "")
        return Rule(text, place, chain or (matched,))

    @abstractmethod
    def _ask(self, claims: Claims, method: str, api: ApiMethod, namespace: str | None) -> Verdict:
        """The answer to one question."""


def request_values(namespace: str | None, method: str, api: ApiMethod) -> dict[str, str]:
    """What a question asks, by the names of a bundle's request; ``sub`` is for the caller's subjects, one by one."""
    return {"sub": "", "dom": NOWHERE if namespace is None else namespace, "obj": method, "act": api.access.value}


def _shown(text: str) -> str:
    return ascii(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")
