"""Rules: the lines of a policy as deciding needs them: rules in the order of their precedence, and roles."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from authz.decision.roles import Roles
from authz.errors import PolicyError
from authz.policy.ending import END_RULE, NEVER, end_field, read_end
from authz.policy.matcher import parse_matcher
from authz.policy.model import Model, PolicyEffect

ALLOW: Final = 1
DENY: Final = 2
NEITHER: Final = 0
_EFFECTS: Final = {"allow": ALLOW, "deny": DENY}
# Reading a member of an enumeration costs more than what it is compared for.
_ALLOW_OVERRIDE: Final = PolicyEffect.ALLOW_OVERRIDE
_DENY_OVERRIDE: Final = PolicyEffect.DENY_OVERRIDE
_PRIORITY: Final = PolicyEffect.PRIORITY
_SUBJECT_PRIORITY: Final = PolicyEffect.SUBJECT_PRIORITY


class Rules:
    """The ``p`` lines and the roles of one policy.

    Attributes:
        model: the model.
        rows: the fields of each rule, in the order in which Casbin evaluates them.
        lines: for each rule, which line of the policy it is (from 0).
        effects: for each rule, ALLOW, DENY or NEITHER.
        roles: role type -> roles.
        ends: for each rule that ends, when, in seconds since the epoch.
    """

    __slots__ = ("effects", "ends", "lines", "model", "roles", "rows")

    def __init__(self, model: Model, lines: Iterable[Sequence[str]], *, owned: bool = False) -> None:
        """
        Args:
            model: the model.
            lines: each line's type, then its fields.
            owned: nobody else needs ``lines`` that are lists: they are kept and not copied.

        Raises:
            PolicyError: a line or a definition that Casbin cannot evaluate.
        """
        self.model = model
        names = model.policies["p"]
        of_type: dict[str, list[Sequence[str]]] = {key: [] for key in ("p", *model.roles)}
        self.lines: list[int] = []
        note, rules = self.lines.append, of_type["p"].append
        for index, line in enumerate(lines):
            ptype, fields = line[0], line
            if owned and isinstance(line, list):
                del line[0]
            else:
                fields = line[1:]
            if ptype == "p":
                note(index)
                rules(fields)
            elif ptype in of_type:
                of_type[ptype].append(fields)
        self.rows: list[Sequence[str]] = of_type["p"]
        if any(len(row) != len(names) for row in self.rows):
            raise PolicyError.at(model.places["p"], f"some rule has not {len(names)} fields")
        for key, definition in model.roles.items():
            if any(len(row) < definition.fields for row in of_type[key]):
                raise PolicyError.at(model.places[key], f"some line has less than {definition.fields} fields")
        self.roles: Mapping[str, Roles] = {key: _roles(model, key, of_type[key]) for key in model.roles}
        self._sort(names, of_type.get("g", []))
        self.ends = self._ends(names)
        column = names.index("eft") if "eft" in names else -1
        if column < 0:
            self.effects = bytes([ALLOW]) * len(self.rows)
        else:
            self.effects = bytes([_EFFECTS.get(row[column], NEITHER) for row in self.rows])

    def _ends(self, names: Sequence[str]) -> dict[int, float]:
        field = end_field(parse_matcher(self.model))
        if not field:
            return {}
        column = names.index(field)
        try:
            return {rule: read_end(row[column]) for rule, row in enumerate(self.rows) if row[column] != NEVER}
        except ValueError as exc:
            raise PolicyError.at(self.model.places["p"], f"`{exc}` is no end of a rule", f"write {END_RULE}") from None

    def _sort(self, names: Sequence[str], members: Sequence[Sequence[str]]) -> None:
        """Put the rules in the order of their precedence: by subject, then by priority, as Casbin sorts them."""
        if self.model.effect is not PolicyEffect.SUBJECT_PRIORITY and "priority" not in names:
            return
        order = list(range(len(self.rows)))
        if self.model.effect is PolicyEffect.SUBJECT_PRIORITY:
            levels = _levels(self.model, members)
            domain = names.index("dom") if "dom" in names else -1
            order.sort(key=lambda i: levels.get((self.rows[i][domain] if domain >= 0 else "", self.rows[i][0]), 0))
        if "priority" in names:
            column = names.index("priority")
            try:
                order.sort(key=lambda i: _priority(self.rows[i][column]))
            except TypeError:
                raise PolicyError.at(self.model.places["p"], "some priorities are numbers and some are not") from None
        self.rows = [self.rows[i] for i in order]
        self.lines = [self.lines[i] for i in order]


def _priority(value: str) -> int | str:
    return int(value) if value.isdigit() else value


def _roles(model: Model, key: str, lines: Sequence[Sequence[str]]) -> Roles:
    definition = model.roles[key]
    names = definition.fields - definition.conditions
    if names > 3:
        raise PolicyError.at(model.places[key], f"`{key}` has more than one domain", "write `_, _` or `_, _, _`")
    return Roles(lines, domains=names == 3)


def _levels(model: Model, lines: Sequence[Sequence[str]]) -> dict[tuple[str, str], int]:
    """(Domain, name) -> how many steps its farthest member is away: the lower, the sooner its rules count."""
    members: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for line in lines:
        domain = line[2] if len(line) > 2 else ""
        members.setdefault((domain, line[0]), set())
        members.setdefault((domain, line[1]), set()).add((domain, line[0]))
    levels: dict[tuple[str, str], int] = {}
    left = dict(members)
    level = 0
    while left:
        done = [name for name, below in left.items() if not any(each in left for each in below)]
        if not done:
            raise PolicyError.at(model.places["e"], "the subjects form a circle, so none comes before the other")
        for name in done:
            levels[name] = level
            del left[name]
        level += 1
    return levels


def decides(effect: PolicyEffect, of_rule: int) -> bool:
    """Whether Casbin stops at a matching rule with the effect ``of_rule``."""
    if effect is _ALLOW_OVERRIDE:
        return of_rule == ALLOW
    if effect is _PRIORITY or effect is _SUBJECT_PRIORITY:
        return of_rule != NEITHER
    return of_rule == DENY


def resolve(effect: PolicyEffect, found: Sequence[int], effects: bytes) -> tuple[int, int]:
    """What the rules ``found`` say together: ALLOW, DENY or NEITHER, and which of them says so (-1: none).

    Args:
        effect: the model's.
        found: positions of the matching rules, ascending.
        effects: for each rule, ALLOW, DENY or NEITHER.
    """
    if effect is _PRIORITY or effect is _SUBJECT_PRIORITY:
        for rule in found:
            if effects[rule]:
                return effects[rule], rule
        return NEITHER, -1
    if effect is not _ALLOW_OVERRIDE:
        for rule in found:
            if effects[rule] == DENY:
                return DENY, rule
        if effect is _DENY_OVERRIDE:
            return ALLOW, -1
    for rule in found:
        if effects[rule] == ALLOW:
            return ALLOW, rule
    return NEITHER, -1
