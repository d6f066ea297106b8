"""Index: the rules of a policy, found by what a request asks instead of by a scan.

Each rule stands in a cell: the cell's key is what the rule says in every field that the matcher asks about, but one;
that last one (the subject, where there is one) is looked up inside the cell. A request leads to a few cells, whatever
the number of rules.
"""

from __future__ import annotations

import ast
from array import array
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import product
from typing import Final

from casbin.model import FunctionMap

from authz.decision.rules import ALLOW, Rules, decides, resolve
from authz.decision.selector import Both, Condition, Language, NotCompilable, Request, Row, Selector
from authz.policy.matcher import parse_matcher

Cell = Mapping[str, int | tuple[int, ...]]
_BRANCHES_LIMIT: Final = 16


class Index:
    """The rules of ``rules``, by what the matcher asks of them.

    Attributes:
        slow: why the rules that are found must still be evaluated by Casbin; empty: they need not be.
        branches: one for each alternative of a matcher that is a chain of ``||``.
        effects: for each rule, ALLOW, DENY or NEITHER.
        lines: for each rule, which line of the policy it is.
    """

    __slots__ = ("_condition", "_effect", "_empty", "_rows", "branches", "effects", "lines", "slow")

    def __init__(self, rules: Rules) -> None:
        tree = parse_matcher(rules.model)
        functions = FunctionMap.load_function_map().get_functions()
        language = Language(rules.model.request, rules.model.policies["p"], rules.roles, functions)
        alternatives = [tree]
        if isinstance(tree, ast.BoolOp) and isinstance(tree.op, ast.Or) and len(tree.values) <= _BRANCHES_LIMIT:
            alternatives = tree.values
        self.branches = [Branch(language, each, rules) for each in alternatives]
        self.slow = "; ".join(dict.fromkeys(branch.slow for branch in self.branches if branch.slow))
        self.effects = rules.effects
        self.lines = array("I", rules.lines)
        self._effect = rules.model.effect
        self._rows: Sequence[Row] = rules.rows
        self._condition: Condition | None = None if self.slow else language.condition(tree)
        self._empty = ("",) * len(rules.model.policies["p"])

    def forget_rows(self) -> None:
        """Let go of the rules' fields where no branch needs them again."""
        if not self.slow and all(branch.total for branch in self.branches):
            self._rows = ()
            for branch in self.branches:
                branch.forget_rows()

    def found(self, request: Request) -> Sequence[int]:
        """The rules that match ``request``, ascending; with ``slow``, all that match and perhaps some that do not.

        Raises:
            Exception: whatever one of Casbin's functions raises for this request, if Casbin would get that far.
        """
        try:
            if len(self.branches) == 1:
                return sorted(self.branches[0].found(request))
            return sorted({rule for branch in self.branches for rule in branch.found(request)})
        except Exception:
            # A function refused a value that Casbin, rule by rule and from left to right, may never show to it.
            if self._condition is None:
                return range(len(self.effects))
            if not self._rows:
                raise
            return self._scanned(request, self._condition)

    def _scanned(self, request: Request, condition: Condition) -> list[int]:
        found = []
        for rule, row in enumerate(self._rows):
            if condition(request, row):
                found.append(rule)
                if decides(self._effect, self.effects[rule]):
                    break
        return found

    def decide(self, request: Request) -> tuple[int, int]:
        """What Casbin's ``enforce`` would say: ALLOW, DENY or NEITHER, and the rule that says so (-1: none).

        Raises:
            Exception: whatever one of Casbin's functions raises for this request.
        """
        if not self.effects and self._condition is not None:
            # Without any rule, Casbin asks the matcher about one whose fields are all empty.
            return resolve(self._effect, [0] if self._condition(request, self._empty) else [], bytes((ALLOW,)))
        return resolve(self._effect, self.found(request), self.effects)


class Branch:
    """One alternative of a matcher.

    Attributes:
        slow: why the rules found must still be evaluated by Casbin, or empty.
        total: whether the rules' fields are never looked at again.
        selectors: position of a rule's field -> what finds its values.
        last: the position that is looked up inside a cell; -1: there is none.
    """

    __slots__ = ("_all", "_filters", "_guards", "_keys", "_rows", "cells", "last", "selectors", "slow", "total")

    def __init__(self, language: Language, node: ast.expr, rules: Rules) -> None:
        self._rows: Sequence[Row] = rules.rows
        self.slow = ""
        self.selectors: dict[int, Selector] = {}
        self._guards: list[Condition] = []
        self._filters: list[Condition] = []
        values: dict[int, dict[str, None]] = {}
        for part in _conjunction(node):
            fields = language.fields(part)[1]
            try:
                if len(fields) == 1:
                    (field,) = fields
                    if field not in values:
                        values[field] = dict.fromkeys(row[field] for row in rules.rows)
                    selector = language.selector(part, values[field].keys())
                    before = self.selectors.get(field)
                    self.selectors[field] = Both(before, selector) if before else selector
                else:
                    (self._filters if fields else self._guards).append(language.condition(part))
            except NotCompilable as exc:
                self.slow = f"{self.slow}; {exc}" if self.slow else str(exc)
        self.total = not self._filters and not self.slow and not any(each.raises for each in self.selectors.values())
        self.last = self._last_field(rules, values)
        self._keys = [field for field in self.selectors if field != self.last]
        self.cells = self._cells(rules.rows)
        self._all = range(len(rules.rows))

    def _last_field(self, rules: Rules, values: Mapping[int, Collection[str]]) -> int:
        if not self.selectors:
            return -1
        subject = rules.model.request.index("sub") if "sub" in rules.model.request else -1
        for field, selector in self.selectors.items():
            if subject in selector.uses:
                return field
        return max(self.selectors, key=lambda field: len(values[field]))

    def _cells(self, rows: Sequence[Row]) -> dict[tuple[str, ...], Cell]:
        cells: dict[tuple[str, ...], dict[str, int | tuple[int, ...]]] = {}
        last, keys = self.last, self._keys
        if last < 0:
            return {}
        for rule, row in enumerate(rows):
            key = tuple([row[field] for field in keys])
            cell = cells.get(key)
            if cell is None:
                cell = cells[key] = {}
            before = cell.get(row[last])
            if before is None:
                cell[row[last]] = rule
            else:
                cell[row[last]] = (*before, rule) if isinstance(before, tuple) else (before, rule)
        return dict(cells)

    @property
    def has_guards(self) -> bool:
        """Whether there are conditions on the request alone."""
        return bool(self._guards)

    def forget_rows(self) -> None:
        """Let go of the rules' fields."""
        self._rows = ()

    def reached(self, request: Request) -> Iterator[Cell]:
        """The cells that ``request`` leads to; what is looked up inside is not looked at."""
        found = [self.selectors[field].find(request) for field in self._keys]
        ways = 1
        for each in found:
            ways *= len(each)
        cells = self.cells
        if ways <= len(cells):
            for key in product(*found):
                cell = cells.get(key)
                if cell is not None:
                    yield cell
        else:
            sets = [frozenset(each) for each in found]
            for key, cell in cells.items():
                if all(value in among for value, among in zip(key, sets, strict=True)):
                    yield cell

    def found(self, request: Request) -> Sequence[int]:
        """The rules that match ``request``, in no order; with ``slow``, perhaps more."""
        if self._guards and not all(guard(request, ()) for guard in self._guards):
            return ()
        if self.last < 0:
            rules: Sequence[int] = self._all
        else:
            names = self.selectors[self.last].find(request)
            rules = [rule for cell in self.reached(request) for rule in in_cell(cell, names)] if names else ()
        if not self._filters:
            return rules
        rows, filters = self._rows, self._filters
        return [rule for rule in rules if all(each(request, rows[rule]) for each in filters)]


def in_cell(cell: Cell, names: Collection[str]) -> Iterator[int]:
    """The rules in ``cell`` under one of ``names``; the smaller of both is walked."""
    for name in names if len(names) <= len(cell) else cell:
        if len(names) > len(cell) and name not in names:
            continue
        rule = cell.get(name)
        if rule is None:
            continue
        if isinstance(rule, tuple):
            yield from rule
        else:
            yield rule


def _conjunction(node: ast.expr) -> Iterator[ast.expr]:
    """The conditions that ``node`` joins by ``&&``."""
    if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.And):
        for part in node.values:
            yield from _conjunction(part)
    else:
        yield node
