"""``authz policy who-can``, and what it shares with ``list``: grants as a table."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import UTC, datetime
from math import isinf
from typing import Any

from authz.admin.access import Grant, who_can
from authz.admin.source import open_bundle
from authz.admin.words import BadWord, method_of, namespace_of
from authz.cli.policy.shown import add_bundle, add_format, add_now, last_names, print_json, short, table, usage
from authz.decision.base import Effect


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.epilog = (
        "role:authenticated stands for every proven caller, role:everyone for every caller. A namespace with a star\n"
        "stands for all whose name begins so, less those that have a line of their own.\n\n"
        "exit codes: 0 somebody can, 3 nobody can, 4 the bundle cannot be used"
    )
    parser.add_argument("method", help="a full method, or its last name")
    parser.add_argument("-n", "--namespace", help="in this namespace alone, or @cluster")
    add_bundle(parser)
    add_now(parser)
    add_format(parser)
    parser.set_defaults(run=run)


def run(options: Any) -> int:
    """Run the command."""
    revision = open_bundle(options.bundle)
    try:
        method = method_of(options.method, revision.catalogue)
        namespace = None if options.namespace is None else namespace_of(options.namespace)
    except BadWord as exc:
        return usage(exc)
    found = who_can(revision, method, namespace, options.at)
    if options.format == "json":
        print_json({"method": method, "policy_version": revision.id, "grants": [grant_json(each) for each in found]})
    else:
        print_grants(found, ("subject", "namespaces"))
    return 0 if any(each.effect is Effect.ALLOW for each in found) else 3


def print_grants(grants: Sequence[Grant], columns: Sequence[str]) -> None:
    """``grants`` as a table, with these columns before the effect and the rule."""
    if not grants:
        print("nobody, by no rule")
        return
    rows = []
    for each in grants:
        cells = {
            "subject": each.subject,
            "namespaces": short(each.namespaces),
            "methods": short(last_names(each.methods)),
        }
        effect = "allow" if each.effect is Effect.ALLOW else "deny"
        end = "" if isinf(each.ends) else f" until {datetime.fromtimestamp(each.ends, UTC):%Y-%m-%d %H:%M}Z"
        place = f"{each.line.place.path}:{each.line.place.line}"
        rows.append([*(cells[column] for column in columns), effect + end, place, each.line.text])
    table([*columns, "effect", "place", "rule"], rows)


def grant_json(grant: Grant) -> dict[str, Any]:
    """``grant`` as JSON."""
    return {
        "subject": grant.subject,
        "namespaces": list(grant.namespaces),
        "methods": list(grant.methods),
        "effect": grant.effect.value,
        "rule": grant.line.text,
        "rule_src": f"{grant.line.place.path}:{grant.line.place.line}",
        "ends": None if isinf(grant.ends) else f"{datetime.fromtimestamp(grant.ends, UTC):%Y-%m-%dT%H:%M:%SZ}",
    }
