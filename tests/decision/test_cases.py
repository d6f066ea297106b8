"""The examples of the Casbin projects: every request as expected, through the index wherever it applies."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from authz.decision.casbin import Matcher
from authz.decision.index import Index
from authz.decision.rules import ALLOW, Rules, resolve
from authz.policy.model import read_model
from tests.decision.stock import enforcer, lines_of, role_functions

DATA = Path(__file__).parents[3] / "shared" / "data" / "casbin_cases.json"
SHARE = 0.8


@pytest.fixture(scope="module")
def cases() -> list[dict[str, Any]]:
    if not DATA.exists():
        if os.environ.get("CI") == "true":
            pytest.fail("the examples of the Casbin projects are not beside the repository")
        pytest.skip("the examples of the Casbin projects are not beside the repository")
    found: list[dict[str, Any]] = json.loads(DATA.read_text())
    return found


def test_every_request_of_every_example(cases: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    requests = compiled = 0
    wrong = []
    for case in cases:
        rules = Rules(read_model(case["model"], case["name"]), lines_of(case["policy"]).rows())
        index = Index(rules)
        setup = case.get("setup", ())
        fast = not setup and not index.slow
        compiled += fast
        matcher = Matcher(rules, role_functions(enforcer(case["model"], case["policy"], setup)) if setup else None)
        for request, expected in zip(case["requests"], case["expected"], strict=True):
            requests += 1
            found = matcher.found(request, range(len(rules.rows)))
            if not rules.rows:
                found, effect = [0] * matcher.matches(request, [""] * len(rules.model.policies["p"])), bytes((ALLOW,))
            else:
                effect = rules.effects
            answers = {"casbin": resolve(rules.model.effect, found, effect)[0] == ALLOW}
            if fast:
                answers["index"] = index.decide(request)[0] == ALLOW
            wrong += [(case["name"], request, way) for way, answer in answers.items() if answer is not expected]
    with capsys.disabled():
        print(
            f"\ncasbin examples: {requests} requests, {compiled} of {len(cases)} compiled ({compiled / len(cases):.0%})"
        )
    assert not wrong
    assert compiled / len(cases) >= SHARE
