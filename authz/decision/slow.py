"""Slow: the rules of a policy that cost more than a look-up, and why: for whoever edits them."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from authz.decision.index import Branch, Index
from authz.decision.rules import Rules
from authz.errors import Problem
from authz.policy.lines import PolicyLines
from authz.policy.load import MODEL
from authz.policy.matcher import FUNCTIONS, parse_matcher
from authz.policy.model import Model, read_model
from authz.policy.revision import Revision

_NAMED: Final = 3
_LOOKED_UP: Final = "keyMatch"


def slow_rules(revision: Revision) -> tuple[Problem, ...]:
    """What makes decisions by ``revision`` cost by the number of rules: each reason with the rules that it is about.

    Where it is all of them, the place is that of the matcher; else it is that of the first, and the next few are named.

    Raises:
        PolicyError: the revision's model cannot be evaluated.
    """
    model = read_model(revision.model, str(revision.path / MODEL))
    lines = revision.lines
    rows: Iterable[Sequence[str]] = (
        lines.rows() if isinstance(lines, PolicyLines) else [(line.ptype, *line.fields) for line in lines]
    )
    rules = Rules(model, rows)
    index = Index(rules, fill=False)
    names = model.policies["p"]
    found: list[Problem] = []
    for branch in index.branches:
        if branch.slow:
            what = "evaluated by Casbin, one by one, if nothing else rules them out"
            found.append(_told(revision, model, rules, _candidates(branch, rules), f"{what}: {branch.slow}"))
        for field, selector in branch.selectors.items():
            tried = frozenset(selector.tried)
            if tried:
                about = [rule for rule, row in enumerate(rules.rows) if row[field] in tried]
                what = f"found by trying `{names[field]}` on every call not decided before"
                why = "a pattern like these has no beginning to look it up by"
                found.append(_told(revision, model, rules, about, f"{what}: {why}"))
    return tuple(found)


def calls_patterns(revision: Revision) -> bool:
    """Whether the matcher calls a function of which values may have to be tried one by one."""
    tree = parse_matcher(read_model(revision.model, str(revision.path / MODEL)))
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    return bool(called & FUNCTIONS - {_LOOKED_UP})


def _candidates(branch: Branch, rules: Rules) -> list[int]:
    """The rules that ``branch`` does not rule out whatever is asked."""
    fixed = {field: frozenset(selector.find(())) for field, selector in branch.selectors.items() if not selector.uses}
    return [rule for rule, row in enumerate(rules.rows) if all(row[field] in fixed[field] for field in fixed)]


def _told(revision: Revision, model: Model, rules: Rules, about: Sequence[int], what: str) -> Problem:
    count = len(rules.rows)
    remedy = "write conditions that can be looked up: `==`, roles, or `keyMatch`"
    if len(about) == count:
        return Problem(model.places["m"], f"all rules ({count}) are {what}", remedy)
    places = sorted(rules.lines[rule] for rule in about)
    if not places:
        return Problem(model.places["m"], f"no rule is yet {what}", remedy)
    first, *further = [revision.lines[line].place for line in places[: _NAMED + 1]]
    also = [f"{Path(place.path).name}:{place.line}" for place in further]
    left = len(places) - 1 - len(also)
    text = f"{len(places)} of {count} rules {'are' if len(places) > 1 else 'is'} {what}"
    if also:
        text += f"; also {', '.join(also)}" + (f" and {left} more" if left else "")
    return Problem(first, text, remedy)
