"""Test: does a policy bundle answer as its own ``tests.yaml`` says?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from authz.admin.cases import Case, read_cases
from authz.decision import authorizer_for
from authz.decision.base import Verdict
from authz.policy.load import load_bundle
from authz.policy.revision import PolicyLine, Revision

TESTS: Final = "tests.yaml"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the policy said of one case. ``str()`` is one line for a person."""

    case: Case
    verdict: Verdict

    @property
    def passed(self) -> bool:
        """Whether it said what it must."""
        return self.verdict.effect is self.case.expected

    def __str__(self) -> str:
        case, verdict = self.case, self.verdict
        why = f"{verdict.rule.place}: {verdict.rule.text}" if verdict.rule else verdict.detail or verdict.reason
        said = f"must be {case.expected.value}, is {verdict.effect.value}"
        return f"{case.place}: {case.caller} in {case.namespace}, {case.call.method}: {said} ({why})"


@dataclass(frozen=True, slots=True)
class Results:
    """What the policy said of every case.

    Attributes:
        revision: the bundle, as it was tested.
        outcomes: one for each case, in the order of the file.
        untested: rules that decided no case: nothing would notice if they were lost.
    """

    revision: Revision
    outcomes: tuple[Outcome, ...]
    untested: tuple[PolicyLine, ...]

    @property
    def failures(self) -> tuple[Outcome, ...]:
        """The outcomes that are not what they must be."""
        return tuple(outcome for outcome in self.outcomes if not outcome.passed)

    @property
    def passed(self) -> bool:
        """Whether every outcome is what it must be."""
        return all(outcome.passed for outcome in self.outcomes)


def run_tests(bundle: Path, tests: Path | None = None) -> Results:
    """Ask the policy bundle in the folder ``bundle`` every case of its ``tests.yaml``, or of the file ``tests``.

    Raises:
        PolicyError: the bundle or the file cannot be used.
        EvaluationError: a case could not be decided.
    """
    revision = load_bundle(bundle)
    cases = read_cases(bundle / TESTS if tests is None else tests, revision)
    authorizer = authorizer_for(revision)
    outcomes = tuple(Outcome(case, authorizer.authorize(case.claims, case.call)) for case in cases)
    used = {outcome.verdict.rule.place for outcome in outcomes if outcome.verdict.rule}
    untested = tuple(line for line in revision.lines if line.ptype == "p" and line.place not in used)
    return Results(revision, outcomes, untested)
