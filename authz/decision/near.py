"""NearMisses: what a denied call came close to: the same call for somebody else, or the same caller somewhere else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from types import MappingProxyType
from typing import Final

from authz.decision.index import Index, Inner
from authz.decision.rules import ALLOW
from authz.policy.lines import PolicyLine
from authz.policy.model import Model

_TOLD: Final = 2
_LOOKED_AT: Final = 4
_TEXTS_LIMIT: Final = 4096
_NOBODY: Final[Mapping[str, int]] = MappingProxyType({})


class NearMisses:
    """Near misses of questions to ``index``, which has one branch, with the subject looked up by itself."""

    __slots__ = ("_anywhere", "_index", "_lines", "_names", "_texts")

    def __init__(self, index: Index, lines: Sequence[PolicyLine], model: Model) -> None:
        self._index = index
        self._lines = lines
        self._names = model.policies["p"]
        self._texts: dict[int, str] = {}
        # What roles may do in some namespace or other: the index without its first field, the last field first.
        self._anywhere: dict[int, dict[str, int]] = {}
        branch, effects = index.branches[0], index.effects
        if branch.outer < 0 or self._names[branch.outer] != "dom":
            return
        for names in branch.cells.values():
            for name, cell in names.items():
                if name.startswith("role:"):
                    for key, rule in cell.items():
                        first = rule if isinstance(rule, int) else rule[0]
                        there = self._anywhere.get(key)
                        if there is None:
                            there = self._anywhere[key] = {}
                        if effects[first] == ALLOW and there.get(name, first) >= first:
                            there[name] = first

    def here(self, places: Iterable[Inner], keys: Sequence[int]) -> str:
        """Who may make a call where it was made, by the rules in ``places``: the first few that are come across."""
        effects, told = self._index.effects, []
        cells = (cell for names in places for cell in islice(names.values(), _LOOKED_AT))
        for cell in cells:
            for key in keys:
                if key in cell:
                    rule = cell[key]
                    first = rule if isinstance(rule, int) else rule[0]
                    if effects[first] == ALLOW:
                        told.append(self._text(first, "sub"))
                        if len(told) == _TOLD:
                            return f"it needs {' or '.join(told)}"
        return f"it needs {told[0]}" if told else ""

    def elsewhere(self, keys: Sequence[int]) -> Mapping[str, int]:
        """Subject -> the first rule by which it may make a call somewhere."""
        found: dict[str, int] = {}
        for key in keys:
            for name, rule in self._anywhere.get(key, _NOBODY).items():
                if found.get(name, rule) >= rule and self._index.effects[rule] == ALLOW:
                    found[name] = rule
        return found

    def told_elsewhere(self, rule: int) -> str:
        """What to say of ``rule``, one of those that :meth:`elsewhere` found; -1: none."""
        return f"the caller may do it in {self._text(rule, 'dom')}" if rule >= 0 else ""

    def _text(self, rule: int, name: str) -> str:
        key = rule if name == "sub" else -rule - 1
        text = self._texts.get(key)
        if text is None:
            line = self._lines[self._index.lines[rule]]
            text = f"{line.fields[self._names.index(name)]} ({line.place.path}:{line.place.line})"
            if len(self._texts) >= _TEXTS_LIMIT:
                self._texts.clear()
            self._texts[key] = text
        return text
