"""``authz policy test``."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from authz.admin.test import TESTS, Results, junit, run_tests
from authz.cli.policy.shown import add_format, paint, place_json, print_json, usage
from authz.errors import PolicyError
from authz.policy.watch import DirectorySource


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.epilog = (
        f"The tests stand in {TESTS} beside the policy: callers x namespaces x methods, and what must be answered.\n"
        "`now:` in that file fixes the clock.\n\n"
        "exit codes: 0 passed, 3 failed, 4 bundle or tests cannot be used"
    )
    parser.add_argument("bundle", nargs="?", default=".", help="the bundle's folder (default: the current folder)")
    parser.add_argument("--tests", metavar="FILE", help=f"another file of tests than {TESTS}")
    parser.add_argument("-k", "--filter", default="", metavar="TEXT", help="tests, callers, ... that hold this text")
    parser.add_argument("--junit", metavar="FILE", help="write the results as JUnit XML, too")
    parser.add_argument("--min-coverage", type=float, default=0, metavar="PERCENT", help="fail below this share")
    parser.add_argument("--watch", action="store_true", help="test again whenever a file changes, until Ctrl-C")
    add_format(parser)
    parser.set_defaults(run=run)


def run(options: Any) -> int:
    """Run the command."""
    bundle = Path(options.bundle)
    tests = Path(options.tests) if options.tests else None
    if not options.watch:
        return _once(bundle, tests, options)
    source, seen = DirectorySource(bundle), object()
    file = tests or bundle / TESTS
    while True:
        stat = file.stat() if file.exists() else None
        now = (source.signature(), stat and (stat.st_mtime_ns, stat.st_size, stat.st_ino))
        if now != seen:
            seen = now
            try:
                _once(bundle, tests, options)
            except PolicyError as exc:
                print(exc)
            print(paint("waiting for a change; Ctrl-C ends", "dim"), flush=True)
        time.sleep(0.3)


def _once(bundle: Path, tests: Path | None, options: Any) -> int:
    results = run_tests(bundle, tests, options.filter)
    if not results.outcomes:
        return usage(f"no test holds `{options.filter}`")
    if options.junit:
        Path(options.junit).write_text(junit(results), encoding="utf-8")
    if options.format == "json":
        print_json(_json(results))
    else:
        _print(results, complete=not options.filter)
    short = not options.filter and results.coverage * 100 < options.min_coverage
    if short and options.format == "text":
        print(paint(f"coverage is below {options.min_coverage:g}%", "red"))
    return 0 if results.passed and not short else 3


def _print(results: Results, *, complete: bool) -> None:
    for failure in results.failures:
        print(f"{paint('failed', 'red')} {failure}")
    passed = len(results.outcomes) - len(results.failures)
    word = paint("passed", "green") if results.passed else "passed"
    print(f"{passed} of {len(results.outcomes)} calls {word}")
    if complete:
        rules = sum(line.ptype == "p" for line in results.revision.lines)
        print(f"rule coverage: {rules - len(results.untested)} of {rules} rules decided a call")
        for line in results.untested:
            print(f"  {paint('untested', 'yellow')} {line.place.path}:{line.place.line}: {line.text}")


def _json(results: Results) -> dict[str, Any]:
    return {
        "bundle": str(results.revision.path),
        "revision": results.revision.id,
        "passed": results.passed,
        "calls": len(results.outcomes),
        "failures": [
            {
                "test": each.case.test,
                "caller": each.case.caller,
                "namespace": each.case.namespace,
                "method": each.case.call.method,
                "expected": each.case.expected.value,
                "said": each.verdict.effect.value,
                "rule": each.verdict.rule.text if each.verdict.rule else None,
                "rule_src": str(each.verdict.rule) if each.verdict.rule else None,
                **place_json(each.case.place),
            }
            for each in results.failures
        ],
        "coverage": round(results.coverage, 4),
        "untested": [{"rule": line.text, **place_json(line.place)} for line in results.untested],
    }
