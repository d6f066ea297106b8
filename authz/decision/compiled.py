"""CompiledAuthorizer: decides by an index of the policy, and remembers what it decided.

A call decided before is one look-up. One not decided before is reduced to what can make a difference: the rules that
count in its namespace, what they must say of its method, and those of the caller's roles that such rules name. If that
was answered before, for whomever, it is two look-ups; else the rules are looked up. What is remembered is bounded, and
reading it takes no lock.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from authz.authn.base import Principal, PrincipalKind
from authz.call import ApiMethod, Call, Scope
from authz.claims.base import Claims
from authz.decision.base import Effect, Verdict
from authz.decision.bundle import EFFECTS, BundleAuthorizer, request_values, subjects_of
from authz.decision.callers import Callers, Name, Named, subject_of
from authz.decision.index import Index, Place
from authz.decision.memory import Memory
from authz.decision.near import NearMisses
from authz.decision.rules import NEITHER, resolve
from authz.decision.selector import NotCompilable
from authz.errors import EvaluationError
from authz.policy.revision import NOWHERE, Revision
from authz.reason import Reason

LIMIT: Final = 10_240
"""How many decisions, and how many of whatever leads to one, are remembered in each of two generations."""

_NAMESPACES_LIMIT: Final = 4
_DECIDED: Final = frozenset({Reason.ALLOWED, Reason.DENIED_BY_RULE, Reason.NO_RULE})
_ANONYMOUS: Final = PrincipalKind.ANONYMOUS
_NOTHING: Final = (NEITHER, -1)

_Question = tuple[Claims, tuple[str | None, ...], str]


class _Method:
    """What rules for one method say apart from subject and namespace.

    Attributes:
        keys: what to look for in each namespace.
        counting: the roles that can make a difference to an answer, in some namespace or other.
        cluster: whether it is outside every namespace.
    """

    __slots__ = ("_elsewhere", "cluster", "counting", "keys")

    def __init__(
        self, keys: Sequence[int], counting: frozenset[Name], elsewhere: Mapping[Name, int], *, cluster: bool
    ) -> None:
        self.keys = keys
        self.counting = counting
        self.cluster = cluster
        self._elsewhere = elsewhere

    def elsewhere(self, held: Iterable[Name], others: Iterable[Name]) -> int:
        """The first rule by which one of these may call it somewhere; -1: there is none."""
        places = self._elsewhere
        return min([places[name] for names in (held, others) for name in names if name in places], default=-1)


class _Reach:
    """The rules that can count in a namespace. Namespaces that the policy does not tell apart share one."""

    __slots__ = ("places",)

    def __init__(self, places: Sequence[Place]) -> None:
        self.places = places


class _Known:
    """What is remembered, all of which is forgotten at once.

    Whoever decides takes it once, before anything is worked out: what is worked out from what has changed meanwhile
    goes where nobody looks again.

    Attributes:
        decided: question -> answer.
        namespaces: namespace -> the rules that can count there.
        reaches: the same by what they are; as many as the policy tells apart, whatever namespaces are asked for.
        methods: method -> what rules say of it.
        kinds: the same by what it is.
        shared: where, what, and roles that can make a difference -> answer to all who have them.
        answers: what an answer is made from -> answer.
    """

    __slots__ = ("answers", "decided", "kinds", "methods", "namespaces", "reaches", "shared")

    def __init__(self) -> None:
        self.decided: Memory[_Question, Verdict] = Memory(LIMIT)
        self.namespaces: Memory[str | None, _Reach] = Memory(LIMIT)
        self.reaches: dict[tuple[int, ...], _Reach] = {}
        self.methods: Memory[str, _Method] = Memory(LIMIT)
        self.kinds: Memory[tuple[tuple[int, ...], bool], _Method] = Memory(LIMIT)
        self.shared: Memory[tuple[_Reach, _Method, frozenset[Name]], Verdict] = Memory(LIMIT)
        self.answers: Memory[tuple[object, ...], Verdict] = Memory(LIMIT)


class CompiledAuthorizer(BundleAuthorizer):
    """Decides calls by a compiled policy.

    Raises:
        NotCompilable: some part of the matcher can only be evaluated by Casbin.
        PolicyError: the revision's model cannot be evaluated at all.
    """

    def __init__(self, revision: Revision) -> None:
        super().__init__(revision)
        self._index = Index(self._rules, consume=True, fill=False)
        if self._index.slow:
            raise NotCompilable(self._index.slow)
        del self._rules
        self._branch = self._index.branches[0]
        looked_up = self._can_be_looked_up()
        self._callers = self._renamed() if looked_up else Callers((), (), lambda _: ())
        self._index.fill()
        self._index.forget_rows()
        self._effect, self._names, self._subjects = self._model.effect, self._branch.names, self._branch.subjects
        self._near = NearMisses(self._index, revision.lines, self._model) if looked_up else None
        self._forget()

    @property
    def ends(self) -> bool:
        """Whether any rule ends by itself; :class:`authz.decision.ending.EndingAuthorizer` sees to that."""
        return bool(self._index.ends)

    @property
    def caches(self) -> Mapping[str, Memory[_Question, Verdict]]:
        """What is remembered, by what it is, for metrics."""
        return {"decisions": self._known.decided}

    def _forget(self) -> None:
        """Forget whatever was decided."""
        self._known = _Known()

    def authorize(self, claims: Claims, call: Call) -> Verdict:
        """Whether the caller with ``claims`` may make ``call``, in every namespace that it names.

        Raises:
            EvaluationError: it could not be decided.
        """
        try:
            question = (claims, call.namespaces, call.method)
            verdict = self._known.decided.young.get(question)
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
        known = self._known
        decided = known.decided
        verdict = decided.recall(question) if decided.former else None
        if verdict is None:
            # A method and a namespace that are remembered have passed every check of their names.
            method, near = known.methods.young.get(name), self._near
            if method is not None and near is not None and len(namespaces) == 1 and not method.cluster:
                reach = known.namespaces.young.get(namespaces[0])
                if reach is not None:
                    verdict = self._at(known, near, reach, method, claims, namespaces[0])
                    decided.keep(question, verdict)
                    return verdict
            verdict = self._verdict(claims, call)
            if verdict.reason in _DECIDED and len(namespaces) <= _NAMESPACES_LIMIT:
                decided.keep(question, verdict)
        return verdict

    def _ask(self, claims: Claims, method: str, api: ApiMethod, namespace: str | None) -> Verdict:
        known, near = self._known, self._near
        if near is None:
            return self._ask_for_each(claims, method, api, namespace)
        reach = known.namespaces.recall(namespace) or self._reach(known, namespace)
        of_method = known.methods.recall(method) or self._method(known, near, method, api)
        return self._at(known, near, reach, of_method, claims, namespace)

    def _reach(self, known: _Known, namespace: str | None) -> _Reach:
        request = [NOWHERE if namespace is None else namespace] * len(self._model.request)
        places = self._branch.places_at(request)
        reach = known.reaches.setdefault(tuple(map(id, places)), _Reach(places))
        known.namespaces.keep(namespace, reach)
        return reach

    def _method(self, known: _Known, near: NearMisses, method: str, api: ApiMethod) -> _Method:
        keys = tuple(self._branch.keys_of(self._request("", None, method, api)))
        kind = (keys, api.scope is Scope.CLUSTER)
        found = known.kinds.recall(kind)
        if found is None:
            counting = self._callers.meaning(near.named(keys))
            found = _Method(keys, counting, near.elsewhere(keys), cluster=kind[1])
            known.kinds.keep(kind, found)
        known.methods.keep(method, found)
        return found

    def _at(
        self,
        known: _Known,
        near: NearMisses,
        reach: _Reach,
        method: _Method,
        claims: Claims,
        namespace: str | None,
    ) -> Verdict:
        """The answer to one question, which leads to ``reach``."""
        shared, answers, principal, callers = known.shared, known.answers, claims.principal, self._callers
        # Of the caller's roles, those that can make a difference, so that the others make no new question. Of two sets
        # the smaller one is gone through: many roles cost hardly more than few.
        held = method.counting & claims.system
        if namespace is not None and (here := claims.namespaces.get(namespace)):
            held = held | (method.counting & here) if held else method.counting & here
        question = (reach, method, held)
        # Whether it is only by such roles, and by being proven, that rules for no user mean the caller.
        alike = principal.kind is not _ANONYMOUS and not (callers.members_by_name and callers.is_member(principal))
        if alike:
            verdict = shared.young.get(question) or (shared.recall(question) if shared.former else None)
            if verdict is not None:
                return verdict
        members = callers.members & held
        others = callers.proven if alike and not members else callers.others(principal, members)
        found, personal = self._found(reach, method.keys, principal, held, others)
        effect, rule = resolve(self._effect, sorted(found), self._index.effects) if found else _NOTHING
        name = self._names[self._subjects[rule]] if rule >= 0 else ""
        via = name if rule < 0 or name in held else callers.via(principal, members, name)
        elsewhere = method.elsewhere(held, others) if rule < 0 else -1
        answer = (rule, via) if rule >= 0 else (reach, method, elsewhere)
        verdict = answers.recall(answer)
        if verdict is None:
            if rule >= 0:
                subject = subject_of(via)
                decided = self._rule(self._index.lines[rule], (subject,), subject, "")
                verdict = self._answer(EFFECTS[effect], decided)
            else:
                told = (near.here(reach.places, method.keys), near.told_elsewhere(elsewhere))
                detail = "; ".join(filter(None, told)) or "no rule comes near"
                verdict = self._answer(Effect.NO_OPINION, None, detail)
            answers.keep(answer, verdict)
        if alike and not personal:
            shared.keep(question, verdict)
        return verdict

    def _found(
        self,
        reach: _Reach,
        keys: Sequence[int],
        principal: Principal,
        held: frozenset[Name],
        others: frozenset[Name],
    ) -> tuple[list[int], bool]:
        """The rules that mean the caller, with one of ``keys``; and whether any of those looked at is for a user."""
        found: list[int] = []
        personal = False
        names, subjects = self._names, self._subjects
        for place in reach.places:
            for key in keys:
                cell = place.get(key)
                if cell is None:
                    continue
                if isinstance(cell, dict):
                    personal, named = True, self._callers.named(principal)
                    found += self._branch.among((cell,), held.union(others, (named,) if named else ()))
                    continue
                for rule in (cell,) if isinstance(cell, int) else cell:
                    name = names[subjects[rule]]
                    if name in held or name in others:
                        found.append(rule)
                    elif isinstance(name, Named):
                        personal = True
                        if name is self._callers.named(principal):
                            found.append(rule)
        return found, personal

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
            return self._answer(EFFECTS[effect], None)
        domain = request_values(namespace, method, api)["dom"]
        decided = self._rule(self._index.lines[rule], subjects, found[rule], domain)
        return self._answer(EFFECTS[effect], decided)

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

    def _renamed(self) -> Callers:
        """Whom the rules mean by whom; the index names subjects likewise from then on."""
        branch, fields = self._branch, self._model.request
        selector = branch.selectors[branch.inner]

        def meant_by(subject: str) -> Collection[str]:
            return selector.find([subject if field == "sub" else "" for field in fields])

        members = dict.fromkeys(name for roles in self._subject_roles for name in roles.members())
        callers = Callers(map(str, branch.names), members, meant_by)
        branch.rename(callers.name_of)
        return callers
