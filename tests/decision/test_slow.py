"""Which rules cost more than a look-up, and what is said of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from authz.admin.check import check
from authz.decision.slow import calls_patterns, slow_rules
from authz.policy.load import load_bundle
from tests.bundle import MODEL, write_bundle

PATTERNS = MODEL.replace("keyMatch(r.obj, p.obj)", "regexMatch(r.obj, p.obj)")
SPECIAL = MODEL.rstrip() + (
    ' || (g(r.sub, "role:special") && p.sub == "role:special" && keyMatch(r.dom, p.dom) && keyMatch(r.obj, p.obj)'
    ' && r.act + "" == p.act)\n'
)
BY_CASBIN = MODEL.rstrip() + ' && r.act + "" == p.act\n'

RULES = """\
p, role:a, *, ^/shop[.]Orders/Get$, read, allow
p, role:b, *, .*/Get, read, allow
p, role:special, *, /shop.Orders/.*, *, allow
# a comment
p, role:c, *, (/shop.Orders/)?Put, write, allow
"""
MANY = "".join(f"p, role:r{number}, *, .*/Get{number}?, read, allow\n" for number in range(9))

CASES = [
    # a model, a policy, and for each finding its line (0: in the model) and what it says
    (MODEL, "p, role:a, *, *, read, allow\n", []),
    (PATTERNS, "p, role:a, *, /shop.Orders/Get, read, allow\n", []),
    (
        PATTERNS,
        RULES,
        [(1, ["3 of 4 rules are found by trying `obj`", "; also policy.csv:2, policy.csv:5"])],
    ),
    (PATTERNS, MANY, [(0, ["all rules (9) are found by trying `obj` on every call not decided before"])]),
    (
        PATTERNS,
        "p, role:a, *, /shop.Orders/Get, read, allow\n" + MANY,
        [(2, ["9 of 10 rules are", "; also policy.csv:3, policy.csv:4, policy.csv:5 and 5 more"])],
    ),
    (
        SPECIAL,
        RULES.replace("^/shop[.]Orders/Get$", "*").replace(".*/Get", "*").replace("/.*", "/*").replace("(/", "/")
        .replace(")?", ""),
        [(3, ["1 of 4 rules is evaluated by Casbin", "`r.act + ''` is evaluated by Casbin"])],
    ),
    (SPECIAL, "p, role:a, *, *, read, allow\n", [(0, ["no rule is yet evaluated by Casbin"])]),
    (BY_CASBIN, "p, role:a, *, *, read, allow\n", [(0, ["all rules (1) are evaluated by Casbin, one by one"])]),
]  # fmt: skip


@pytest.mark.parametrize(("model", "policy", "expected"), CASES)
def test_slow_rules_are_named(tmp_path: Path, model: str, policy: str, expected: list[tuple[int, list[str]]]) -> None:
    folder = write_bundle(tmp_path / "b", policy, model=model)
    found = slow_rules(load_bundle(folder))
    assert len(found) == len(expected)
    for problem, (line, texts) in zip(found, expected, strict=True):
        assert Path(problem.place.path).name == ("policy.csv" if line else "model.conf")
        assert problem.place.line == line or not line
        for text in texts:
            assert text in problem.message
    told = [(each.place, each.message) for each in check(folder).findings if each.code == "AZ209"]
    assert told == [(each.place, each.message) for each in found]


def test_only_functions_on_patterns_are_asked_about(tmp_path: Path) -> None:
    assert not calls_patterns(load_bundle(write_bundle(tmp_path / "a")))
    assert calls_patterns(load_bundle(write_bundle(tmp_path / "b", model=PATTERNS)))
