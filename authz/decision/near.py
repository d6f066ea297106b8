"""NearMisses: what a denied call came close to: the same call for somebody else, or the same caller somewhere else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from types import MappingProxyType
from typing import Final

from authz.decision.callers import Name, subject_of
from authz.decision.index import Index, Place, rules_in
from authz.decision.rules import ALLOW
from authz.policy.lines import PolicyLine, PolicyLines
from authz.policy.model import Model

_TOLD: Final = 2
_LOOKED_AT: Final = 4
_TEXTS_LIMIT: Final = 4096
_NOT_ALLOWED: Final = -1
_NOBODY: Final[Mapping[Name, int]] = MappingProxyType({})


class NearMisses:
    """Near misses of questions to ``index``, which has one branch, with the subject looked up by itself."""

    __slots__ = ("_anywhere", "_by_domain", "_index", "_lines", "_names", "_texts")

    def __init__(self, index: Index, lines: Sequence[PolicyLine], model: Model) -> None:
        self._index = index
        self._lines = lines
        self._names = model.policies["p"]
        self._texts: dict[int, str] = {}
        # What roles may do in some namespace or other: the index without its first field. NOT_ALLOWED: rules name it.
        self._anywhere: dict[int, dict[Name, int]] = {}
        branch, effects = index.branches[0], index.effects
        self._by_domain = branch.outer >= 0 and self._names[branch.outer] == "dom"
        names, subjects = branch.names, branch.subjects
        for place in branch.places.values():
            for key, cell in place.items():
                there = self._anywhere.get(key)
                if there is None:
                    there = self._anywhere[key] = {}
                for rule in (cell,) if isinstance(cell, int) else rules_in(cell):
                    name = names[subjects[rule]]
                    if not isinstance(name, str):
                        continue
                    if effects[rule] == ALLOW:
                        first = there.get(name, _NOT_ALLOWED)
                        if first == _NOT_ALLOWED or rule < first:
                            there[name] = rule
                    elif name not in there:
                        there[name] = _NOT_ALLOWED

    def named(self, keys: Sequence[int]) -> frozenset[Name]:
        """The roles that stand in some rule with one of ``keys``."""
        return frozenset().union(*[self._anywhere.get(key, _NOBODY) for key in keys])

    def here(self, places: Iterable[Place], keys: Sequence[int]) -> str:
        """Who may make a call where it was made, by the rules in ``places``: the first few that are come across."""
        effects, told = self._index.effects, []
        for place in places:
            for key in keys:
                if key in place:
                    for rule in islice(rules_in(place[key]), _LOOKED_AT):
                        if effects[rule] == ALLOW:
                            told.append(f"{subject_of(self._index.branches[0].subject(rule))} ({self._at(rule)})")
                            if len(told) == _TOLD:
                                return f"it needs {' or '.join(told)}"
        return f"it needs {told[0]}" if told else ""

    def elsewhere(self, keys: Sequence[int]) -> Mapping[Name, int]:
        """Whoever may make a call somewhere -> the first rule by which."""
        found: dict[Name, int] = {}
        for key in keys if self._by_domain else ():
            for name, rule in self._anywhere.get(key, _NOBODY).items():
                if rule != _NOT_ALLOWED and found.get(name, rule) >= rule and self._index.effects[rule] == ALLOW:
                    found[name] = rule
        return found

    def told_elsewhere(self, rule: int) -> str:
        """What to say of ``rule``, one of those that :meth:`elsewhere` found; -1: none."""
        if rule < 0:
            return ""
        text = self._texts.get(rule)
        if text is None:
            index = self._index.lines[rule]
            domain = self._lines[index].fields[self._names.index("dom")]
            text = f"the caller may do it in {domain} ({self._at(rule)})"
            if len(self._texts) >= _TEXTS_LIMIT:
                self._texts.clear()
            self._texts[rule] = text
        return text

    def _at(self, rule: int) -> str:
        index, lines = self._index.lines[rule], self._lines
        if isinstance(lines, PolicyLines):
            return "{}:{}".format(*lines.at(index))
        place = lines[index].place
        return f"{place.path}:{place.line}"
