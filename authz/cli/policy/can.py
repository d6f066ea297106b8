"""``authz policy can``."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from authz.admin.caller import NOBODY, NoSubject, claims_of
from authz.admin.can import Answer, can
from authz.admin.source import open_bundle
from authz.admin.words import BadWord, method_of, namespace_of
from authz.claims.base import Claims
from authz.cli.policy.shown import add_bundle, add_format, add_now, paint, print_json, usage
from authz.errors import AuthenticationError, MappingError


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.usage = "authz policy can [options] SUBJECT NAMESPACE METHOD"
    parser.epilog = (
        "examples:\n"
        "  authz policy can role:writer shop CreateOrder\n"
        "  authz policy can user:corp:rita @cluster /example.orders.v1.Orders/ListNamespaces --role reader\n"
        "  authz policy can --token token.jwt --config authz.yaml shop GetOrder\n\n"
        "A role is held in the namespace; in @cluster, system-wide. --role adds further ones.\n\n"
        "exit codes: 0 allowed, 3 refused, 4 a file cannot be used"
    )
    parser.add_argument("words", nargs="+", metavar="SUBJECT NAMESPACE METHOD", help="who, where, what")
    parser.add_argument("--role", action="append", default=[], metavar="ROLE[@NS]", help="another role of the caller")
    parser.add_argument("--token", metavar="FILE", help="the caller is who this bearer token proves, not SUBJECT")
    parser.add_argument("--certificate", metavar="FILE", help="the caller is who this PEM certificate proves")
    parser.add_argument("--config", metavar="FILE", help="the configuration that says whom to believe")
    parser.add_argument("--quiet", "-q", action="store_true", help="no words, only the exit code")
    add_bundle(parser)
    add_now(parser)
    add_format(parser)
    parser.set_defaults(run=run)


def run(options: Any) -> int:
    """Run the command."""
    words = list(options.words)
    shown = options.token or options.certificate
    if len(words) != (2 if shown else 3):
        return usage(f"write {'NAMESPACE METHOD' if shown else 'SUBJECT NAMESPACE METHOD'}")
    if shown and not options.config:
        return usage("who a token or certificate proves is said by a configuration; add --config authz.yaml")
    revision = open_bundle(options.bundle)
    try:
        namespace = namespace_of(words[-2])
        method = method_of(words[-1], revision.catalogue)
        claims = _proven(options, method) if shown else claims_of(words[0], namespace, options.role)
    except (BadWord, NoSubject) as exc:
        return usage(exc)
    except (AuthenticationError, MappingError) as exc:
        if not options.quiet:
            print(f"{paint('refused', 'red')}: {exc.reason}: {exc.detail}")
        return 3
    answer = can(revision, claims, namespace, method, options.at)
    if options.format == "json":
        print_json(_json(answer, namespace, method))
    elif not options.quiet:
        _print(answer, claims, namespace, method)
    return 0 if answer.verdict.effect else 3


def _proven(options: Any, method: str) -> Claims:
    from authz.admin.proven import claims_shown

    token = Path(options.token) if options.token else None
    certificate = Path(options.certificate) if options.certificate else None
    return claims_shown(Path(options.config), token, certificate, method, options.at or time.time())


def _print(answer: Answer, claims: Claims, namespace: str, method: str) -> None:
    verdict = answer.verdict
    word = paint("allowed", "green") if verdict.effect else paint("refused", "red")
    print(f"{word}: {method} in {namespace}")
    if verdict.rule is not None:
        print(f"  by   {verdict.rule}: {verdict.rule.text}")
        print(f"  as   {' -> '.join(verdict.rule.chain)}")
    else:
        print(f"  why  {verdict.reason}: {_why(answer)}")
    # who was made up for the question has no name
    print(f"  who  {', '.join(each for each in answer.subjects if each != f'user:{NOBODY}')}")
    for note in claims.notes:
        print(f"       {note}")
    for miss in answer.near:
        print(f"  near {miss.line.place.path}:{miss.line.place.line}: {miss.line.text}")
        print(f"       {miss.missing}")
    if answer.remedy:
        print(f"  {paint('->', 'green')}   {answer.remedy}")


def _why(answer: Answer) -> str:
    if answer.verdict.reason == "no_rule":
        return "no rule allows it"
    return answer.verdict.detail


def _json(answer: Answer, namespace: str, method: str) -> dict[str, Any]:
    verdict, rule = answer.verdict, answer.verdict.rule
    return {
        "allowed": bool(verdict.effect),
        "effect": verdict.effect.value,
        "reason": verdict.reason.value,
        "namespace": namespace,
        "method": method,
        "subjects": list(answer.subjects),
        "rule": rule.text if rule else None,
        "rule_src": str(rule) if rule else None,
        "rule_chain": list(rule.chain) if rule else None,
        "policy_version": verdict.revision,
        "near": [
            {
                "rule": miss.line.text,
                "rule_src": f"{miss.line.place.path}:{miss.line.place.line}",
                "missing": miss.missing,
            }
            for miss in answer.near
        ],
        "smallest_rule": answer.smallest or None,
        "remedy": answer.remedy or None,
    }
