"""CompiledAuthorizer: decides by an index of the policy, and remembers what it decided.

A call decided before is one look-up. One not decided before leads to its place in the index: the rules for its
namespace by subject, and the keys that rules for its method have; the caller's subjects are looked up there. What is
remembered is bounded, and reading it takes no lock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from authz.authn.base import Principal, PrincipalKind
from authz.call import ApiMethod, Call
from authz.claims.base import AUTHENTICATED, EVERYONE, Claims
from authz.decision.base import Effect, Verdict
from authz.decision.bundle import EFFECTS, BundleAuthorizer, request_values, subjects_of
from authz.decision.index import Index, Inner
from authz.decision.memory import Memory
from authz.decision.near import NearMisses
from authz.decision.rules import NEITHER, resolve
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
_NOBODY: Final[Mapping[str, int]] = MappingProxyType({})
_NOTHING: Final = (NEITHER, -1)

_Question = tuple[Claims, tuple[str | None, ...], str]


class _Method:
    """What rules for one method say apart from subject and namespace, and who may call it somewhere, by which rule."""

    __slots__ = ("elsewhere", "keys")

    def __init__(self, keys: Sequence[int], elsewhere: Mapping[str, int]) -> None:
        self.keys = keys
        self.elsewhere = elsewhere


class _Place:
    """Where the rules for one method in one namespace stand, and the verdicts that came of them.

    Attributes:
        names: the parts of the index for the namespace.
        method: what rules for the method say.
        verdicts: rule, and the caller's subject that led to it -> verdict.
        by_roles: roles -> the verdict for callers who have them, and whose names the policy does not know.
        near: what came near the call for whoever is refused here; None: not worked out yet.
    """

    __slots__ = ("by_roles", "method", "names", "namespace", "near", "verdicts")

    def __init__(self, namespace: str | None, names: Sequence[Inner], method: _Method) -> None:
        self.namespace = namespace
        self.names = names
        self.method = method
        self.verdicts: dict[tuple[int, str], Verdict] = {}
        self.by_roles: dict[frozenset[str], Verdict] = {}
        self.near: str | None = None

    def found(self, subjects: frozenset[str]) -> dict[int, str]:
        """The rules for ``subjects``, each with its subject."""
        found: dict[int, str] = {}
        keys = self.method.keys
        for names in self.names:
            for name in names.keys() & subjects:
                cell = names[name]
                for key in keys:
                    if key in cell:
                        rules = cell[key]
                        if isinstance(rules, int):
                            found[rules] = name
                        else:
                            found |= dict.fromkeys(rules, name)
        return found


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
        self._rest_is_of_the_method = self._has_methods()
        self._named = self._subjects_named() if self._has_places else _NO_SUBJECTS
        # A rule may mean subjects that it does not name, in a matcher with patterns or `p.sub == "*"`.
        self._any_user = bool(self._has_places and self._meant_by("user:\0"))
        self._everyone = self._meant_by(f"role:{EVERYONE}") if self._has_places else _NO_SUBJECTS
        self._authenticated = self._everyone
        if self._has_places:
            self._authenticated |= self._meant_by(f"role:{AUTHENTICATED}")
        roles = [name for name in self._named if name.startswith("role:")]
        self._meant = {name[5:]: self._meant_by(name) for name in roles}
        self._roles = {role: self._authenticated | meant for role, meant in self._meant.items()}
        self._near = NearMisses(self._index, revision.lines, self._model) if self._has_places else None
        self._decided: Memory[_Question, Verdict] = Memory(LIMIT)
        self._methods: Memory[str, _Method] = Memory(LIMIT)
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
            place = _Place(namespace, self._branch.names_at(request), self._method(method, request))
            self._places.keep((namespace, method), place)
        return self._at(place, claims)

    def _method(self, method: str, request: Sequence[str]) -> _Method:
        found = self._methods.recall(method) if self._rest_is_of_the_method else None
        if found is None:
            keys = tuple(self._branch.keys_of(request))
            found = _Method(keys, self._near.elsewhere(keys) if self._near else _NOBODY)
            if self._rest_is_of_the_method:
                self._methods.keep(method, found)
        return found

    def _at(self, place: _Place, claims: Claims) -> Verdict:
        """The answer at ``place`` for a caller."""
        namespace, principal = place.namespace, claims.principal
        held = claims.system
        if namespace is not None and (here := claims.namespaces.get(namespace)):
            held = held | here if held else here
        if principal.kind is PrincipalKind.ANONYMOUS or principal.id in self._named or self._any_user:
            return self._verdict_at(place, principal, held)
        # The policy does not know the caller's name, so all callers with these roles get the same answer.
        verdict = place.by_roles.get(held)
        if verdict is None:
            verdict = self._verdict_at(place, principal, held)
            if len(place.by_roles) < _VERDICTS_LIMIT:
                place.by_roles[held] = verdict
        return verdict

    def _verdict_at(self, place: _Place, principal: Principal, held: frozenset[str]) -> Verdict:
        subjects = self._subjects(principal, held)
        found = place.found(subjects)
        if not found:
            return self._no_rule(place, subjects)
        effect, rule = resolve(self._model.effect, sorted(found) if len(found) > 1 else [*found], self._index.effects)
        if rule < 0:
            return self._no_rule(place, subjects)
        name = found[rule]
        via = name if name[:5] == "role:" and name[5:] in held else self._via(principal, held, name)
        verdict = place.verdicts.get((rule, via))
        if verdict is None:
            decided = self._rule(self._index.lines[rule], (via,), via, "")
            verdict = self._answer(EFFECTS[effect], decided, place.namespace)
            if len(place.verdicts) < _VERDICTS_LIMIT:
                place.verdicts[rule, via] = verdict
        return verdict

    def _no_rule(self, place: _Place, subjects: frozenset[str]) -> Verdict:
        """No rule decided: what came near is told."""
        near, places = self._near, place.method.elsewhere
        elsewhere = min([places[name] for name in places.keys() & subjects], default=-1)
        verdict = place.verdicts.get((elsewhere, ""))
        if verdict is None:
            if place.near is None:
                place.near = near.here(place.names, place.method.keys) if near else ""
            told = (place.near, near.told_elsewhere(elsewhere) if near else "")
            detail = "; ".join(filter(None, told)) or "no rule comes near"
            verdict = self._answer(Effect.NO_OPINION, None, place.namespace, detail)
            if len(place.verdicts) < _VERDICTS_LIMIT:
                place.verdicts[elsewhere, ""] = verdict
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

    def _has_methods(self) -> bool:
        """Whether what is looked up last depends on the method alone."""
        names = {self._model.request[at] for field in self._branch.rest for at in self._branch.selectors[field].uses}
        return names <= {"obj", "act"}

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

    def _subjects(self, principal: Principal, held: frozenset[str]) -> frozenset[str]:
        """What rules may say for a caller to be meant, who holds the roles ``held``."""
        if principal.kind is PrincipalKind.ANONYMOUS:
            return self._everyone.union(*[self._meant_by(f"role:{role}") for role in held])
        roles = self._roles
        if len(held) == 1:
            (role,) = held
            subjects = roles.get(role, self._authenticated)
        else:
            subjects = self._authenticated.union(*[roles[role] for role in held if role in roles])
        user = principal.id
        if user in self._named or self._any_user:
            subjects |= self._meant_by(user)
        return subjects

    def _via(self, principal: Principal, held: frozenset[str], name: str) -> str:
        """The caller's own subject that is ``name``, or else the first that leads to it."""
        if name == f"role:{EVERYONE}":
            return name
        if principal.kind is not PrincipalKind.ANONYMOUS:
            if name == f"role:{AUTHENTICATED}":
                return name
            user = principal.id
            if (user in self._named or self._any_user) and name in self._meant_by(user):
                return user
        meant = self._meant
        for role in sorted(held):
            if role in meant and name in meant[role]:
                return f"role:{role}"
        for role in (AUTHENTICATED, EVERYONE):
            if name in self._meant_by(f"role:{role}"):
                return f"role:{role}"
        return name
