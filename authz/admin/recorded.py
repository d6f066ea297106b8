"""Recorded: which calls of an audit log two bundles decide otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from authz.authn.base import ANONYMOUS, Principal, PrincipalKind
from authz.call import Call
from authz.claims.base import Claims, is_role
from authz.decision import authorizer_for
from authz.decision.base import Verdict
from authz.errors import PolicyError
from authz.policy.revision import Revision

_BY_POLICY: Final = frozenset({"allowed", "denied_by_rule", "no_rule", "method_unknown"})


@dataclass(frozen=True, slots=True)
class Flip:
    """One kind of recorded call that is decided otherwise.

    Attributes:
        subject: who, as recorded.
        roles: the roles that were recorded.
        method: gRPC full method.
        namespaces: the namespaces; None for one that was not named.
        before, after: what each bundle says.
        times: how often it was recorded.
        audit_id: of the first of them.
    """

    subject: str
    roles: tuple[str, ...]
    method: str
    namespaces: tuple[str | None, ...]
    before: Verdict
    after: Verdict
    times: int
    audit_id: str

    @property
    def gained(self) -> bool:
        """Whether the new bundle allows what the old one did not."""
        return bool(self.after.effect)

    def __str__(self) -> str:
        names = ", ".join("(none)" if name is None else name for name in self.namespaces) or "(none)"
        rule = self.after.rule or self.before.rule
        why = f" by {rule}" if rule else ""
        calls = f"{self.times} call{'s' * (self.times != 1)}"
        effects = f"{self.before.effect.value} -> {self.after.effect.value}"
        return f"{effects}  {self.subject} in {names}: {self.method} ({calls}){why}"

    def json(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "sub": self.subject,
            "roles": list(self.roles),
            "method": self.method,
            "namespaces": list(self.namespaces),
            "before": self.before.effect.value,
            "after": self.after.effect.value,
            "times": self.times,
            "audit_id": self.audit_id,
        }


@dataclass(frozen=True, slots=True)
class Replay:
    """What came of asking a log again: how many calls were asked, and how many not, for no policy had decided them."""

    asked: int
    skipped: int
    flips: tuple[Flip, ...]


def replay(log: Path, old: Revision, new: Revision) -> Replay:
    """Ask every call of the audit log ``log`` that a policy decided of both bundles.

    A record holds the roles that could count for its call, so it can be decided again without the caller's credential.

    Raises:
        PolicyError: the log cannot be read, or a bundle not be evaluated.
    """
    ask_old, ask_new = authorizer_for(old), authorizer_for(new)
    groups: dict[tuple[Any, ...], tuple[int, str]] = {}
    asked = skipped = 0
    for record in _records(log):
        if (
            record.get("event", "decision") != "decision"
            or record.get("reason") not in _BY_POLICY
            or record.get("truncated")
        ):
            skipped += 1
            continue
        asked += 1
        key = (
            record.get("sub"),
            record.get("authn"),
            tuple(record.get("roles") or ()),
            record.get("method"),
            tuple(record.get("namespaces") or ()),
        )
        times, first = groups.get(key, (0, str(record.get("id", ""))))
        groups[key] = (times + 1, first)
    flips = []
    for (subject, kind, roles, method, names), (times, first) in groups.items():
        claims = _claims(str(subject or ""), kind, roles)
        call = Call(str(method), names)
        before, after = ask_old.authorize(claims, call), ask_new.authorize(claims, call)
        if before.effect is not after.effect and (before.effect or after.effect):
            flips.append(Flip(str(subject), roles, str(method), names, before, after, times, first))
    return Replay(asked, skipped, tuple(flips))


def _records(log: Path) -> Iterator[Mapping[str, Any]]:
    try:
        with log.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    try:
                        record = orjson.loads(line)
                    except orjson.JSONDecodeError:
                        record = None
                    if not isinstance(record, dict):
                        raise PolicyError.at(f"{log}:{number}", "is no record of an audit log")
                    yield record
    except OSError as exc:
        raise PolicyError.at(log, f"cannot be read: {exc.strerror}") from None


def _claims(subject: str, kind: object, roles: tuple[str, ...]) -> Claims:
    if kind == PrincipalKind.ANONYMOUS.value:
        return Claims(ANONYMOUS)
    system, spaces = set[str](), dict[str, set[str]]()
    for role in roles:
        name, at, where = role.partition("@")
        if is_role(name):
            (spaces.setdefault(where, set()) if at else system).add(name)
    principal = Principal(PrincipalKind.TOKEN, "recorded", subject.removeprefix("user:"))
    return Claims(principal, frozenset(system), {name: frozenset(held) for name, held in spaces.items()})
