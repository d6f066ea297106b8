"""``authz token``: look into tokens."""

from __future__ import annotations

import argparse
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from authz import document
from authz.authn.inspection import Inspection, inspect
from authz.authn.jwt import TokenAuthenticator
from authz.authn.plugin import FirstAuthenticator
from authz.claims.base import ClaimMapper
from authz.cli import Exit, Subparsers
from authz.config.authn import read_authn
from authz.errors import ConfigError, MappingError

_LENGTH_LIMIT = 1024 * 1024


def register(subparsers: Subparsers) -> None:
    """Add the group's commands."""
    parser = subparsers.add_parser("token", help="look into tokens")
    commands = parser.add_subparsers(metavar="command", required=True)
    looking = commands.add_parser(
        "inspect",
        help="say which issuer a token names, which checks it passes, whom it proves and which roles it gives",
        description="Reads a token from a file or from standard input, checks it as the server would, and says what "
        "comes of it. The token itself is never printed.",
    )
    looking.add_argument("--config", type=Path, required=True, metavar="FILE", help="the server's configuration")
    looking.add_argument("file", nargs="?", type=Path, help="where the token is; standard input if not given")
    looking.set_defaults(run=_inspect)


def _inspect(options: argparse.Namespace) -> Exit:
    # nothing but the section on authentication is read: whoever asks about a token need not have the policy at hand
    authentication, mapper = read_authn(document.load(options.config, ConfigError).section("authn"))
    proving = authentication.tokens
    own = proving.authenticators if isinstance(proving, FirstAuthenticator) else [proving]
    tokens = next((each for each in own if isinstance(each, TokenAuthenticator)), None)
    if tokens is None:
        print("this configuration has no issuers: there is nobody to ask about a token", file=sys.stderr)
        return Exit.FINDING
    text = _read(options.file)
    authentication.start()
    try:
        return _print(inspect(text, tokens, time.time()), mapper)
    finally:
        authentication.close()


def _read(path: Path | None) -> str:
    try:
        if path is None:
            text = sys.stdin.read(_LENGTH_LIMIT)
        else:
            with path.open(encoding="utf-8", errors="replace") as file:
                text = file.read(_LENGTH_LIMIT)
    except OSError as exc:
        raise ConfigError.at(path or "standard input", f"cannot be read: {exc.strerror}") from None
    text = text.strip()
    return text[len("bearer ") :].lstrip() if text.lower().startswith("bearer ") else text


def _print(seen: Inspection, mapper: ClaimMapper) -> Exit:
    for check in seen.checks:
        outcome = "pass" if check.reason is None else "FAIL"
        reason = "" if check.reason is None else f"{check.reason}: "
        print(f"{outcome}  {check.name:<11} {reason}{check.detail}".rstrip())
    if seen.principal is None:
        print(f"\nrefused: {seen.reason}")
        return Exit.FINDING
    end = datetime.fromtimestamp(seen.principal.expires_at or 0, UTC)
    print(f"\nprincipal  {seen.principal.id}, until {end:%Y-%m-%d %H:%M:%S} UTC")
    try:
        claims = mapper.map(seen.principal)
    except MappingError as exc:
        print(f"\nrefused: {exc.reason}: {exc.detail}")
        return Exit.FINDING
    places = [("system-wide", claims.system), *sorted(claims.namespaces.items())]
    rows = [(place, ", ".join(sorted(roles))) for place, roles in places if roles]
    for place, roles in rows or [("nowhere", "no role at all")]:
        print(f"roles      {place}: {roles}")
    for note in claims.notes:
        print(f"note       {note}")
    return Exit.OK
