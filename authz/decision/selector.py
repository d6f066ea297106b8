"""Selector: from a request to the values that one field of a matching rule can have.

A matcher is a conjunction of conditions, most of them about one field of the rule: ``r.obj == p.obj``,
``g(r.sub, p.sub)``, ``keyMatch(r.dom, p.dom)``, or several of these joined by ``||``. Read backwards, each says which
of the values that stand in the policy a matching rule can have: a few dictionary look-ups in place of a scan.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import takewhile
from typing import Any, Final, Protocol

from authz.decision.roles import Roles
from authz.policy.matcher import FUNCTIONS

Request = Sequence[str]
Row = Sequence[str]
Condition = Callable[[Request, Row], bool]

_NONE: Final = ()


class NotCompilable(Exception):  # noqa: N818
    """A part of the matcher can only be evaluated by Casbin; the text says which part and why."""


class Selector(Protocol):
    """One or more conditions on one field of the rule."""

    uses: frozenset[int]
    """Positions of the request's fields that it looks at."""
    raises: bool
    """Whether :meth:`find` may raise for some requests."""
    open: bool
    """Whether a request's value may find others though no line of the policy has it."""
    tried: Collection[str]
    """Patterns that are tried one by one, as nothing but trying rules them out."""

    def find(self, request: Request) -> Collection[str]:
        """The values that stand in the policy and fulfil the condition for ``request``."""
        ...


class Equal:
    """``r.x == p.y``."""

    raises = False
    open = False
    tried: Collection[str] = ()

    def __init__(self, position: int, values: Collection[str]) -> None:
        self.uses = frozenset((position,))
        self._position = position
        self._values = values

    def find(self, request: Request) -> Collection[str]:
        """At most the request's own value."""
        value = request[self._position]
        return (value,) if value in self._values else _NONE


class Fixed:
    """``p.y == "text"``."""

    raises = False
    open = True
    tried: Collection[str] = ()

    uses: frozenset[int] = frozenset()

    def __init__(self, text: str, values: Collection[str]) -> None:
        self._found = (text,) if text in values else _NONE

    def find(self, request: Request) -> Collection[str]:  # noqa: ARG002
        """At most the text."""
        return self._found


class Member:
    """``g(r.x, p.y)`` or ``g(r.x, p.y, r.domain)``."""

    raises = False
    open = False
    tried: Collection[str] = ()

    def __init__(self, roles: Roles, position: int, domain: int | None, values: Collection[str]) -> None:
        self.uses = frozenset((position,) if domain is None else (position, domain))
        self._roles = roles
        self._position = position
        self._domain = domain
        self._values = frozenset(values)

    def find(self, request: Request) -> Collection[str]:
        """What the request's value is, directly or through its roles."""
        name = request[self._position]
        domain = "" if self._domain is None else str(request[self._domain])
        if not self._roles.knows(name, domain):
            return (name,) if name in self._values else _NONE
        return self._roles.reached(name, domain) & self._values


class Prefix:
    """``keyMatch(r.x, p.y)``: values without a star are names, the others count up to their first star."""

    raises = False
    open = True
    tried: Collection[str] = ()

    def __init__(self, position: int, values: Iterable[str]) -> None:
        self.uses = frozenset((position,))
        self._position = position
        self._names: set[str] = set()
        self._patterns: dict[str, tuple[str, ...]] = {}
        for value in values:
            before, star, _ = value.partition("*")
            if star:
                self._patterns[before] = (*self._patterns.get(before, ()), value)
            else:
                self._names.add(value)
        self._lengths = sorted({len(before) for before in self._patterns})

    def find(self, request: Request) -> Collection[str]:
        """The name, and every pattern that the request's value begins with."""
        value = request[self._position]
        found = [value] if value in self._names else []
        patterns, longest = self._patterns, len(value)
        for length in self._lengths:
            if length > longest:
                break
            if matching := patterns.get(value[:length]):
                found += matching
        return found


class Tested:
    """Any other condition on one field: each value that stands in the policy is tried.

    Of an anchored pattern, the plain text that it begins with sorts out most values before they are tried.
    """

    raises = True
    open = True

    def __init__(
        self,
        uses: frozenset[int],
        test: Callable[[Request, str], bool],
        values: Iterable[str],
        *,
        patterns: bool = False,
    ) -> None:
        self.uses = uses
        self._test = test
        self._values = tuple(values)
        self.tried: Collection[str] = self._values if patterns else ()

    def find(self, request: Request) -> Collection[str]:
        """Every value that passes."""
        test = self._test
        return [value for value in self._values if test(request, value)]


class Pattern:
    """``regexMatch(r.x, p.y)`` and its like: only values that begin like the request's value are tried."""

    raises = True
    open = True

    def __init__(self, position: int, match: Callable[[str, str], bool], values: Iterable[str]) -> None:
        self.uses = frozenset((position,))
        self._position = position
        self._match = match
        self._values: dict[str, list[str]] = {}
        for value in values:
            self._values.setdefault(_plain_beginning(value), []).append(value)
        self._lengths = sorted({len(beginning) for beginning in self._values})
        self.tried: Collection[str] = self._values.get("", ())

    def find(self, request: Request) -> Collection[str]:
        """Every value that matches."""
        text, match, values = request[self._position], self._match, self._values
        beginnings = (text[:length] for length in self._lengths if length <= len(text))
        return [value for beginning in beginnings for value in values.get(beginning, _NONE) if match(text, value)]


def _plain_beginning(pattern: str) -> str:
    """Text that whatever matches ``pattern`` begins with, in each of Casbin's pattern languages; often empty."""
    if "|" in pattern or "?" in pattern or "\\" in pattern:
        return ""
    plain = "".join(takewhile(lambda character: character.isalnum() or character in "/_-", pattern))
    # What follows may make the last character optional, as `*` does in a regular expression.
    return plain if len(plain) == len(pattern) else plain[:-1]


class Either:
    """Conditions joined by ``||``."""

    def __init__(self, selectors: Sequence[Selector]) -> None:
        self.uses = frozenset().union(*(each.uses for each in selectors))
        self.raises = any(each.raises for each in selectors)
        self.open = any(each.open for each in selectors)
        self.tried: Collection[str] = frozenset().union(*(each.tried for each in selectors))
        self._selectors = selectors

    def find(self, request: Request) -> Collection[str]:
        """Every value that fulfils one of them."""
        found: dict[str, None] = {}
        for each in self._selectors:
            for value in each.find(request):
                found[value] = None
        return found.keys()


class Both:
    """Conditions joined by ``&&``."""

    def __init__(self, first: Selector, second: Selector) -> None:
        self.uses = first.uses | second.uses
        self.raises = first.raises or second.raises
        self.open = first.open or second.open
        self.tried: Collection[str] = {*first.tried, *second.tried}
        self._first = first
        self._second = second

    def find(self, request: Request) -> Collection[str]:
        """Every value that fulfils both."""
        found = set(self._first.find(request))
        return [value for value in self._second.find(request) if value in found]


def _only_casbin(node: ast.expr) -> NotCompilable:
    spelled = re.sub(r"\b([rp])_", r"\1.", ast.unparse(node))
    return NotCompilable(f"`{spelled}` is evaluated by Casbin")


class Language:
    """What the names in a matcher stand for: fields of the request and the rule, roles, and functions.

    Args:
        request: names of the request's fields.
        policy: names of the rule's fields.
        roles: role type -> roles.
        functions: Casbin's functions by name.
    """

    def __init__(
        self,
        request: Sequence[str],
        policy: Sequence[str],
        roles: Mapping[str, Roles],
        functions: Mapping[str, Callable[..., Any]],
    ) -> None:
        self._request = {f"r_{name}": position for position, name in enumerate(request)}
        self._policy = {f"p_{name}": position for position, name in enumerate(policy)}
        self._roles = roles
        self._functions = functions

    def fields(self, node: ast.expr) -> tuple[frozenset[int], frozenset[int]]:
        """Positions of the request's and of the rule's fields that ``node`` looks at."""
        names = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
        return (
            frozenset(self._request[name] for name in names if name in self._request),
            frozenset(self._policy[name] for name in names if name in self._policy),
        )

    def selector(self, node: ast.expr, values: Collection[str]) -> Selector:
        """A selector for the condition ``node``, which looks at one field of the rule.

        Args:
            node: the condition.
            values: what stands in that field of some rule.

        Raises:
            NotCompilable: only Casbin can evaluate the condition.
        """
        if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.Or):
            if all(self.fields(part)[1] for part in node.values):
                return Either([self.selector(part, values) for part in node.values])
        elif isinstance(node, ast.Compare) and len(node.ops) == 1 and isinstance(node.ops[0], ast.Eq):
            for one, other in ((node.left, node.comparators[0]), (node.comparators[0], node.left)):
                if isinstance(one, ast.Name) and one.id in self._policy:
                    if isinstance(other, ast.Name) and other.id in self._request:
                        return Equal(self._request[other.id], values)
                    if isinstance(other, ast.Constant) and isinstance(other.value, str):
                        return Fixed(other.value, values)
        elif isinstance(node, ast.Call) and (found := self._called(node, values)):
            return found
        test = self.condition(node)
        width = len(self._policy)
        return Tested(self.fields(node)[0], lambda request, value: test(request, (value,) * width), values)

    def _called(self, node: ast.Call, values: Collection[str]) -> Selector | None:
        names = [arg.id if isinstance(arg, ast.Name) else "" for arg in node.args]
        if not isinstance(node.func, ast.Name) or len(names) not in (2, 3) or node.keywords:
            return None
        if names[0] not in self._request or names[1] not in self._policy:
            return None
        position = self._request[names[0]]
        roles = self._roles.get(node.func.id)
        if roles is not None:
            if len(names) == 3 and names[2] not in self._request:
                return None
            domain = self._request[names[2]] if len(names) == 3 and roles.domains else None
            return Member(roles, position, domain, values)
        if len(names) == 3:
            return None
        if node.func.id == "keyMatch":
            return Prefix(position, values)
        if node.func.id in FUNCTIONS and node.func.id != "timeMatch":
            match = self._functions[node.func.id]
            if node.func.id in ("ipMatch", "globMatch"):
                uses = frozenset((position,))
                return Tested(uses, lambda request, value: match(request[position], value), values, patterns=True)
            return Pattern(position, match, values)
        return None

    def condition(self, node: ast.expr) -> Condition:
        """``node`` as a function of a request and a rule.

        Raises:
            NotCompilable: only Casbin can evaluate it.
        """
        if isinstance(node, ast.BoolOp):
            parts = [self.condition(part) for part in node.values]
            if isinstance(node.op, ast.And):
                return lambda request, row: all(part(request, row) for part in parts)
            return lambda request, row: any(part(request, row) for part in parts)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            operand = self.condition(node.operand)
            return lambda request, row: not operand(request, row)
        if isinstance(node, ast.Compare) and len(node.ops) == 1:
            return self._compared(node.left, node.ops[0], node.comparators[0])
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
            return self._condition_of_call(node.func.id, [self._value(arg) for arg in node.args])
        raise _only_casbin(node)

    def _compared(self, left: ast.expr, operator: ast.cmpop, right: ast.expr) -> Condition:
        one = self._value(left)
        if isinstance(operator, ast.In) and isinstance(right, ast.List | ast.Tuple):
            among = [self._value(each) for each in right.elts]
            return lambda request, row: any(one(request, row) == each(request, row) for each in among)
        other = self._value(right)
        if isinstance(operator, ast.Eq):
            return lambda request, row: one(request, row) == other(request, row)
        if isinstance(operator, ast.NotEq):
            return lambda request, row: one(request, row) != other(request, row)
        raise _only_casbin(ast.Compare(left, [operator], [right]))

    def _condition_of_call(self, name: str, values: list[Callable[[Request, Row], str]]) -> Condition:
        roles = self._roles.get(name)
        if roles is not None and len(values) in (2, 3):
            if len(values) == 3 and roles.domains:
                return lambda request, row: roles.has(*(value(request, row) for value in values))
            return lambda request, row: roles.has(values[0](request, row), values[1](request, row))
        if roles is None and name in FUNCTIONS and name != "timeMatch" and len(values) == 2:
            match = self._functions[name]
            return lambda request, row: bool(match(values[0](request, row), values[1](request, row)))
        raise NotCompilable(f"`{name}` is evaluated by Casbin")

    def _value(self, node: ast.expr) -> Callable[[Request, Row], str]:
        if isinstance(node, ast.Name) and node.id in self._request:
            position = self._request[node.id]
            return lambda request, _: request[position]
        if isinstance(node, ast.Name) and node.id in self._policy:
            position = self._policy[node.id]
            return lambda _, row: row[position]
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
            return lambda _, __: text
        raise _only_casbin(node)
