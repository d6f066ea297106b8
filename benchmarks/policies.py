"""A policy of any size, callers and calls for it, and an oracle that answers by brute force.

Namespaces times roles times about a hundred methods in access groups, prefix patterns, wildcards, denials, exceptions
for single methods, and callers with 1 to 30 roles. Nothing here uses what it measures: the oracle reads the rules as
tuples and compares strings.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path

from authz.authn.base import Principal, PrincipalKind
from authz.call import Call
from authz.claims.base import Claims

ACCESS = ("read", "write", "admin")
ROLES = ("reader", "writer", "worker", "admin")
OTHER_ROLES = tuple(f"other-{i}" for i in range(17))
"""Roles that the policy knows, and that change no answer: they make combinations of roles that were never seen."""
OTHER_ACCESS = "read"
"""What they are granted, in a namespace of their own."""
GROUPS = tuple(f"api:group-{i}" for i in range(8))
METHODS = {f"/bench.v1.Service{i // 20}/Method{i:02}": ACCESS[(i // 3) % 3] for i in range(100)}
GROUP_OF = {method: GROUPS[i // 2 % 8] for i, method in enumerate(METHODS) if i % 2}

MODEL = """\
[request_definition]
r = sub, dom, obj, act

[policy_definition]
p = sub, dom, obj, act, eft

[role_definition]
g = _, _
g2 = _, _

[policy_effect]
e = some(where (p.eft == allow)) && !some(where (p.eft == deny))

[matchers]
m = g(r.sub, p.sub) && keyMatch(r.dom, p.dom) && (g2(r.obj, p.obj) || keyMatch(r.obj, p.obj)) && \
(p.act == "*" || r.act == p.act)
"""

Rule = tuple[str, str, str, str, str]


@dataclass(frozen=True)
class Workload:
    """A policy with what is asked of it. ``rules`` are the ``p`` lines; ``inherits`` and ``groups`` the others."""

    rules: list[Rule]
    inherits: list[tuple[str, str]]
    groups: list[tuple[str, str]]
    claims: list[Claims]
    asked: list[tuple[int, Call]] = field(repr=False)

    def csv(self) -> str:
        """The policy file."""
        lines = [f"g, {member}, {role}" for member, role in self.inherits]
        lines += [f"g2, {method}, {group}" for method, group in self.groups]
        return "\n".join([*lines, *(f"p, {', '.join(rule)}" for rule in self.rules), ""])

    def write(self, folder: Path) -> Path:
        """The bundle, in ``folder``."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.conf").write_text(MODEL)
        (folder / "policy.csv").write_text(self.csv())
        services: dict[str, list[str]] = {}
        for method, access in METHODS.items():
            _, service, name = method.split("/")
            services.setdefault(service, []).append(f"      {name}: {access}")
        text = ["services:"]
        for service, methods in services.items():
            text += [f"  {service}:", "    namespaces: [namespace]", "    methods:", *methods]
        (folder / "catalogue.yaml").write_text("\n".join(text) + "\n")
        return folder


def namespace(number: int) -> str:
    """The name of a namespace: teams have a hundred each, so that prefixes mean something."""
    return f"team{number // 100}-ns{number}"


def workload(size: int, *, asked: int = 10_000, seed: int = 7) -> Workload:
    """A policy of about ``size`` rules, 2,000 callers, and ``asked`` calls."""
    chance = random.Random(seed)
    rules: dict[Rule, None] = {}
    count = max(4, size // 40)
    rules[("role:auditor", "*", "*", "read", "allow")] = None
    rules[("role:everyone", "frozen-*", "*", "write", "deny")] = None
    for role in OTHER_ROLES:
        rules[(f"role:{role}", "elsewhere", "*", OTHER_ACCESS, "allow")] = None
    while len(rules) < size:
        where = namespace(chance.randrange(count))
        role = f"role:{chance.choice(ROLES)}"
        kind = chance.random()
        if kind < 0.55:
            rule = (role, where, chance.choice(GROUPS), chance.choice([*ACCESS, "*"]), "allow")
        elif kind < 0.80:
            method = chance.choice(list(METHODS))
            rule = (role, where, method, METHODS[method], "allow")
        elif kind < 0.88:
            rule = (role, where, "*", chance.choice(ACCESS), "allow")
        elif kind < 0.90:
            service = f"/bench.v1.Service{chance.randrange(5)}/*"
            team = f"team{chance.randrange(count // 100 + 1)}-*"
            rule = (f"role:{chance.choice(ROLES)}-lead", team, service, chance.choice(ACCESS), "allow")
        elif kind < 0.95:
            method = chance.choice(list(METHODS))
            rule = (f"user:corp:u{chance.randrange(2_000)}", where, method, METHODS[method], "allow")
        else:
            rule = (role, where, chance.choice([*GROUPS, *METHODS]), "*", "deny")
        rules[rule] = None
    inherits = [("role:admin", "role:writer"), ("role:writer", "role:reader"), ("role:reader-lead", "role:reader")]
    claims = [_caller(chance, i, count) for i in range(2_000)]
    calls = []
    for _ in range(asked):
        who = chance.randrange(len(claims))
        known = list(claims[who].namespaces)
        where = chance.choice(known) if known and chance.random() < 0.8 else namespace(chance.randrange(count))
        calls.append((who, Call(chance.choice(list(METHODS)), (where,))))
    return Workload(list(rules), inherits, list(GROUP_OF.items()), claims, calls)


def _caller(chance: random.Random, number: int, namespaces: int) -> Claims:
    count = chance.choice([1, 1, 2, 2, 3, 3, 4, 5, 8, 12, 20, 30])
    here: dict[str, frozenset[str]] = {}
    system = {"auditor"} if chance.random() < 0.02 else set()
    for _ in range(count):
        if chance.random() < 0.15:
            system.add(f"{chance.choice(ROLES)}-lead")
        else:
            where = namespace(chance.randrange(namespaces))
            here[where] = here.get(where, frozenset()) | {chance.choice(ROLES)}
    principal = Principal(PrincipalKind.TOKEN, "corp", f"u{number}", "corp:")
    return Claims(principal, frozenset(system), here)


def subjects(claims: Claims, where: str) -> list[str]:
    """Who a caller is in a namespace."""
    roles = claims.system | claims.namespaces.get(where, frozenset())
    return [claims.principal.id, "role:authenticated", "role:everyone", *(f"role:{role}" for role in roles)]


class Oracle:
    """Answers by comparing strings, rule by rule: ``allow``, ``deny`` or ``no_opinion``."""

    def __init__(self, work: Workload) -> None:
        self._work = work
        self._above: dict[str, set[str]] = {}
        for member, role in work.inherits:
            self._above.setdefault(member, set()).add(role)
        # Rules by namespace as written, so that a hundred thousand rules do not take an hour: patterns stand apart.
        self._exact: dict[str, list[Rule]] = {}
        self._patterns: list[Rule] = []
        for rule in work.rules:
            if rule[1].endswith("*"):
                self._patterns.append(rule)
            else:
                self._exact.setdefault(rule[1], []).append(rule)

    def answer(self, claims: Claims, call: Call) -> str:
        """The answer to a call that names one namespace."""
        (where,) = call.namespaces
        assert where is not None
        mine = set(subjects(claims, where))
        waiting = list(mine)
        while waiting:
            for role in self._above.get(waiting.pop(), ()):
                if role not in mine:
                    mine.add(role)
                    waiting.append(role)
        found = set()
        for subject, domain, obj, act, effect in [*self._exact.get(where, ()), *self._patterns]:
            if subject not in mine or act not in ("*", METHODS[call.method]):
                continue
            if domain != where and not (domain.endswith("*") and where.startswith(domain[:-1])):
                continue
            if obj in (call.method, GROUP_OF.get(call.method)) or (obj[-1] == "*" and call.method.startswith(obj[:-1])):
                found.add(effect)
        return "deny" if "deny" in found else "allow" if "allow" in found else "no_opinion"
