"""Ours and stock Casbin agree on whatever can be said: generated models and policies, every request asked of both.

The last part breaks the compiler on purpose, in the ways that would hurt most, and shows that these tests notice.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Collection, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from authz.decision import index as index_module
from authz.decision import rules as rules_module
from authz.decision.callers import Name
from authz.decision.casbin import Matcher
from authz.decision.index import Branch, Cell, Index, rules_in
from authz.decision.roles import Roles
from authz.decision.rules import ALLOW, DENY, NEITHER, Rules, resolve
from authz.decision.selector import Prefix
from authz.policy.model import PolicyEffect, read_model
from tests.decision.corpus import corpus
from tests.decision.generated import Example, examples
from tests.decision.stock import enforcer, lines_of

QUIET = settings(deadline=None, suppress_health_check=list(HealthCheck), database=None)
CI = settings(QUIET, max_examples=300)


def decide(rules: Rules, index: Index, matcher: Matcher, request: Sequence[str]) -> tuple[bool, int]:
    """Our answer, and the rule that decided (-1: none)."""
    if index.slow:
        found = matcher.found(request, index.found(request))
        if not rules.rows:
            found = [0] * matcher.matches(request, [""] * len(rules.model.policies["p"]))
            return resolve(rules.model.effect, found, bytes((ALLOW,)))[0] == ALLOW, -1
        outcome, rule = resolve(rules.model.effect, found, rules.effects)
    else:
        outcome, rule = index.decide(request)
    return outcome == ALLOW, rule if rules.rows else -1


def agree(example: Example) -> None:
    """Ours and stock Casbin agree on ``example``, also on the rule that decided, where Casbin tells."""
    stock = enforcer(example.model, example.policy)
    rules = Rules(read_model(example.model, "model"), lines_of(example.policy).rows())
    index, matcher = Index(rules), Matcher(rules)
    index.forget_rows()
    for request in example.requests:
        try:
            expected, explained = stock.enforce_ex(*request)
        except Exception:
            continue
        answer, rule = decide(rules, index, matcher, request)
        assert answer is expected, (example, request)
        if rule >= 0 and (rules.effects[rule] == DENY or rules.model.effect is not PolicyEffect.ALLOW_AND_DENY):
            assert list(rules.rows[rule]) == explained, (example, request)


@CI
@given(examples())
def test_what_compiles(example: Example) -> None:
    agree(example)


@settings(QUIET, max_examples=150)
@given(examples(slow=True))
def test_what_does_not_compile(example: Example) -> None:
    agree(example)


def missing(what: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(what)
    pytest.skip(what)


def test_the_casbin_of_another_language(tmp_path: Path) -> None:
    node, npm = shutil.which("node"), shutil.which("npm")
    here = Path(__file__).parent
    if node is None or npm is None:
        missing("there is no Node on this machine: apt install nodejs npm")
    if not (here / "node_modules" / "casbin").is_dir():
        install = [str(npm), "install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--silent"]
        done = subprocess.run(install, cwd=here, capture_output=True, text=True, timeout=100, check=False)
        if done.returncode:
            missing(f"the packages of tests/decision/package.json cannot be installed: {done.stderr[-2000:]}")
    (tmp_path / "corpus.json").write_text(json.dumps(corpus(60)))
    script = Path(__file__).with_name("corpus.cjs")
    asked = subprocess.run([str(node), script, tmp_path / "corpus.json"], capture_output=True, text=True, check=False)
    assert asked.returncode == 0, asked.stdout + asked.stderr


def drop_denials(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(effect: PolicyEffect, found: Sequence[int], effects: bytes) -> tuple[int, int]:
        return resolve(effect, [rule for rule in found if effects[rule] != DENY], effects)

    monkeypatch.setattr(index_module, "resolve", forgetful)


def swap_effects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules_module, "_EFFECTS", {"allow": DENY, "deny": ALLOW})


def unanchor_patterns(monkeypatch: pytest.MonkeyPatch) -> None:
    def anywhere(prefix: Prefix, request: Sequence[str]) -> list[str]:
        value = request[prefix._position]
        found = [name for name in prefix._names if name == value]
        return found + [each for before, all_ in prefix._patterns.items() if before in value for each in all_]

    monkeypatch.setattr(Prefix, "find", anywhere)


def stop_at_the_first_role(monkeypatch: pytest.MonkeyPatch) -> None:
    def near(roles: Roles, name: str, domain: str = "") -> frozenset[str]:
        return frozenset((name, *roles.parents(name, domain)))

    monkeypatch.setattr(Roles, "reached", near)


def lose_the_second_rule_of_a_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    def first(self: Branch, cells: Iterable[Cell], names: Collection[Name]) -> list[int]:
        return [rule for cell in cells for rule in islice(rules_in(cell), 1) if self.subject(rule) in names]

    monkeypatch.setattr(Branch, "among", first)


def let_the_last_rule_win(monkeypatch: pytest.MonkeyPatch) -> None:
    def last(effect: PolicyEffect, found: Sequence[int], effects: bytes) -> tuple[int, int]:
        return resolve(effect, list(reversed(found)), effects)

    monkeypatch.setattr(index_module, "resolve", last)


def doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    """No fault: without one, the tests are silent."""
    assert monkeypatch
    assert NEITHER == 0


FAULTS = [
    drop_denials,
    swap_effects,
    unanchor_patterns,
    stop_at_the_first_role,
    lose_the_second_rule_of_a_cell,
    let_the_last_rule_win,
]


@pytest.mark.parametrize("fault", [*FAULTS, doubt])
def test_a_fault_in_the_compiler_is_noticed(fault: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fault(monkeypatch)

    @settings(
        QUIET,
        max_examples=2500 if fault is not doubt else 200,
        phases=[Phase.generate],
        report_multiple_bugs=False,
        derandomize=True,
    )
    @given(examples())
    def suite(example: Example) -> None:
        agree(example)

    if fault is doubt:
        suite()
    else:
        with pytest.raises(AssertionError):
            suite()
