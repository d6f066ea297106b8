"""NearMisses: what a denied call came close to: the same call for somebody else, or the same caller somewhere else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice, product
from typing import Final

from authz.decision.index import Cell, Index
from authz.decision.rules import ALLOW
from authz.decision.selector import Request
from authz.policy.lines import PolicyLine
from authz.policy.model import Model

_TOLD: Final = 2
_LOOKED_AT: Final = 8
_TEXTS_LIMIT: Final = 4096


class NearMisses:
    """Near misses of questions to ``index``, which has one branch, with the subject looked up last."""

    __slots__ = ("_elsewhere", "_fields", "_index", "_lines", "_names", "_texts")

    def __init__(self, index: Index, lines: Sequence[PolicyLine], model: Model) -> None:
        self._index = index
        self._lines = lines
        self._names = model.policies["p"]
        self._texts: dict[int, str] = {}
        branch = index.branches[0]
        keys = [field for field in branch.selectors if field != branch.last]
        domain = model.request.index("dom") if "dom" in model.request else -1
        kept = [at for at, field in enumerate(keys) if domain not in branch.selectors[field].uses]
        self._fields = [keys[at] for at in kept]
        self._elsewhere: dict[tuple[str, ...], dict[str, int]] = {}
        if len(kept) == len(keys):
            return
        effects = index.effects
        for key, cell in branch.cells.items():
            there = self._elsewhere.setdefault(tuple([key[at] for at in kept]), {})
            for subject, rule in cell.items():
                first = rule if isinstance(rule, int) else rule[0]
                if effects[first] == ALLOW and there.get(subject, first) >= first:
                    there[subject] = first

    def here(self, cells: Iterable[Cell]) -> str:
        """Who may make the call where it was made."""
        rules = []
        for cell in cells:
            for rule in islice(cell.values(), _LOOKED_AT):
                first = rule if isinstance(rule, int) else rule[0]
                if self._index.effects[first] == ALLOW:
                    rules.append(first)
        return self._told("it needs", rules, "sub")

    def elsewhere(self, request: Request, subjects: frozenset[str]) -> str:
        """Where the caller who is ``subjects`` may make the call."""
        selectors = self._index.branches[0].selectors
        rules = []
        for key in product(*(selectors[field].find(request) for field in self._fields)):
            there = self._elsewhere.get(key)
            if there:
                rules += [there[subject] for subject in there.keys() & subjects]
        return self._told("the caller may do it in", rules, "dom")

    def _told(self, beginning: str, rules: Iterable[int], name: str) -> str:
        told = sorted(set(rules))[:_TOLD]
        return f"{beginning} {' or '.join(self._text(rule, name) for rule in told)}" if told else ""

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
