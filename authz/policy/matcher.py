"""Matcher: the expression of a Casbin model as a syntax tree, and what can be read off it without deciding anything."""

from __future__ import annotations

import ast
import re
from typing import Final

from authz.document import did_you_mean
from authz.errors import PolicyError, Problem
from authz.policy.ending import FUNCTION
from authz.policy.model import Model

FUNCTIONS: Final = frozenset(
    {"keyMatch", "keyMatch2", "keyMatch3", "keyMatch4", "keyMatch5", "regexMatch", "ipMatch", "globMatch", "timeMatch"}
)
"""The functions that every Casbin brings along."""

_TOKEN: Final = re.compile(r"""("[^"\\]*"|'[^'\\]*')|(["'\\])|(&&)|(\|\|)|(!(?!=))|\b([rp])\.""")
_DEPTH_LIMIT: Final = 100
_PYTHON: Final = {3: " and ", 4: " or ", 5: " not "}


def parse_matcher(model: Model) -> ast.expr:
    """The matcher of ``model`` as a Python expression over names like ``r_sub`` and ``p_obj``.

    The tree is the one that Casbin for Python evaluates.

    Raises:
        PolicyError: it is no expression, or uses a field or function that nobody defines.
    """

    def translate(match: re.Match[str]) -> str:
        if match[1]:
            if re.search(r"&&|\|\||!|\b[rp]\.", match[1]):
                raise PolicyError.at(model.places["m"], f"{match[1]} holds an operator, which Casbin would translate")
            return match[1]
        if match[2]:
            raise PolicyError.at(model.places["m"], "`m` has a text that does not end, or a backslash")
        return f"{match[6]}_" if match[6] else _PYTHON[match.lastindex or 0]

    text = _TOKEN.sub(translate, model.matcher)
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as exc:
        reason = exc.msg if isinstance(exc, SyntaxError) else str(exc) or "nested too deep"
        raise PolicyError.at(model.places["m"], f"`m` is no expression: {reason}") from None
    if _is_deep(tree):
        raise PolicyError.at(model.places["m"], "`m` is no expression: nested too deep", "write fewer brackets")
    if problems := _unknown_names(model, tree):
        raise PolicyError(problems)
    return tree


def _is_deep(tree: ast.expr) -> bool:
    """Whether ``tree`` is nested deeper than whoever walks through it can go."""
    level: list[ast.AST] = [tree]
    for _ in range(_DEPTH_LIMIT):
        level = [below for node in level for below in ast.iter_child_nodes(node)]
    return bool(level)


def _unknown_names(model: Model, tree: ast.expr) -> list[Problem]:
    fields = {f"r_{name}": f"r.{name}" for name in model.request}
    fields |= {f"p_{name}": f"p.{name}" for name in model.policies["p"]}
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    problems = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Name) or node.id in fields:
            continue
        if node.id in called:
            known = {*model.roles, *FUNCTIONS, FUNCTION, "eval"}
            if node.id not in known:
                message = f"`m` calls `{node.id}`, which nobody defines"
                problems.append(Problem(model.places["m"], message, did_you_mean(node.id, known)))
        else:
            name = f"{node.id[0]}.{node.id[2:]}" if node.id[:2] in ("r_", "p_") else node.id
            remedy = did_you_mean(name, fields.values())
            problems.append(Problem(model.places["m"], f"`m` uses `{name}`, which nobody defines", remedy))
    return problems


def uses(tree: ast.expr, function: str, left: str, right: str) -> bool:
    """Whether ``tree`` somewhere holds ``function(left, right)``, perhaps with further arguments."""
    return any(
        isinstance(node, ast.Call)
        and len(node.args) >= 2
        and is_name(node.func, function)
        and is_name(node.args[0], left)
        and is_name(node.args[1], right)
        for node in ast.walk(tree)
    )


def constants(tree: ast.expr, name: str) -> set[str]:
    """The texts that ``tree`` compares the field ``name`` (``p_act``) with."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and isinstance(node.ops[0], ast.Eq):
            for one, other in ((node.left, node.comparators[0]), (node.comparators[0], node.left)):
                if is_name(one, name) and isinstance(other, ast.Constant) and isinstance(other.value, str):
                    found.add(other.value)
    return found


def is_name(node: ast.expr, name: str) -> bool:
    """Whether ``node`` is the name ``name``."""
    return isinstance(node, ast.Name) and node.id == name
