"""``authz policy matrix``."""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path
from typing import Any

from authz.admin.access import Matrix, matrix
from authz.admin.matrix_page import matrix_page
from authz.admin.source import open_bundle
from authz.admin.words import BadWord, namespace_of
from authz.call import Scope
from authz.cli.policy.shown import add_bundle, add_format, add_now, paint, print_json, usage
from authz.decision.base import Effect
from authz.policy.revision import NOWHERE


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.epilog = (
        "examples:\n"
        "  authz policy matrix -n shop\n"
        "  authz policy matrix --format csv > access.csv\n"
        "  authz policy matrix --format html --output access.html\n\n"
        "The page loads nothing: one file that can be sent to anyone.\n\n"
        "exit codes: 0 always, 4 the bundle cannot be used"
    )
    parser.add_argument("subjects", nargs="*", metavar="SUBJECT", help="only these (default: all in the bundle)")
    parser.add_argument("-n", "--namespace", help="in the terminal: this namespace (default: any that has no rule)")
    parser.add_argument("-o", "--output", metavar="FILE", help="write here, not to the standard output")
    add_bundle(parser)
    add_now(parser)
    add_format(parser, "csv", "html")
    parser.set_defaults(run=run)


def run(options: Any) -> int:
    """Run the command."""
    revision = open_bundle(options.bundle)
    found = matrix(revision, options.subjects, options.at)
    if options.output:
        with Path(options.output).open("w", encoding="utf-8", newline="") as file:
            return _write(found, options, file)
    return _write(found, options, sys.stdout)


def _write(found: Matrix, options: Any, file: Any) -> int:
    if options.format == "html":
        file.write(matrix_page(found, Path(options.bundle).resolve().name))
    elif options.format == "csv":
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("subject", "namespace", "method", "access", "effect", "rule", "place"))
        writer.writerows(_rows(found))
    elif options.format == "json":
        names = ("subject", "namespace", "method", "access", "effect", "rule", "rule_src")
        print_json([dict(zip(names, row, strict=True)) for row in _rows(found)])
    else:
        return _terminal(found, options.namespace)
    return 0


def _rows(found: Matrix) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for (s, n, m), rule in found.cells.items():
        line, effect = found.rules[rule]
        rows.append(
            (
                found.subjects[s],
                found.namespaces[n],
                found.methods[m],
                found.entries[m].access.value,
                effect.value,
                line.text,
                f"{line.place.path}:{line.place.line}",
            )
        )
    return rows


def _terminal(found: Matrix, namespace: str | None) -> int:
    """A grid of methods by subjects, in the class of one namespace. What touches no namespace is in ``@cluster``."""
    try:
        name = namespace_of(namespace) if namespace is not None else "*"
    except BadWord as exc:
        return usage(exc)
    at = _class_of(found.namespaces, name)
    width = max(len(method.rpartition("/")[2]) for method in found.methods) + 2
    print(f"in {name if name != '*' else 'any namespace without a rule of its own'}")
    print(" " * width + "  ".join(paint(subject, "bold") for subject in found.subjects))
    for m, method in enumerate(found.methods):
        if name != NOWHERE and found.entries[m].scope is Scope.CLUSTER:
            continue
        cells = []
        for s, subject in enumerate(found.subjects):
            rule = found.cells.get((s, at, m))
            effect = found.rules[rule][1] if rule is not None else None
            mark = {Effect.ALLOW: paint("yes", "green"), Effect.DENY: paint("NO ", "red"), None: paint("-  ", "dim")}[
                effect
            ]
            cells.append(mark + " " * (len(subject) - 3))
        print(f"{method.rpartition('/')[2]:<{width}}" + "  ".join(cells).rstrip())
    return 0


def _class_of(labels: tuple[str, ...], name: str) -> int:
    if name in labels:
        return labels.index(name)
    fitting = [label for label in labels if label.endswith("*") and name.startswith(label[:-1])]
    return labels.index(max(fitting, key=len))
