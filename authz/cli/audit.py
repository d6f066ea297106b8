"""authz audit: verify, search and report on audit logs."""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import time
from collections.abc import Callable
from pathlib import Path

import orjson

from authz.audit.checkpoint import SigningKey, VerifyingKey
from authz.audit.position import Position
from authz.audit.verify import VerifyReport, verify
from authz.cli import Exit, Subparsers
from authz.cli.table import cell, table
from authz.errors import AuditError

NOTICES = 5
"""Exit code of ``verify``: the log is what was written, and there is something to know."""


def register(subparsers: Subparsers) -> None:
    """Add the group ``audit`` and its commands."""
    group = subparsers.add_parser("audit", help="verify, search and report on audit logs", description=__doc__)
    commands = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    keygen = commands.add_parser("keygen", help="make the key that seals a log")
    keygen.add_argument("file", type=Path, help="new file for the private key; the public one is put beside it")
    keygen.add_argument("--subjects", action="store_true", help="make a secret for hashing subjects instead")
    keygen.set_defaults(run=_keygen)

    check = commands.add_parser(
        "verify",
        help="is the log what its writers wrote?",
        epilog="exit codes: 0 whole and proven, 3 damaged, 4 cannot be read, 5 whole, with something to know",
    )
    add_logs(check)
    check.add_argument(
        "--key", type=Path, action="append", default=[], help="public key of the checkpoints; repeatable"
    )
    check.add_argument("--anchors", type=Path, action="append", default=[], help="file of checkpoints kept elsewhere")
    check.add_argument("--cadence", type=int, default=1000, help="most lines between checkpoints (default 1000)")
    check.add_argument("--seconds", type=float, default=10.0, help="longest wait for a checkpoint (default 10)")
    check.add_argument("--state", type=Path, help="go on where the run ended that wrote this file, and write it anew")
    check.add_argument("--json", action="store_true", help="the result as JSON")
    check.set_defaults(run=_verify)

    from authz.cli.audit_review import register_review

    register_review(commands)


def add_logs(parser: argparse.ArgumentParser) -> None:
    """Add the argument that every reading command has: what to read."""
    parser.add_argument("logs", type=Path, nargs="+", help="logs, or folders of logs of any writers and hosts")


def _keygen(options: argparse.Namespace) -> Exit:
    if options.subjects:
        try:
            with options.file.open("x", encoding="ascii") as file:
                options.file.chmod(0o600)
                file.write(secrets.token_hex(32) + "\n")
        except OSError as exc:
            raise AuditError(f"{options.file} cannot be made: {exc.strerror}") from None
        print(f"{options.file}: a secret for subjects; write `subjects: {{hmac_key: {options.file}}}`")
        return Exit.OK
    key = SigningKey.generate(options.file)
    print(f"{options.file}: the private key {key.id}, for the server; write `checkpoints: {{key: {options.file}}}`")
    print(f"{options.file.with_suffix('.pub')}: its public half, for whoever verifies")
    return Exit.OK


def _verify(options: argparse.Namespace) -> int:
    keys = [VerifyingKey.read(path) for path in options.key]
    report = verify(
        options.logs,
        keys,
        options.anchors,
        cadence=options.cadence,
        seconds=options.seconds,
        state=_read_state(options.state),
        progress=_progress(),
    )
    if options.json:
        print(json.dumps(_as_json(report), indent=1))
    else:
        _print(report)
    if not report.sound:
        return Exit.FINDING
    if options.state is not None:
        _write_state(options.state, report.state)
    return NOTICES if report.findings else Exit.OK


def _read_state(path: Path | None) -> dict[str, dict[str, object]]:
    if path is None:
        return {}
    try:
        state = orjson.loads(path.read_bytes())
        if not isinstance(state, dict):
            raise AuditError("it is no object")
        for writer, each in state.items():
            Position.of(writer, each)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AuditError) as exc:
        raise AuditError(f"{path} is not the state of a verification: {exc}; delete it to begin anew") from None
    return state


def _write_state(path: Path, state: dict[str, dict[str, object]]) -> None:
    try:
        path.write_bytes(orjson.dumps(state) + b"\n")
    except OSError as exc:
        remedy = "name a file that this process can write"
        raise AuditError(f"the state {path} cannot be written: {exc.strerror}; {remedy}") from None


def _progress() -> Callable[[int, int], None] | None:
    """A bar on a terminal, for what takes longer than a moment."""
    if not sys.stderr.isatty():
        return None
    began = time.monotonic()

    def show(done: int, total: int) -> None:
        if time.monotonic() - began > 1 and total:
            filled = done * 30 // total
            end = "\n" if done == total else ""
            print(f"\r[{'#' * filled:<30}] {done * 100 // total:3d} %", end=end, file=sys.stderr, flush=True)

    return show


def _print(report: VerifyReport) -> None:
    print(
        table(
            ["chain", "files", "lines", "from", "to", "sealed to", "anchored to", "lost", "omitted", "end"],
            [
                [c.writer, c.files, c.lines, c.first, c.last, c.sealed, c.anchored, c.lost, c.omitted,
                 "closed" if c.closed else "open"]
                for c in report.chains
            ],
            "no chain",
        )
    )  # fmt: skip
    for finding in report.findings:
        print(("DAMAGE  " if finding.kind.is_damage else "note    ") + cell(finding))
    if report.more:
        print(f"and {report.not_shown}")
    if not report.sound:
        print("the log is DAMAGED")
    else:
        print("the log is what its writers wrote" + (", with the notes above" if report.findings else ""))


def _as_json(report: VerifyReport) -> dict[str, object]:
    return {
        "sound": report.sound,
        "chains": [{name: getattr(chain, name) for name in chain.__slots__} for chain in report.chains],
        "findings": [
            {**{name: getattr(f, name) for name in f.__slots__}, "damage": f.kind.is_damage} for f in report.findings
        ],
        "more": report.more,
    }
