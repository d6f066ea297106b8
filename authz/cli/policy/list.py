"""``authz policy list``."""

from __future__ import annotations

import argparse
from typing import Any

from authz.admin.access import list_access
from authz.admin.caller import NoSubject, claims_of
from authz.admin.source import open_bundle
from authz.admin.words import BadWord, namespace_of
from authz.cli.policy.shown import add_bundle, add_format, add_now, print_json, usage
from authz.cli.policy.who_can import grant_json, print_grants
from authz.decision.base import Effect


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.epilog = "exit codes: 0 it may do something, 3 it may do nothing, 4 the bundle cannot be used"
    parser.add_argument("subject", help="user:<prefix><subject>, role:<name>, role:authenticated or role:everyone")
    parser.add_argument("-n", "--namespace", help="in this namespace alone, or @cluster")
    add_bundle(parser)
    add_now(parser)
    add_format(parser)
    parser.set_defaults(run=run)


def run(options: Any) -> int:
    """Run the command."""
    revision = open_bundle(options.bundle)
    try:
        namespace = None if options.namespace is None else namespace_of(options.namespace)
        claims_of(options.subject, "somewhere")
    except (BadWord, NoSubject) as exc:
        return usage(exc)
    found = list_access(revision, options.subject, namespace, options.at)
    if options.format == "json":
        grants = [grant_json(each) for each in found]
        print_json({"subject": options.subject, "policy_version": revision.id, "grants": grants})
    else:
        print_grants(found, ("namespaces", "methods"))
    return 0 if any(each.effect is Effect.ALLOW for each in found) else 3
