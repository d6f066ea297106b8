"""CompiledAuthorizer: decides by an index of the policy, and remembers what it decided.

A call decided before is one look-up. One not decided before leads into the index: to the rules for its namespace by
subject, and to the keys that rules for its method have; the caller's subjects are looked up there. What is remembered
is bounded, and reading it takes no lock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from authz.authn.base import Principal, PrincipalKind
from authz.call import ApiMethod, Call, Scope
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

LIMIT: Final = 10_240
"""How many decisions, and how many of whatever leads to one, are remembered in each of two generations."""

_NAMESPACES_LIMIT: Final = 4
_DECIDED: Final = frozenset({Reason.ALLOWED, Reason.DENIED_BY_RULE, Reason.NO_RULE})
_NO_SUBJECTS: Final[frozenset[str]] = frozenset()
_NOBODY: Final[Mapping[str, int]] = MappingProxyType({})
_NOTHING: Final = (NEITHER, -1)

_Question = tuple[Claims, tuple[str | None, ...], str]


class _Method:
    """What rules for one method say apart from subject and namespace, and who may call it somewhere, by which rule."""

    __slots__ = ("cluster", "elsewhere", "keys")

    def __init__(self, keys: Sequence[int], elsewhere: Mapping[str, int], *, cluster: bool) -> None:
        self.keys = keys
        self.elsewhere = elsewhere
        self.cluster = cluster


class _Reach:
    """The rules that can count in a namespace. Namespaces that the policy does not tell apart share one."""

    __slots__ = ("names",)

    def __init__(self, names: Sequence[Inner]) -> None:
        self.names = names

    def found(self, subjects: frozenset[str], keys: Sequence[int]) -> dict[int, str]:
        """The rules for ``subjects`` with one of ``keys``, each with its subject."""
        found: dict[int, str] = {}
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


def _elsewhere(verdict: Verdict, namespace: str | None) -> Verdict:
    """The same verdict for another namespace."""
    return Verdict(verdict.effect, verdict.reason, verdict.rule, verdict.revision, namespace, verdict.detail)


class CompiledAuthorizer(BundleAuthorizer):
    """Decides calls by a compiled policy.

    Raises:
        NotCompilable: some part of the matcher can only be evaluated by Casbin.
        PolicyError: the revision's model cannot be evaluated at all.
    """

    def __init__(self, revision: Revision) -> None:
        super().__init__(revision)
        self._index = Index(self._rules, consume=True)
        if self._index.slow:
            raise NotCompilable(self._index.slow)
        del self._rules
        self._index.forget_rows()
        self._branch = self._index.branches[0]
        self._looked_up = self._can_be_looked_up()
        self._near = NearMisses(self._index, revision.lines, self._model) if self._looked_up else None
        self._members = frozenset(name for roles in self._subject_roles for name in roles.members())
        self._named = self._subjects_named() if self._looked_up else _NO_SUBJECTS
        self._everyone = self._meant_by(f"role:{EVERYONE}") if self._looked_up else _NO_SUBJECTS
        self._authenticated = self._everyone
        if self._looked_up:
            self._authenticated |= self._meant_by(f"role:{AUTHENTICATED}")
        roles = [name for name in self._named if name.startswith("role:")]
        self._meant = {name[5:]: self._meant_by(name) for name in roles}
        self._roles = {role: self._authenticated | meant for role, meant in self._meant.items()}
        self._known_roles = frozenset(self._roles)
        self._forget()

    @property
    def ends(self) -> bool:
        """Whether any rule ends by itself; :class:`authz.decision.ending.EndingAuthorizer` sees to that."""
        return bool(self._index.ends)

    @property
    def caches(self) -> Mapping[str, Memory[_Question, Verdict]]:
        """What is remembered, by what it is, for metrics."""
        return {"decisions": self._decided}

    def _forget(self) -> None:
        """Forget whatever was decided."""
        self._decided: Memory[_Question, Verdict] = Memory(LIMIT)
        self._namespaces: Memory[str | None, _Reach] = Memory(LIMIT)
        self._reaches: dict[tuple[int, ...], _Reach] = {}
        self._methods: Memory[str, _Method] = Memory(LIMIT)
        self._shared: Memory[tuple[object, ...], Verdict] = Memory(LIMIT)

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
        claims, namespaces, name = question
        if call.unreadable is not None:
            return self._verdict(claims, call)
        decided = self._decided  # the one of before the answer is worked out: see EndingAuthorizer
        verdict = decided.recall(question)
        if verdict is None:
            # A method and a namespace that are remembered have passed every check of their names.
            method = self._methods.young.get(name)
            if method is not None and len(namespaces) == 1 and not method.cluster:
                reach = self._namespaces.young.get(namespaces[0])
                if reach is not None:
                    verdict = self._at(reach, name, method, claims, namespaces[0])
            if verdict is None:
                verdict = self._verdict(claims, call)
            if verdict.reason in _DECIDED and len(namespaces) <= _NAMESPACES_LIMIT:
                decided.keep(question, verdict)
        return verdict

    def _ask(self, claims: Claims, method: str, api: ApiMethod, namespace: str | None) -> Verdict:
        if not self._looked_up:
            return self._ask_for_each(claims, method, api, namespace)
        request = self._request("", namespace, method, api)
        reach = self._namespaces.recall(namespace) or self._reach(namespace, request)
        known = self._methods.recall(method) or self._method(method, api, request)
        return self._at(reach, method, known, claims, namespace)

    def _reach(self, namespace: str | None, request: Sequence[str]) -> _Reach:
        names = self._branch.names_at(request)
        # As many as the policy tells apart, whatever namespaces are asked for.
        reach = self._reaches.setdefault(tuple(map(id, names)), _Reach(names))
        self._namespaces.keep(namespace, reach)
        return reach

    def _method(self, method: str, api: ApiMethod, request: Sequence[str]) -> _Method:
        keys = tuple(self._branch.keys_of(request))
        elsewhere = self._near.elsewhere(keys) if self._near else _NOBODY
        known = _Method(keys, elsewhere, cluster=api.scope is Scope.CLUSTER)
        self._methods.keep(method, known)
        return known

    def _at(self, reach: _Reach, name: str, method: _Method, claims: Claims, namespace: str | None) -> Verdict:
        """The answer to one question, which leads to ``reach``."""
        principal, held = claims.principal, claims.system
        if namespace is not None and (here := claims.namespaces.get(namespace)):
            held = held | here if held else here
        held = held & self._known_roles
        if principal.kind is PrincipalKind.ANONYMOUS or principal.id in self._named:
            return self._worked_out(reach, name, method, principal, held, namespace)
        # The policy does not know the caller's name, so all callers with these roles get the same answer.
        shared, memory = (reach, name, held), self._shared  # taken before the answer is worked out, as in _decide
        verdict = memory.recall(shared)
        if verdict is None:
            verdict = self._worked_out(reach, name, method, principal, held, namespace)
            memory.keep(shared, verdict)
        elif verdict.namespace != namespace:
            verdict = _elsewhere(verdict, namespace)
        return verdict

    def _worked_out(
        self,
        reach: _Reach,
        name: str,
        method: _Method,
        principal: Principal,
        held: frozenset[str],
        namespace: str | None,
    ) -> Verdict:
        subjects, memory = self._subjects(principal, held), self._shared
        found = reach.found(subjects, method.keys)
        effect, rule = resolve(self._model.effect, sorted(found), self._index.effects) if found else _NOTHING
        if rule < 0:
            return self._no_rule(reach, name, method, subjects, namespace)
        subject = found[rule]
        via = subject if subject[:5] == "role:" and subject[5:] in held else self._via(principal, held, subject)
        shared = (reach, rule, via)
        verdict = memory.recall(shared)
        if verdict is None:
            decided = self._rule(self._index.lines[rule], (via,), via, "")
            verdict = self._answer(EFFECTS[effect], decided, namespace)
            memory.keep(shared, verdict)
        elif verdict.namespace != namespace:
            verdict = _elsewhere(verdict, namespace)
        return verdict

    def _no_rule(
        self, reach: _Reach, name: str, method: _Method, subjects: frozenset[str], namespace: str | None
    ) -> Verdict:
        """No rule decided: what came near is told."""
        near, places = self._near, method.elsewhere
        elsewhere = min([places[each] for each in places.keys() & subjects], default=-1)
        shared = (reach, name, elsewhere)
        verdict = self._shared.recall(shared)
        if verdict is None:
            here = near.here(reach.names, method.keys) if near else ""
            there = near.told_elsewhere(elsewhere) if near else ""
            detail = "; ".join(filter(None, (here, there))) or "no rule comes near"
            verdict = self._answer(Effect.NO_OPINION, None, namespace, detail)
            self._shared.keep(shared, verdict)
        elif verdict.namespace != namespace:
            verdict = _elsewhere(verdict, namespace)
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

    def _can_be_looked_up(self) -> bool:
        """Whether the caller's subject, the namespace and the method are each one look-up, apart from one another."""
        branch = self._branch
        if len(self._index.branches) > 1 or branch.inner < 0 or not branch.total:
            return False
        if branch.selectors[branch.inner].open:
            # Rules may mean subjects that no line names: all of the caller's must be looked at, one by one.
            return False
        parts = [(branch.inner, {"sub"}), *((field, {"obj", "act"}) for field in branch.rest)]
        parts += [(branch.outer, {"dom"})] if branch.outer >= 0 else []
        return all({self._model.request[at] for at in branch.selectors[field].uses} <= of for field, of in parts)

    def _meant_by(self, subject: str) -> frozenset[str]:
        """What rules may say for ``subject`` to be meant."""
        request = [subject if name == "sub" else "" for name in self._model.request]
        return frozenset(self._branch.selectors[self._branch.inner].find(request))

    def _subjects_named(self) -> frozenset[str]:
        """Every subject that the policy names."""
        names: set[str] = set()
        for below in self._branch.cells.values():
            names.update(below)
        return self._members.union(names)

    def _subjects(self, principal: Principal, held: frozenset[str]) -> frozenset[str]:
        """What rules may say for a caller to be meant, who holds the roles ``held``, all known to the policy."""
        if principal.kind is PrincipalKind.ANONYMOUS:
            return self._everyone.union(*[self._meant[role] for role in held])
        roles = self._roles
        if len(held) == 1:
            (role,) = held
            subjects = roles[role]
        else:
            subjects = self._authenticated.union(*[roles[role] for role in held])
        user = principal.id
        if user in self._named:
            return subjects.union(self._meant_by(user) if user in self._members else (user,))
        return subjects

    def _via(self, principal: Principal, held: frozenset[str], name: str) -> str:
        """The caller's own subject that is ``name``, or else the first that leads to it."""
        if name == f"role:{EVERYONE}":
            return name
        if principal.kind is not PrincipalKind.ANONYMOUS:
            if name == f"role:{AUTHENTICATED}":
                return name
            user = principal.id
            if name == user or (user in self._members and name in self._meant_by(user)):
                return user
        meant = self._meant
        for role in sorted(held):
            if name in meant[role]:
                return f"role:{role}"
        proven = principal.kind is not PrincipalKind.ANONYMOUS and name in meant.get(AUTHENTICATED, _NO_SUBJECTS)
        return f"role:{AUTHENTICATED}" if proven else f"role:{EVERYONE}"
