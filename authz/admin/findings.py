"""Finding: one thing that a check has to say of a policy, with a code; and the waivers that answer it.

A finding is waived by a comment on the line above the one that it is about, with a reason:

    # waive AZ204: the break-glass role is meant to reach everything
    p, role:break-glass, *, *, *, allow

So is one about the model, above the line of ``model.conf``. What makes a bundle unusable (``AZ1..``) cannot be waived.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from authz.errors import Place, Problem

PAGE: Final = "docs/findings.md"
CODES: Final[Mapping[str, str]] = {
    "AZ100": "the bundle cannot be used",
    "AZ101": "a line that is no policy line",
    "AZ102": "a line with a wrong type or number of fields",
    "AZ103": "a subject or role that is none",
    "AZ104": "a namespace that is none",
    "AZ105": "a method or API group that is unknown",
    "AZ106": "an effect or access that is none",
    "AZ107": "a line that is there twice",
    "AZ108": "roles in a circle",
    "AZ109": "a role that nothing is granted to",
    "AZ110": "a fault in the model",
    "AZ111": "a fault in the catalogue",
    "AZ112": "a fault in the tests",
    "AZ200": "a warning of the loader",
    "AZ201": "a rule that no call can match",
    "AZ202": "a rule that another one covers",
    "AZ203": "an allow that a denial always overrules",
    "AZ204": "a wildcard that reaches very far",
    "AZ205": "a method that no rule allows",
    "AZ206": "a role that nobody holds",
    "AZ207": "a grant that ends soon",
    "AZ208": "a grant that has ended",
    "AZ209": "a model that is not compiled",
    "AZ210": "a waiver that nothing needs",
    "AZ211": "a model that lint cannot read",
    "AZ212": "a bundle without tests",
    "AZ213": "a user whom nobody can prove",
}
"""Every code, and what it means; each has a section of its own in docs/findings.md."""

_PATTERNS: Final = (
    ("AZ108", r"closes the circle"),
    ("AZ107", r"is the same line as"),
    ("AZ109", r"no line grants anything to"),
    ("AZ105", r"no method|API group|the catalogue knows no|matches no method|first `\*`|would not be a pattern"),
    ("AZ103", r"is no subject|is no role|names nobody|a subject is no pattern"),
    ("AZ104", r"is no namespace"),
    ("AZ106", r"is no effect|is no access|is no end"),
    ("AZ102", r"the model defines no|has \d+ fields|a field is empty"),
)
_WAIVER: Final = re.compile(r"#\s*waive\s+(AZ2\d\d(?:\s*,\s*AZ2\d\d)*)\s*:\s*(\S.*)")
_ALMOST: Final = re.compile(r"#\s*waive\b.*")


class Severity(StrEnum):
    """How bad a finding is: an error keeps the bundle from being used, a note does not count for the exit code."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding.

    Attributes:
        code: a key of :data:`CODES`.
        severity: error, warning or note.
        place: file, line and column, counted from 1.
        message: what is wrong.
        remedy: what to write instead; may be empty.
        line: the line as it is written; empty if it is about a file as a whole.
        waived: the reason of the waiver; empty if it is not waived.
    """

    code: str
    severity: Severity
    place: Place
    message: str
    remedy: str = ""
    line: str = ""
    waived: str = ""

    def __str__(self) -> str:
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{self.place}: {self.code} {self.message}{remedy}"


def error_of(problem: Problem) -> Finding:
    """The finding for what the loader refuses."""
    name = Path(problem.place.path).name
    code = "AZ110" if name == "model.conf" else "AZ111" if name == "catalogue.yaml" else ""
    code = code or ("AZ112" if name == "tests.yaml" else "")
    if not code:
        fallback = "AZ101" if problem.place.line else "AZ100"
        code = next((code for code, pattern in _PATTERNS if re.search(pattern, problem.message)), fallback)
    return Finding(code, Severity.ERROR, problem.place, problem.message, problem.remedy)


def warning_of(problem: Problem) -> Finding:
    """The finding for what the loader warns of."""
    known = (("AZ201", "never matches"), ("AZ203", "the same is allowed by another line"))
    code = next((code for code, text in known if problem.message.startswith(text)), "AZ200")
    return Finding(code, Severity.WARNING, problem.place, problem.message, problem.remedy)


def with_lines(findings: Iterable[Finding], texts: Mapping[str, str]) -> list[Finding]:
    """``findings`` with the line that each is about, each once, in the order of files and lines.

    Args:
        findings: without their lines.
        texts: path -> what the file says.
    """
    files = {path: number for number, path in enumerate(texts)}
    split = {path: text.split("\n") for path, text in texts.items()}
    found = {}
    for each in findings:
        lines = split.get(each.place.path, [])
        # what ends too early is told of the line that would have followed
        number = min(each.place.line, len(lines)) if lines else each.place.line
        place = each.place if number == each.place.line else Place(each.place.path, number, 1)
        line = lines[number - 1].rstrip("\r") if 0 < number <= len(lines) else ""
        found[each.code, place, each.message] = Finding(
            each.code, each.severity, place, each.message, each.remedy, line, each.waived
        )
    last = len(files)
    return sorted(found.values(), key=lambda f: (files.get(f.place.path, last), f.place.line, f.place.column, f.code))


def waive(findings: Sequence[Finding], texts: Mapping[str, str]) -> list[Finding]:
    """``findings`` with the reasons of their waivers, and a finding for each waiver that nothing needs."""
    waivers: dict[tuple[str, int], dict[str, str]] = {}
    places: dict[tuple[str, int, str], Place] = {}
    result: list[Finding] = []
    for path, text in texts.items():
        if "waive" not in text or not path.endswith((".csv", "model.conf")):
            continue
        pending: list[tuple[str, str, Place]] = []
        for number, raw in enumerate(text.split("\n"), 1):
            line = raw.strip()
            if match := _WAIVER.fullmatch(line):
                place = Place(path, number, raw.index("#") + 1)
                pending += [(code.strip(), match[2].strip(), place) for code in match[1].split(",")]
            elif _ALMOST.fullmatch(line):
                message = f"`{line}` waives nothing"
                remedy = "write `# waive AZ204: <why>`, on the line above the rule"
                result.append(Finding("AZ210", Severity.WARNING, Place(path, number, 1), message, remedy))
            elif line and not line.startswith("#"):
                for code, reason, place in pending:
                    waivers.setdefault((path, number), {})[code] = reason
                    places[path, number, code] = place
                pending = []
        result += [_unneeded(code, place) for code, _, place in pending]
    for each in findings:
        reason = waivers.get((each.place.path, each.place.line), {}).get(each.code, "")
        if reason and each.severity is not Severity.ERROR:
            places.pop((each.place.path, each.place.line, each.code), None)
            each = Finding(each.code, each.severity, each.place, each.message, each.remedy, each.line, reason)
        result.append(each)
    result += [_unneeded(code, place) for (_, _, code), place in places.items()]
    return with_lines(result, texts)


def _unneeded(code: str, place: Place) -> Finding:
    return Finding("AZ210", Severity.WARNING, place, f"nothing here is waived by {code}", "remove the waiver")
