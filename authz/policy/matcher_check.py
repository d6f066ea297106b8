"""MatcherCheck: what a bundle's matcher forgets to ask.

A matcher is enough for a call by any one of its alternatives: what stands on one side of a `||`, with everything that
is joined to it by `&&`. Each of them has to ask who calls, and must overlook no field of the rule that it goes by. The
bracket that is forgotten around a `||` makes an alternative that asks hardly anything.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from typing import Final

from authz.errors import Problem
from authz.policy.check import REQUEST_FIELDS
from authz.policy.ending import FUNCTION
from authz.policy.lines import PolicyLines
from authz.policy.matcher import is_name
from authz.policy.model import Model, PolicyEffect

_WHO: Final = "who"
_CONDITIONS: Final = {
    "sub": "r.sub == p.sub",
    "dom": "keyMatch(r.dom, p.dom)",
    "obj": "keyMatch(r.obj, p.obj)",
    "act": "r.act == p.act",
}


@dataclass(frozen=True, slots=True)
class _Condition:
    """One condition of a matcher: no `&&`, `||` or `!` around it; ``wanted``: whether it has to hold, or not to."""

    tree: ast.expr
    wanted: bool

    def __str__(self) -> str:
        text = re.sub(r"\b([rp])_", r"\1.", ast.unparse(self.tree))
        return text if self.wanted else f"!({text})"

    @property
    def asked(self) -> frozenset[str]:
        """What it looks at: names like ``r_sub`` and ``p_sub``; ``who``, ``any_p_act`` and ``else_dom``, see below."""
        names = {node.id for node in ast.walk(self.tree) if isinstance(node, ast.Name)}
        found = {name for name in names if name[:2] in ("r_", "p_")}
        wanted, constant = self.wanted, ""
        if isinstance(self.tree, ast.Compare) and len(self.tree.ops) == 1:
            wanted = wanted != isinstance(self.tree.ops[0], ast.NotEq)
            sides = (self.tree.left, self.tree.comparators[0])
            constant = next((str(each.value) for each in sides if isinstance(each, ast.Constant)), "")
        if _calls(self.tree, "eval"):
            # the rule itself says what it asks
            return frozenset({*found, _WHO, *(f"r_{name}" for name in REQUEST_FIELDS)})
        if "r_sub" in found and wanted:
            # what must not be the caller lets everybody else in
            found.add(_WHO)
        if constant and wanted and not constant.startswith(("role:", "user:")):
            # the rule itself says that it is about any: p.act == "*"
            found |= {f"any_{name}" for name in found if name[:2] == "p_"}
        if any(name[:2] == "p_" and name[2:] not in REQUEST_FIELDS for name in found):
            # the request is compared with another field of the rule: r.sub == p.owner
            found |= {f"else_{name[2:]}" for name in found if name[:2] == "r_"}
        return frozenset(found)


_Alternatives = dict[frozenset[str], tuple[_Condition, ...]]


class MatcherCheck:
    """Checks the matcher ``tree`` of ``model``, whose policy has ``lines``.

    Attributes:
        problems: what must be repaired.
        warnings: what is suspicious and still loads.
    """

    def __init__(self, model: Model, tree: ast.expr, lines: PolicyLines) -> None:
        self._model = model
        self._place = model.places["m"]
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        self._ends = {
            name.id
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and is_name(node.func, FUNCTION)
            for name in ast.walk(node)
            if isinstance(name, ast.Name) and name.id.startswith("p_")
        }
        alternatives = _alternatives(tree)
        missing = {asked: dict.fromkeys(self._missing(asked)) for asked in alternatives}
        everywhere = [name for name in next(iter(missing.values())) if all(name in each for each in missing.values())]
        if everywhere:
            self._never_asked(everywhere)
        told: set[tuple[str, ...]] = set()
        for asked, conditions in alternatives.items():
            here = tuple(name for name in missing[asked] if name not in everywhere)
            if here and here not in told:
                told.add(here)
                message = f"`{_text(conditions)}` is enough for `m`, and does not look at {_listed(here)}"
                remedy = "put brackets around what stands on both sides of `||`, or ask for it there, too"
                self.problems.append(Problem(self._place, message, remedy))
            elif not missing[asked] and not any(name[:2] == "p_" for name in asked):
                message = f"`{_text(conditions)}` is enough for `m`, so every rule matches then, also each denial"
                self.warnings.append(Problem(self._place, message, "write rules for that caller, and leave it out"))
        if not _calls(tree, "eval"):
            self._unused_roles(tree, lines)

    def _missing(self, asked: frozenset[str]) -> Iterable[str]:
        """What the alternative that looks at ``asked`` forgets to look at."""
        if _WHO not in asked and "any_p_sub" not in asked:
            yield "r.sub"
        if not any(name[:2] == "p_" for name in asked):
            return
        for name in self._model.policies["p"]:
            field = f"p_{name}"
            if name in REQUEST_FIELDS or field in self._ends:
                if field not in asked and f"else_{name}" not in asked:
                    yield f"p.{name}"
                elif name in self._model.request and not asked & {f"r_{name}", f"any_{field}", _WHO * (name == "sub")}:
                    yield f"r.{name}"

    def _never_asked(self, missing: list[str]) -> None:
        names = list(dict.fromkeys(name[2:] for name in missing))
        remedy = "add " + " && ".join(f"`{self._condition(name)}`" for name in names)
        if "sub" not in names:
            remedy += f", or leave {' and '.join(f'`{name}`' for name in names)} out of `p`"
        self.problems.append(Problem(self._place, f"`m` does not look at {_listed(missing)}", remedy))

    def _condition(self, name: str) -> str:
        if name == "sub" and "g" in self._model.roles:
            return "g(r.sub, p.sub)"
        return _CONDITIONS.get(name, f"{FUNCTION}(p.{name})")

    def _unused_roles(self, tree: ast.expr, lines: PolicyLines) -> None:
        by_rank = self._model.effect is PolicyEffect.SUBJECT_PRIORITY
        unused = {key for key in self._model.roles if not _calls(tree, key) and not (by_rank and key == "g")}
        if not unused:
            return
        for index, row in enumerate(lines.rows()):
            if row[0] in unused:
                unused.discard(row[0])
                message = f"`m` never calls `{row[0]}`, so its lines count for nothing: {lines.place(index)}"
                remedy = f"write `{row[0]}(r.sub, p.sub)` or the like, or remove the lines"
                self.problems.append(Problem(self._place, message, remedy))


def _alternatives(tree: ast.expr, *, wanted: bool = True) -> _Alternatives:
    """The alternatives of ``tree``: what is looked at, and the conditions; of those that look at the same, one."""
    if isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.Not):
        return _alternatives(tree.operand, wanted=not wanted)
    if not isinstance(tree, ast.BoolOp):
        condition = _Condition(tree, wanted)
        return {condition.asked: (condition,)}
    parts = [_alternatives(part, wanted=wanted) for part in tree.values]
    if isinstance(tree.op, ast.Or) == wanted:
        return _first(pair for part in parts for pair in part.items())
    found: _Alternatives = {frozenset(): ()}
    for part in parts:
        pairs = product(found.items(), part.items())
        found = _first((one | other, (*first, *second)) for (one, first), (other, second) in pairs)
    return found


def _first(alternatives: Iterable[tuple[frozenset[str], tuple[_Condition, ...]]]) -> _Alternatives:
    found: _Alternatives = {}
    for asked, conditions in alternatives:
        found.setdefault(asked, conditions)
    return found


def _listed(missing: Iterable[str]) -> str:
    why = ": every caller would be the same" if "r.sub" in missing else ""
    return " and ".join(f"`{name}`" for name in missing) + why


def _text(conditions: Iterable[_Condition]) -> str:
    return " && ".join(map(str, conditions))


def _calls(tree: ast.expr, function: str) -> bool:
    return any(isinstance(node, ast.Call) and is_name(node.func, function) for node in ast.walk(tree))
