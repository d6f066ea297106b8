"""Check: everything that is wrong or suspicious in a policy bundle, at once. Reads files, and touches nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from authz import document
from authz.admin.cases import read_callers
from authz.admin.findings import Finding, Severity, error_of, waive, warning_of, with_lines
from authz.admin.lint import Lint, roles_of
from authz.admin.reach import Beyond, Reach
from authz.decision.slow import calls_patterns, slow_rules
from authz.errors import ConfigError, Place, PolicyError, Problem
from authz.policy.collector import collector_put_off
from authz.policy.load import parse_bundle, read_files, strays
from authz.policy.revision import Revision

TESTS: Final = "tests.yaml"
_ROUNDS: Final = 8


@dataclass(frozen=True, slots=True)
class Report:
    """What a check found.

    Attributes:
        path: the bundle's folder.
        revision: the bundle, if it can be used.
        findings: everything, in the order of files and lines; what is waived included.
    """

    path: Path
    revision: Revision | None
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """What keeps the bundle from being used."""
        return tuple(each for each in self.findings if each.severity is Severity.ERROR)

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """What is suspicious, and not waived."""
        return tuple(each for each in self.findings if each.severity is Severity.WARNING and not each.waived)


def check(
    path: Path,
    *,
    lint: bool = True,
    now: float | None = None,
    soon: float = 14 * 86_400.0,
    config: Path | None = None,
) -> Report:
    """Look through the bundle in the folder ``path``.

    Args:
        path: the folder.
        lint: whether to look for what is suspicious though it loads.
        now: the moment for rules that end, in seconds since the epoch; left out: now.
        soon: seconds before its end from which on a rule is told to end soon.
        config: the server's configuration, which says whom its issuers can prove; left out: anybody may be.

    Returns:
        a report; a bundle that cannot be used is an answer too.

    Raises:
        ConfigError: the configuration cannot be used.
    """
    prefixes = None
    if config is not None:
        from authz.config.authn import read_provers

        prefixes = tuple(read_provers(document.load(config, ConfigError).section("authn")).values())
    with collector_put_off():
        return _check(path, lint, now, soon, prefixes)


def _check(path: Path, lint: bool, now: float | None, soon: float, prefixes: tuple[str, ...] | None) -> Report:
    try:
        files = read_files(path)
    except PolicyError as exc:
        return Report(path, None, tuple(map(error_of, exc.problems)))
    texts = {str(file): data.decode("utf-8", "replace") for file, data in files.items()}
    try:
        revision = parse_bundle(path, files, strays(path))
    except PolicyError as exc:
        problems = [*exc.problems, *_further(path, files, exc.problems)]
        return Report(path, None, tuple(with_lines(map(error_of, problems), texts)))
    found = [warning_of(each) for each in revision.warnings]
    if prefixes is not None:
        found += _nobodys(revision, prefixes)
    held = None
    tests = path / TESTS
    if tests.is_symlink() or tests.exists():
        try:
            held = roles_of((claims.system, claims.namespaces) for claims in read_callers(tests).values())
        except PolicyError as exc:
            found += map(error_of, exc.problems)
            if tests.is_file():
                texts[str(tests)] = tests.read_bytes().decode("utf-8", "replace")
    elif lint:
        remedy = f"write {TESTS}: what the policy must answer"
        found.append(Finding("AZ212", Severity.NOTE, Place(str(path)), "the bundle has no tests", remedy))
    if lint:
        linted = _lint(revision, held, now, soon)
        # what both see is said once: by the loader, which knows the column; but an allow that is overruled, where it is
        known = {(each.code, each.place.path, each.place.line) for each in found}
        if any(each.code == "AZ203" for each in linted):
            found = [each for each in found if each.code != "AZ203"]
        found += [each for each in linted if (each.code, each.place.path, each.place.line) not in known]
    return Report(path, revision, tuple(waive(found, texts)))


def _further(path: Path, files: Mapping[Path, bytes], known: tuple[Problem, ...]) -> list[Problem]:
    """What else is wrong, seen when the lines that were refused are left out."""
    further: list[Problem] = []
    left = dict(files)
    latest = known
    for _ in range(_ROUNDS):
        lines = {(each.place.path, each.place.line) for each in latest if each.place.line}
        changed = False
        for file, data in left.items():
            bad = {line for name, line in lines if name == str(file) and file.suffix == ".csv"}
            if bad:
                changed = True
                rows = data.split(b"\n")
                left[file] = b"\n".join(b"" if n in bad else row for n, row in enumerate(rows, 1))
        if not changed:
            break
        try:
            parse_bundle(path, left)
        except PolicyError as exc:
            # a line that was left out is missed by others: only what is wrong with a line itself counts
            latest = tuple(each for each in exc.problems if "no line" not in each.message)
            further += latest
        else:
            break
    return further


def _nobodys(revision: Revision, prefixes: tuple[str, ...]) -> Iterator[Finding]:
    """Users whom no issuer can prove: a rule about one, and so a denial, matches nobody."""
    beginnings = tuple(f"user:{prefix}" for prefix in prefixes)
    remedy = f"write `user:<prefix><subject>`, with one of the prefixes {', '.join(f'`{each}`' for each in prefixes)}"
    for line in revision.lines:
        for field in line.fields:
            if field.startswith("user:") and not field.startswith(beginnings):
                message = f"no issuer of the configuration can prove `{field}`"
                yield Finding("AZ213", Severity.WARNING, line.place, message, remedy)


def _lint(revision: Revision, held: set[str] | None, now: float | None, soon: float) -> list[Finding]:
    try:
        found = list(Lint(Reach(revision, now), held, soon).findings())
    except Beyond as exc:
        remedy = "look at calls one by one with `authz policy can`, and waive this above the line, with the reason"
        found = [Finding("AZ211", Severity.WARNING, exc.place, f"rules are not looked at: {exc.why}", remedy)]
        try:
            return found + _slow(revision)
        except PolicyError as error:
            return list(map(error_of, error.problems))
    return found + _slow(revision) if calls_patterns(revision) else found


def _slow(revision: Revision) -> list[Finding]:
    return [Finding("AZ209", Severity.NOTE, each.place, each.message, each.remedy) for each in slow_rules(revision)]
