"""Test: does a policy bundle answer as its own ``tests.yaml`` says?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

from authz.admin.cases import Case, read_cases, read_now
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
    def coverage(self) -> float:
        """The share of the rules that decided some case, from 0 to 1."""
        rules = sum(line.ptype == "p" for line in self.revision.lines)
        return 1 - len(self.untested) / rules if rules else 1.0

    @property
    def failures(self) -> tuple[Outcome, ...]:
        """The outcomes that are not what they must be."""
        return tuple(outcome for outcome in self.outcomes if not outcome.passed)

    @property
    def passed(self) -> bool:
        """Whether every outcome is what it must be."""
        return all(outcome.passed for outcome in self.outcomes)


def run_tests(bundle: Path, tests: Path | None = None, only: str = "") -> Results:
    """Ask the policy bundle in the folder ``bundle`` every case of its ``tests.yaml``, or of the file ``tests``.

    Args:
        bundle: the folder.
        tests: another file of tests.
        only: ask the tests alone whose name, caller, namespace or method holds this text.

    Raises:
        PolicyError: the bundle or the file cannot be used.
        EvaluationError: a case could not be decided.
    """
    revision = load_bundle(bundle)
    file = bundle / TESTS if tests is None else tests
    cases = read_cases(file, revision)
    now = read_now(file)
    authorizer = authorizer_for(revision) if now is None else authorizer_for(revision, lambda: now)
    if only:
        cases = tuple(c for c in cases if any(only in t for t in (c.test, c.caller, c.namespace, c.call.method)))
    outcomes = tuple(Outcome(case, authorizer.authorize(case.claims, case.call)) for case in cases)
    used = {outcome.verdict.rule.place for outcome in outcomes if outcome.verdict.rule}
    untested = tuple(line for line in revision.lines if line.ptype == "p" and line.place not in used)
    return Results(revision, outcomes, untested)


def junit(results: Results) -> str:
    """``results`` as JUnit XML: one test case for each call, with its test and caller as the class name."""
    suite = ElementTree.Element("testsuite", name=str(results.revision.path))
    suite.set("tests", str(len(results.outcomes)))
    suite.set("failures", str(len(results.failures)))
    for outcome in results.outcomes:
        case = outcome.case
        name = f"{case.caller} in {case.namespace}: {case.call.method}"
        entry = ElementTree.SubElement(suite, "testcase", classname=case.test, name=name)
        entry.set("file", case.place.path)
        entry.set("line", str(case.place.line))
        if not outcome.passed:
            ElementTree.SubElement(entry, "failure", message=str(outcome)).text = str(outcome)
    ElementTree.indent(suite)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(suite, encoding="unicode") + "\n"
