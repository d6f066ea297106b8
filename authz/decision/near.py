"""NearMisses: what a denied call came close to: the same call for somebody else, or the same caller somewhere else."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import islice
from typing import Final

from authz.decision.index import Index, Inner
from authz.decision.rules import ALLOW
from authz.policy.lines import PolicyLine
from authz.policy.model import Model

_TOLD: Final = 2
_LOOKED_AT: Final = 8
_TEXTS_LIMIT: Final = 4096


class NearMisses:
    """Near misses of questions to ``index``, which has one branch, with the subject looked up by itself."""

    __slots__ = ("_anywhere", "_index", "_lines", "_names", "_texts")

    def __init__(self, index: Index, lines: Sequence[PolicyLine], model: Model) -> None:
        self._index = index
        self._lines = lines
        self._names = model.policies["p"]
        self._texts: dict[int, str] = {}
        # What subjects may do in some namespace or other: the index without its first field.
        self._anywhere: dict[str, dict[tuple[str, ...], int]] = {}
        branch, effects = index.branches[0], index.effects
        if branch.outer < 0 or self._names[branch.outer] != "dom":
            return
        for names in branch.cells.values():
            for name, cell in names.items():
                there = self._anywhere.setdefault(name, {})
                for key, rule in cell.items():
                    first = rule if isinstance(rule, int) else rule[0]
                    if effects[first] == ALLOW and there.get(key, first) >= first:
                        there[key] = first

    def here(self, names: Iterable[Inner], keys: Iterable[tuple[str, ...]]) -> str:
        """Who may make a call where it was made."""
        rules = []
        for each in names:
            for cell in islice(each.values(), _LOOKED_AT):
                for key in keys:
                    rule = cell.get(key, -1)
                    first = rule if isinstance(rule, int) else rule[0]
                    if first >= 0 and self._index.effects[first] == ALLOW:
                        rules.append(first)
        return self._told("it needs", rules, "sub")

    def elsewhere(self, keys: Iterable[tuple[str, ...]], subjects: frozenset[str]) -> str:
        """Where the caller who is ``subjects`` may make a call."""
        rules = []
        for name in self._anywhere.keys() & subjects:
            there = self._anywhere[name]
            rules += [rule for key in keys if (rule := there.get(key, -1)) >= 0]
        return self._told("the caller may do it in", rules, "dom")

    def _told(self, beginning: str, rules: Collection[int], name: str) -> str:
        if not rules:
            return ""
        told = sorted(set(rules))[:_TOLD]
        return f"{beginning} {' or '.join([self._text(rule, name) for rule in told])}"

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
