"""CompiledAuthorizer: decides by an index of the policy, and remembers what it decided.

A call decided before is one look-up. One not decided before leads to its place in the index: the rules for its
namespace by subject, and the keys that rules for its method have; the caller's subjects are looked up there. What is
remembered is bounded, and reading it takes no lock.
"""

from __future__ import annotations

from typing import Final

from authz.authn.base import PrincipalKind
from authz.call import ApiMethod, Call
from authz.claims.base import AUTHENTICATED, EVERYONE, Claims
from authz.decision.base import Effect, Verdict
from authz.decision.bundle import EFFECTS, BundleAuthorizer, request_values, subjects_of
from authz.decision.index import Index, Inner
from authz.decision.memory import Memory
from authz.decision.near import NearMisses
from authz.decision.rules import resolve
from authz.decision.selector import NotCompilable
from authz.errors import EvaluationError
from authz.policy.revision import Revision
from authz.reason import Reason

LIMIT: Final = 16_384
"""How many decisions, callers and places are each remembered, in each of two generations."""

_NAMESPACES_LIMIT: Final = 4
_VERDICTS_LIMIT: Final = 64
_DECIDED: Final = frozenset({Reason.ALLOWED, Reason.DENIED_BY_RULE, Reason.NO_RULE})
_NO_SUBJECTS: Final[frozenset[str]] = frozenset()

_Question = tuple[Claims, tuple[str | None, ...], str]


class _Place:
    """Where the rules for one method in one namespace stand, and the verdicts that came of them."""

    __slots__ = ("api", "keys", "method", "names", "namespace", "near", "verdicts")

    def __init__(
        self,
        namespace: str | None,
        method: str,
        api: ApiMethod,
        names: tuple[Inner, ...],
        keys: tuple[tuple[str, ...], ...],
    ) -> None:
        self.namespace = namespace
        self.method = method
        self.api = api
        self.names = names
        self.keys = keys
        self.near: str | None = None
        self.verdicts: dict[tuple[int, str], Verdict] = {}


class CompiledAuthorizer(BundleAuthorizer):
    """Decides calls by a compiled policy.

    Raises:
        NotCompilable: some part of the matcher can only be evaluated by Casbin.
        PolicyError: the revision's model cannot be evaluated at all.
    """

    def __init__(self, revision: Revision) -> None:
        super().__init__(revision)
        self._index = Index(self._rules)
        if self._index.slow:
            raise NotCompilable(self._index.slow)
        del self._rules
        self._index.forget_rows()
        self._branch = self._index.branches[0]
        self._has_places = self._subject_stands_alone()
        self._named = self._subjects_named() if self._has_places else _NO_SUBJECTS
        self._roles = {name[5:]: self._meant_by(name) for name in self._named if name.startswith("role:")}
        # A rule may mean subjects that it does not name, in a matcher with patterns or `p.sub == "*"`.
        self._any_user = bool(self._has_places and self._meant_by("user:\0"))
        self._everyone = self._roles.get(EVERYONE, _NO_SUBJECTS)
        self._authenticated = self._everyone | self._roles.get(AUTHENTICATED, _NO_SUBJECTS)
        self._near = NearMisses(self._index, revision.lines, self._model) if self._has_places else None
        self._decided: Memory[_Question, Verdict] = Memory(LIMIT)
        self._callers: Memory[Claims, frozenset[str]] = Memory(LIMIT)
        self._places: Memory[tuple[str | None, str], _Place] = Memory(LIMIT)

    def authorize(self, claims: Claims, call: Call) -> Verdict:
        """Whether the caller with ``claims`` may make ``call``, in every namespace that it names.

        Raises:
            EvaluationError: it could not be decided.
        """
        try:
            question = (claims, call.namespaces, call.method)
            verdict = self._decided.young.get(question)
            if verdict is None or call.unreadable is not None:
                verdict = self._decide(question, call)
        except EvaluationError:
            raise
        except Exception as exc:
            raise EvaluationError(f"revision {self.revision.id[:12]}: {type(exc).__name__}: {exc}") from exc
        return verdict

    def _decide(self, question: _Question, call: Call) -> Verdict:
        claims, namespaces, method = question
        if call.unreadable is not None:
            return self._verdict(claims, call)
        verdict = self._decided.recall(question)
        if verdict is None:
            place = self._places.young.get((namespaces[0], method)) if len(namespaces) == 1 else None
            verdict = self._verdict(claims, call) if place is None else self._at(place, claims)
            if verdict.reason in _DECIDED and len(namespaces) <= _NAMESPACES_LIMIT:
                self._decided.keep(question, verdict)
        return verdict

    def _ask(self, claims: Claims, method: str, api: ApiMethod, namespace: str | None) -> Verdict:
        if not self._has_places:
            return self._ask_for_each(claims, method, api, namespace)
        place = self._places.recall((namespace, method))
        if place is None:
            request = self._request("", namespace, method, api)
            names, keys = tuple(self._branch.names_at(request)), tuple(self._branch.keys_of(request))
            place = _Place(namespace, method, api, names, keys)
            self._places.keep((namespace, method), place)
        return self._at(place, claims)

    def _at(self, place: _Place, claims: Claims) -> Verdict:
        """The answer at ``place`` for a caller."""
        subjects = self._callers.young.get(claims) or self._subjects_everywhere(claims)
        here = claims.namespaces.get(place.namespace) if place.namespace is not None else None
        if here:
            subjects = subjects.union(*[self._roles.get(role, _NO_SUBJECTS) for role in here])
        found: dict[int, str] = {}
        for names in place.names:
            for name in names.keys() & subjects:
                cell = names[name]
                for key in place.keys:
                    rule = cell.get(key)
                    if rule is not None:
                        if isinstance(rule, tuple):
                            found |= dict.fromkeys(rule, name)
                        else:
                            found[rule] = name
        if not found:
            return self._no_rule(place, subjects)
        effect, rule = resolve(self._model.effect, sorted(found), self._index.effects)
        if rule < 0:
            return self._no_rule(place, subjects)
        via = self._via(claims, place.namespace, found[rule])
        verdict = place.verdicts.get((rule, via))
        if verdict is None:
            decided = self._rule(self._index.lines[rule], (via,), via, "")
            verdict = self._answer(EFFECTS[effect], decided, place.namespace)
            if len(place.verdicts) < _VERDICTS_LIMIT:
                place.verdicts[rule, via] = verdict
        return verdict

    def _no_rule(self, place: _Place, subjects: frozenset[str]) -> Verdict:
        """No rule decided: what came near it is told."""
        if place.near is None:
            place.near = self._near.here(place.names, place.keys) if self._near else ""
        elsewhere = self._near.elsewhere(place.keys, subjects) if self._near else ""
        verdict = place.verdicts.get((-1, elsewhere))
        if verdict is None:
            detail = "; ".join(filter(None, (place.near, elsewhere))) or "no rule comes near"
            verdict = self._answer(Effect.NO_OPINION, None, place.namespace, detail)
            if len(place.verdicts) < _VERDICTS_LIMIT:
                place.verdicts[-1, elsewhere] = verdict
        return verdict

    def _request(self, subject: str, namespace: str | None, method: str, api: ApiMethod) -> tuple[str, ...]:
        values = request_values(namespace, method, api)
        values["sub"] = subject
        return tuple([values[name] for name in self._model.request])

    def _ask_for_each(self, claims: Claims, method: str, api: ApiMethod, namespace: str | None) -> Verdict:
        """For matchers in which the caller's subject is more than one look-up: each subject by itself."""
        subjects = subjects_of(claims, namespace)
        found: dict[int, str] = {}
        for subject in subjects:
            for rule in self._index.found(self._request(subject, namespace, method, api)):
                found.setdefault(rule, subject)
        effect, rule = resolve(self._model.effect, sorted(found), self._index.effects)
        if rule < 0:
            return self._answer(EFFECTS[effect], None, namespace)
        domain = request_values(namespace, method, api)["dom"]
        decided = self._rule(self._index.lines[rule], subjects, found[rule], domain)
        return self._answer(EFFECTS[effect], decided, namespace)

    def _subject_stands_alone(self) -> bool:
        """Whether the caller's subject is one look-up, on which nothing else depends."""
        branch = self._branch
        if len(self._index.branches) > 1 or branch.inner < 0 or not branch.total or branch.has_guards:
            return False
        subject = frozenset((self._model.request.index("sub"),))
        return branch.selectors[branch.inner].uses == subject and not any(
            subject & selector.uses for field, selector in branch.selectors.items() if field != branch.inner
        )

    def _meant_by(self, subject: str) -> frozenset[str]:
        """What rules may say for ``subject`` to be meant."""
        request = [subject if name == "sub" else "" for name in self._model.request]
        return frozenset(self._branch.selectors[self._branch.inner].find(request))

    def _subjects_named(self) -> frozenset[str]:
        """Every subject that the policy names."""
        names: set[str] = set()
        for below in self._branch.cells.values():
            names.update(below)
        for roles in self._subject_roles:
            names.update(roles.members())
        return frozenset(names)

    def _subjects_everywhere(self, claims: Claims) -> frozenset[str]:
        """What rules may say for the caller to be meant, in any namespace."""
        proven = claims.principal.kind is not PrincipalKind.ANONYMOUS
        subjects = self._authenticated if proven else self._everyone
        if claims.system:
            subjects = subjects.union(*[self._roles.get(role, _NO_SUBJECTS) for role in claims.system])
        if proven and (self._any_user or claims.principal.id in self._named):
            subjects |= self._meant_by(claims.principal.id)
        self._callers.keep(claims, subjects)
        return subjects

    def _via(self, claims: Claims, namespace: str | None, name: str) -> str:
        """The caller's own subject that is ``name``, or leads to it."""
        role = name[5:]
        if name[:5] == "role:" and (
            role in claims.system or (namespace is not None and role in claims.namespaces.get(namespace, _NO_SUBJECTS))
        ):
            return name
        subjects = subjects_of(claims, namespace)
        if name in subjects:
            return name
        return next((subject for subject in subjects if name in self._meant_by(subject)), name)
