"""CompiledAuthorizer: decides by an index of the policy, and remembers callers.

A call seen before costs three look-ups. One not seen before leads to its column: the few cells of the index that any
rule for this method in this namespace stands in; the caller's subjects are looked up there. What is remembered is
bounded, and reading it takes no lock.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from itertools import islice
from types import MappingProxyType
from typing import Final

from authz.authn.base import PrincipalKind
from authz.call import ApiMethod, Call
from authz.claims.base import AUTHENTICATED, EVERYONE, Claims
from authz.decision.base import Verdict
from authz.decision.bundle import EFFECTS, BundleAuthorizer, request_values, subjects_of
from authz.decision.index import Cell, Index
from authz.decision.near import NearMisses
from authz.decision.rules import resolve
from authz.decision.selector import NotCompilable
from authz.errors import EvaluationError
from authz.policy.revision import Revision
from authz.reason import Reason

CALLERS_LIMIT: Final = 4096
DECISIONS_LIMIT: Final = 20_000
COLUMNS_LIMIT: Final = 16_384
_CALLER_SHARE: Final = 4096
_NAMESPACES_LIMIT: Final = 4
_DECIDED: Final = frozenset({Reason.ALLOWED, Reason.DENIED_BY_RULE, Reason.NO_RULE})
_NO_SUBJECTS: Final[frozenset[str]] = frozenset()
_NO_VERDICTS: Final[Mapping[str, Verdict]] = MappingProxyType({})


class _Caller:
    """What is remembered of one Claims object: its subjects everywhere, and what was decided for it."""

    __slots__ = ("count", "decided", "subjects")

    def __init__(self, subjects: frozenset[str]) -> None:
        self.subjects = subjects
        self.decided: dict[tuple[str | None, ...], dict[str, Verdict]] = {}
        self.count = 0


class _Column:
    """Where the rules for one method in one namespace stand, and the verdicts that came of them."""

    __slots__ = ("cells", "near", "verdicts")

    def __init__(self, cells: tuple[Cell, ...]) -> None:
        self.cells = cells
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
        self._index.forget_rows()
        self._by_column = self._has_columns()
        self._roles = self._role_subjects() if self._by_column else {}
        self._near = NearMisses(self._index, revision.lines, self._model) if self._by_column else None
        del self._rules
        self._lock = threading.Lock()
        self._callers: dict[Claims, _Caller] = {}
        self._columns: dict[tuple[str | None, str], _Column] = {}
        self._decisions = 0

    def authorize(self, claims: Claims, call: Call) -> Verdict:
        """Whether the caller with ``claims`` may make ``call``, in every namespace that it names.

        Raises:
            EvaluationError: it could not be decided.
        """
        try:
            caller = self._callers.get(claims)
            if caller is not None:
                verdict = caller.decided.get(call.namespaces, _NO_VERDICTS).get(call.method)
                if verdict is not None and call.unreadable is None:
                    return verdict
            verdict = self._verdict(claims, call)
            if verdict.reason in _DECIDED:
                self._remember(claims, call, verdict)
        except EvaluationError:
            raise
        except Exception as exc:
            raise EvaluationError(f"revision {self.revision.id[:12]}: {type(exc).__name__}: {exc}") from exc
        return verdict

    def _remember(self, claims: Claims, call: Call, verdict: Verdict) -> None:
        if len(call.namespaces) > _NAMESPACES_LIMIT:
            return
        caller = self._caller(claims)
        with self._lock:
            if caller.count >= _CALLER_SHARE:
                self._decisions -= caller.count
                caller.count, caller.decided = 0, {}
            caller.decided.setdefault(call.namespaces, {})[call.method] = verdict
            caller.count += 1
            self._decisions += 1
            while self._decisions > DECISIONS_LIMIT:
                self._forget_one()

    def _forget_one(self) -> None:
        """Forget the caller who came first."""
        gone = self._callers.pop(next(iter(self._callers)))
        self._decisions -= gone.count
        gone.count = 0

    def _caller(self, claims: Claims) -> _Caller:
        caller = self._callers.get(claims)
        if caller is None:
            caller = _Caller(self._subjects_everywhere(claims))
            with self._lock:
                caller = self._callers.setdefault(claims, caller)
                if len(self._callers) > CALLERS_LIMIT:
                    self._forget_one()
        return caller

    def _ask(self, claims: Claims, method: str, api: ApiMethod, namespace: str | None) -> Verdict:
        if not self._by_column:
            return self._ask_for_each(claims, method, api, namespace)
        column = self._columns.get((namespace, method)) or self._column(namespace, method, api)
        subjects = self._caller(claims).subjects
        if namespace is not None and (here := claims.namespaces.get(namespace)):
            subjects = subjects.union(*[self._roles.get(role, _NO_SUBJECTS) for role in here])
        found: dict[int, str] = {}
        for cell in column.cells:
            for subject in cell.keys() & subjects:
                rule = cell[subject]
                if isinstance(rule, tuple):
                    found |= dict.fromkeys(rule, subject)
                else:
                    found[rule] = subject
        effect, rule = resolve(self._model.effect, sorted(found), self._index.effects)
        if rule < 0:
            return self._answer(
                EFFECTS[effect], None, namespace, self._near_misses(column, subjects, namespace, method, api)
            )
        via = self._via(claims, namespace, found[rule])
        verdict = column.verdicts.get((rule, via))
        if verdict is None:
            decided = self._rule(self._index.lines[rule], (via,), via, "")
            verdict = self._answer(EFFECTS[effect], decided, namespace)
            if len(column.verdicts) < CALLERS_LIMIT:
                column.verdicts[rule, via] = verdict
        return verdict

    def _near_misses(
        self, column: _Column, subjects: frozenset[str], namespace: str | None, method: str, api: ApiMethod
    ) -> str:
        if self._near is None:
            return ""
        if column.near is None:
            column.near = self._near.here(column.cells)
        elsewhere = self._near.elsewhere(self._request("", namespace, method, api), subjects)
        return "; ".join(filter(None, (column.near, elsewhere))) or "no rule comes near"

    def _request(self, subject: str, namespace: str | None, method: str, api: ApiMethod) -> tuple[str, ...]:
        values = request_values(namespace, method, api)
        values["sub"] = subject
        return tuple([values[name] for name in self._model.request])

    def _column(self, namespace: str | None, method: str, api: ApiMethod) -> _Column:
        cells = tuple(self._index.branches[0].reached(self._request("", namespace, method, api)))
        column = _Column(cells)
        with self._lock:
            if len(self._columns) >= COLUMNS_LIMIT:
                for key in list(islice(self._columns, COLUMNS_LIMIT // 64)):
                    del self._columns[key]
            self._columns[namespace, method] = column
        return column

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

    def _has_columns(self) -> bool:
        """Whether the caller's subject is looked up last, and nothing else depends on it."""
        subject = frozenset((self._model.request.index("sub"),)) if "sub" in self._model.request else None
        if len(self._index.branches) != 1:
            return False
        branch = self._index.branches[0]
        if branch.last < 0 or not branch.total or branch.has_guards or branch.selectors[branch.last].uses != subject:
            return False
        return not any(subject & selector.uses for field, selector in branch.selectors.items() if field != branch.last)

    def _subjects_of(self, subject: str) -> frozenset[str]:
        """What rules may say for ``subject`` to be meant."""
        request = [subject if name == "sub" else "" for name in self._model.request]
        branch = self._index.branches[0]
        return frozenset(branch.selectors[branch.last].find(request))

    def _role_subjects(self) -> dict[str, frozenset[str]]:
        """Role -> what rules may say for it to be meant, for every role that the policy knows."""
        names: dict[str, None] = {}
        for cell in self._index.branches[0].cells.values():
            names |= dict.fromkeys(cell)
        for roles in self._subject_roles:
            names |= dict.fromkeys(roles.members())
        roles_only = (name for name in names if name.startswith("role:"))
        found = {name[5:]: self._subjects_of(name) for name in roles_only}
        return {role: subjects for role, subjects in found.items() if subjects}

    def _subjects_everywhere(self, claims: Claims) -> frozenset[str]:
        roles = self._roles
        found = [roles.get(role, _NO_SUBJECTS) for role in (EVERYONE, *claims.system)]
        if claims.principal.kind is not PrincipalKind.ANONYMOUS:
            found.append(roles.get(AUTHENTICATED, _NO_SUBJECTS))
            found.append(self._subjects_of(claims.principal.id))
        return _NO_SUBJECTS.union(*found)

    def _via(self, claims: Claims, namespace: str | None, name: str) -> str:
        """The caller's own subject that is ``name``, or leads to it."""
        subjects = subjects_of(claims, namespace)
        if name in subjects:
            return name
        for subject in subjects:
            if name in self._subjects_of(subject):
                return subject
        return name
