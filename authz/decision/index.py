"""Index: the rules of a policy, found by what a request asks instead of by a scan.

What a rule says in each field that the matcher asks about is a key: first the namespace, then whatever is asked apart
from the subject, and of the few rules that are left, whom each is for. A request leads to a few keys, whatever the
number of rules.
"""

from __future__ import annotations

import ast
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import product
from operator import itemgetter
from typing import Final

from casbin.model import FunctionMap

from authz.decision.callers import Name
from authz.decision.rules import ALLOW, Rules, decides, resolve
from authz.decision.selector import Both, Condition, Language, NotCompilable, Request, Row, Selector
from authz.policy.distributions import refuse_two_casbins
from authz.policy.ending import without_end
from authz.policy.lines import let_go, parts
from authz.policy.matcher import parse_matcher

Cell = int | tuple[int, ...] | dict[Name, int | tuple[int, ...]]
"""The rules that say the same but for whom they are: one, a few, or many by their subjects."""
Place = Mapping[int, Cell]
"""Number of what rules say apart from namespace and subject -> those that say so."""
_FEW: Final = 8
_BRANCHES_LIMIT: Final = 16
_ALL: Final = ("",)

refuse_two_casbins()


class Index:
    """The rules of ``rules``, by what the matcher asks of them.

    Attributes:
        slow: why the rules that are found must still be evaluated by Casbin; empty: they need not be.
        branches: one for each alternative of a matcher that is a chain of ``||``.
        effects: for each rule, ALLOW, DENY or NEITHER.
        ends: for each rule that ends, when, in seconds since the epoch; what follows is not the index's to know.
        lines: for each rule, which line of the policy it is.
    """

    __slots__ = ("_condition", "_effect", "_empty", "_rows", "branches", "effects", "ends", "lines", "slow")

    def __init__(self, rules: Rules, *, consume: bool = False, fill: bool = True) -> None:
        """
        Args:
            rules: the rules.
            consume: empty ``rules.rows`` if they are not needed again, before as much memory is taken anew.
            fill: False leaves :meth:`fill` to the caller.
        """
        # a rule that has ended has no effect; whether it matches is not asked
        tree = without_end(parse_matcher(rules.model))
        functions = FunctionMap.load_function_map().get_functions()
        language = Language(rules.model.request, rules.model.policies["p"], rules.roles, functions)
        alternatives = [tree]
        if isinstance(tree, ast.BoolOp) and isinstance(tree.op, ast.Or) and len(tree.values) <= _BRANCHES_LIMIT:
            alternatives = tree.values
        self.branches = [Branch(language, each, rules) for each in alternatives]
        self.slow = "; ".join(dict.fromkeys(branch.slow for branch in self.branches if branch.slow))
        self.effects = rules.effects
        self.ends = rules.ends
        self.lines = array("I", rules.lines)
        self._effect = rules.model.effect
        self._rows: Sequence[Row] = rules.rows
        self._condition: Condition | None = None if self.slow else language.condition(tree)
        self._empty = ("",) * len(rules.model.policies["p"])
        if consume and not self.slow and all(branch.total for branch in self.branches):
            let_go(rules.rows)
        if fill:
            self.fill()

    def fill(self) -> None:
        """Put the rules where they are found."""
        for branch in self.branches:
            branch.fill()

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
        found: list[int] = []
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


class _Column:
    """What the rules say in some fields, as numbers: far smaller than the rules themselves.

    Attributes:
        values: each combination of texts that some rule has.
        rules: for each rule, which of them.
    """

    __slots__ = ("rules", "values")

    def __init__(self, rows: Sequence[Row], fields: Sequence[int]) -> None:
        numbers: dict[object, int] = {}
        self.rules = array("I")
        for part in parts(rows):
            keys = list(map(itemgetter(*fields), part)) if fields else [""] * len(part)
            for key in dict.fromkeys(keys):
                if key not in numbers:
                    numbers[key] = len(numbers)
            self.rules.extend(map(numbers.__getitem__, keys))
        # Copies: were they the rows' own texts, these few would keep the rows' memory from being given back.
        self.values = [tuple(map(_copy, key if isinstance(key, tuple) else (key,))) for key in numbers]
        if not fields:
            self.values = [()]


class Branch:
    """One alternative of a matcher.

    Attributes:
        slow: why the rules found must still be evaluated by Casbin, or empty.
        total: whether the rules' fields are never looked at again.
        selectors: position of a rule's field -> what finds its values.
        outer: the field that is looked up first, the namespace's; -1: there is none.
        inner: the field that is looked up second, the subject's; -1: there is none.
        rest: the other fields, which are looked up last, together.
        places: value of ``outer`` -> number of the values of ``rest`` -> rules.
        names: each value of ``inner``.
        subjects: for each rule, which of ``names`` it is for.
    """

    __slots__ = (
        "_columns",
        "_count",
        "_filters",
        "_guards",
        "_numbers",
        "_rows",
        "inner",
        "names",
        "outer",
        "places",
        "rest",
        "selectors",
        "slow",
        "subjects",
        "total",
    )

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
                        values[field] = dict.fromkeys(map(_copy, {row[field]: None for row in rules.rows}))
                    selector = language.selector(part, values[field].keys())
                    before = self.selectors.get(field)
                    self.selectors[field] = Both(before, selector) if before else selector
                else:
                    (self._filters if fields else self._guards).append(language.condition(part))
            except NotCompilable as exc:
                self.slow = f"{self.slow}; {exc}" if self.slow else str(exc)
        self._count = len(rules.rows)
        sure = not self.slow and not any(each.raises for each in self.selectors.values())
        self.total = sure and not self._filters and not self._guards

        names = rules.model.request
        self.inner = next((at for at, each in self.selectors.items() if _uses(each, names, "sub")), -1)
        self.outer = next(
            (at for at, each in self.selectors.items() if at != self.inner and _uses(each, names, "dom")), -1
        )
        self.rest = sorted(self.selectors.keys() - {self.inner, self.outer})
        self._numbers: dict[tuple[str, ...], int] = {}
        inner = _Column(rules.rows, [self.inner] if self.inner >= 0 else [])
        self.names: list[Name] = [_only(values) for values in inner.values]
        self.subjects = inner.rules
        self._columns = [_Column(rules.rows, [self.outer] if self.outer >= 0 else []), _Column(rules.rows, self.rest)]
        self.places: dict[str, dict[int, Cell]] = {}

    def subject(self, rule: int) -> Name:
        """Whom ``rule`` is for."""
        return self.names[self.subjects[rule]]

    def rename(self, name_of: Callable[[str], Name]) -> None:
        """Name subjects as ``name_of`` says, before :meth:`fill`. From then on, :meth:`found` finds nobody."""
        self.names = [name_of(str(name)) for name in self.names]

    def fill(self) -> None:
        """Put the rules into their cells. The rules' own fields may have been let go before."""
        outer, rest = self._columns
        names, subjects = self.names, self.subjects
        # One object for each number: a look-up that finds the very object compares nothing.
        numbers = list(range(len(rest.values)))
        self._numbers = dict(zip(rest.values, numbers, strict=True))
        places: list[dict[int, Cell]] = [{} for _ in outer.values]
        for rule, (at, number) in enumerate(zip(outer.rules, rest.rules, strict=True)):
            place, key = places[at], numbers[number]
            before = place.get(key)
            if before is None:
                place[key] = rule
            elif isinstance(before, int):
                place[key] = (before, rule)
            elif isinstance(before, dict):
                _add(before, names[subjects[rule]], rule)
            elif len(before) < _FEW:
                place[key] = (*before, rule)
            else:
                many = place[key] = {}
                for each in (*before, rule):
                    _add(many, names[subjects[each]], each)
        self.places = {_only(values): place for values, place in zip(outer.values, places, strict=True)}
        del self._columns

    def forget_rows(self) -> None:
        """Let go of the rules' fields."""
        self._rows = ()

    def places_at(self, request: Request) -> list[Place]:
        """What ``outer`` leads to."""
        values = self.selectors[self.outer].find(request) if self.outer >= 0 else _ALL
        return [place for value in values if (place := self.places.get(value)) is not None]

    def keys_of(self, request: Request) -> list[int]:
        """The numbers to look up last."""
        ways = product(*[self.selectors[field].find(request) for field in self.rest])
        return [number for values in ways if (number := self._numbers.get(values)) is not None]

    def found(self, request: Request) -> Collection[int]:
        """The rules that match ``request``, in no order; with ``slow``, perhaps more."""
        if self._guards and not all(guard(request, ()) for guard in self._guards):
            return ()
        if not self.selectors:
            rules: Collection[int] = range(self._count)
        else:
            wanted = frozenset(self.selectors[self.inner].find(request) if self.inner >= 0 else _ALL)
            keys = self.keys_of(request)
            cells = [place[key] for place in self.places_at(request) for key in keys if key in place]
            rules = self.among(cells, wanted)
        if not self._filters:
            return rules
        rows, filters = self._rows, self._filters
        return [rule for rule in rules if all(each(request, rows[rule]) for each in filters)]

    def among(self, cells: Iterable[Cell], names: Collection[Name]) -> list[int]:
        """The rules in ``cells`` for one of ``names``, in no order."""
        found: list[int] = []
        for cell in cells:
            if isinstance(cell, dict):
                for name in cell.keys() & names:
                    found += rules_in(cell[name])
            else:
                found += [rule for rule in rules_in(cell) if self.subject(rule) in names]
        return found


def rules_in(cell: Cell) -> Iterable[int]:
    """Every rule in ``cell``."""
    if isinstance(cell, int):
        return (cell,)
    if isinstance(cell, dict):
        return (rule for rules in cell.values() for rule in ((rules,) if isinstance(rules, int) else rules))
    return cell


def _add(many: dict[Name, int | tuple[int, ...]], name: Name, rule: int) -> None:
    before = many.get(name)
    if before is None:
        many[name] = rule
    else:
        many[name] = (*before, rule) if isinstance(before, tuple) else (before, rule)


def _uses(selector: Selector, names: Sequence[str], name: str) -> bool:
    """Whether ``selector`` looks at the request's field ``name``."""
    return name in names and names.index(name) in selector.uses


def _copy(text: str) -> str:
    return (text + " ")[:-1]


def _only(values: tuple[str, ...]) -> str:
    return values[0] if values else ""


def _conjunction(node: ast.expr) -> Iterator[ast.expr]:
    """The conditions that ``node`` joins by ``&&``."""
    if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.And):
        for part in node.values:
            yield from _conjunction(part)
    else:
        yield node
