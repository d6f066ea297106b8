"""Reach: which rules of a bundle a question reaches, for every question at once.

A question is a subject, a namespace and a method. Each field of a rule says what it accepts, so the questions fall into
finitely many classes: of namespaces (:mod:`authz.admin.classes`), of methods (those that no rule tells apart) and of
subjects (those that stand in the policy, and everybody else). What is worked out for one question of a class holds for
all of them: nothing here is a sample.

A model can be read this way if its matcher is a conjunction of conditions on one field of the rule each: equality,
roles, ``keyMatch``, and of the method any pattern. Anything else is :class:`Beyond`, and said so.
"""

from __future__ import annotations

import ast
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from typing import Final

from authz.admin.classes import NameClass, name_classes
from authz.call import ApiMethod, Scope, is_method, is_namespace
from authz.claims.base import AUTHENTICATED, EVERYONE
from authz.decision.base import Effect
from authz.decision.index import Index
from authz.decision.rules import ALLOW, DENY, NEITHER, Rules
from authz.errors import AuthzError, Place
from authz.policy.ending import without_end
from authz.policy.load import MODEL
from authz.policy.matcher import parse_matcher
from authz.policy.model import PolicyEffect, read_model
from authz.policy.revision import NOWHERE, PolicyLine, PolicyLines, Revision

PROVEN: Final = f"role:{AUTHENTICATED}"
"""Every proven caller, also one that no rule knows."""

ANONYMOUS: Final = f"role:{EVERYONE}"
"""Every caller, also one that showed nothing and is let in."""

EFFECTS: Final = {0: Effect.NO_OPINION, ALLOW: Effect.ALLOW, DENY: Effect.DENY, ALLOW | DENY: Effect.DENY}
_NEVER: Final = float("inf")
Cell = dict[str, list[int]]
Key = tuple[str, ...]


class Beyond(AuthzError):  # noqa: N818 - it is an answer
    """The bundle's model says more than can be worked out for every call at once."""

    def __init__(self, place: Place, why: str) -> None:
        self.place = place
        self.why = why
        super().__init__(f"{place}: {why}; `authz policy can` answers for one call at a time")


class Reach:
    """The rules of ``revision``, by the questions that they accept.

    Attributes:
        revision: the bundle.
        now: the moment of the questions, in seconds since the epoch: rules that have ended by then have no effect.
        subjects: every subject that stands in the policy, in the order of its lines.
        lines: every line of the policy: its type, then its fields.
        rows: the fields of each rule.
        effects: for each rule, 1 (allow), 2 (deny) or 0 (neither, or ended).

    Raises:
        Beyond: the model cannot be read this way.
    """

    def __init__(self, revision: Revision, now: float | None = None) -> None:
        self.revision = revision
        self.now = time.time() if now is None else now
        self.model = read_model(revision.model, str(revision.path / MODEL))
        self._names = self.model.policies["p"]
        self._domain_roles = False
        conditions = self._conditions()
        lines = revision.lines
        self.lines: Sequence[Sequence[str]] = (
            list(lines.rows()) if isinstance(lines, PolicyLines) else [(line.ptype, *line.fields) for line in lines]
        )
        self.rules = Rules(self.model, self.lines)
        index = Index(self.rules)
        if len(index.branches) != 1:
            raise Beyond(self.model.places["m"], "the matcher is a chain of `||`")
        if index.slow:
            raise Beyond(self.model.places["m"], index.slow)
        self.rows = self.rules.rows
        self.effects = bytes(
            effect if self.rules.ends.get(rule, _NEVER) > self.now else NEITHER
            for rule, effect in enumerate(self.rules.effects)
        )
        self._selectors = index.branches[0].selectors
        self._subject_fields = sorted(f for f, asked in conditions.items() if "sub" in asked)
        self._namespace_fields = sorted(f for f, asked in conditions.items() if asked == {"dom"})
        self._method_fields = sorted(f for f, asked in conditions.items() if not asked & {"sub", "dom"})
        if len(self._subject_fields) != 1:
            raise Beyond(self.model.places["m"], "the caller is not asked of one field of the rule")
        self._subject = self._subject_fields[0]
        self.subjects = tuple(self._known_subjects())
        self.cells: dict[Key, dict[Key, Cell]] = {}
        for rule, row in enumerate(self.rows):
            if self.effects[rule]:
                there = self.cells.setdefault(tuple([row[f] for f in self._namespace_fields]), {})
                cell = there.setdefault(tuple([row[f] for f in self._method_fields]), {})
                cell.setdefault(row[self._subject], []).append(rule)
        self._reached: dict[tuple[str, str], frozenset[str]] = {}
        self._accepted_namespaces: dict[str, tuple[Key, ...]] = {}
        self._accepted_methods: dict[str, tuple[ApiMethod | None, frozenset[Key]]] = {}

    # --- the model

    def _conditions(self) -> dict[int, set[str]]:
        """Field of the rule -> what of the request it is about."""
        place = self.model.places["m"]
        if self.model.effect not in (PolicyEffect.ALLOW_AND_DENY, PolicyEffect.ALLOW_OVERRIDE):
            raise Beyond(self.model.places["e"], "the order of the rules decides")
        found: dict[int, set[str]] = {}
        for part in conjuncts(without_end(parse_matcher(self.model))):
            fields, asked = self._fields(part)
            if len(fields) != 1:
                raise Beyond(place, f"`{ast.unparse(part)}` is no condition on one field of the rule")
            found.setdefault(fields.pop(), set()).update(asked)
            self._check_part(part, asked)
        for asked in found.values():
            if len(asked - {"act"}) > 1 and (asked != {"sub", "dom"} or not self._domain_roles):
                raise Beyond(place, f"one field of the rule is compared with {' and '.join(sorted(asked))}")
        return found

    def _fields(self, part: ast.expr) -> tuple[set[int], set[str]]:
        names = [node.id for node in ast.walk(part) if isinstance(node, ast.Name)]
        fields = {self._names.index(name[2:]) for name in names if name[:2] == "p_" and name[2:] in self._names}
        return fields, {name[2:] for name in names if name[:2] == "r_" and name[2:] in self.model.request}

    def _check_part(self, part: ast.expr, asked: set[str]) -> None:
        """Refuse what has no finite set of classes: patterns of subjects and namespaces but ``keyMatch``."""
        if not asked & {"sub", "dom"}:
            return
        for node in ast.walk(part):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                arguments = [each.id for each in node.args if isinstance(each, ast.Name)]
                if node.func.id in self.model.roles:
                    self._domain_roles = self._domain_roles or "r_dom" in arguments[2:]
                    fits = arguments[:1] != [] and arguments[0][:2] == "r_"
                else:
                    fits = node.func.id == "keyMatch" and arguments[:1] == ["r_dom"]
            elif isinstance(node, ast.Compare):
                fits = len(node.ops) == 1 and isinstance(node.ops[0], ast.Eq)
            else:
                fits = isinstance(node, ast.BoolOp | ast.Name | ast.Constant | ast.operator | ast.boolop | ast.cmpop)
                fits = fits or isinstance(node, ast.expr_context)
            if not fits:
                raise Beyond(self.model.places["m"], f"`{ast.unparse(part)}` is a condition without finite classes")

    # --- the questions

    def _known_subjects(self) -> dict[str, None]:
        known = dict.fromkeys(row[self._subject] for row in self.rows)
        for line in self.lines:
            if line[0] in self.model.roles and line[2].startswith(("role:", "user:")):
                known |= dict.fromkeys(line[1:3])
        return {name: None for name in known if name.startswith(("role:", "user:"))}

    def namespace_names(self) -> tuple[set[str], set[str]]:
        """The namespaces that stand in the policy, and what its patterns of namespaces begin with."""
        names, beginnings = set(), {""}
        values = {row[field] for field in self._namespace_fields for row in self.rows}
        for line in self.lines:
            if line[0] in self.model.roles:
                values.update(line[1:])
        for value in values:
            before, star, _ = value.partition("*")
            if star:
                beginnings.add(before)
            else:
                names.add(value)
        return names, beginnings

    def method_names(self) -> tuple[set[str], set[str]]:
        """The methods that stand in catalogue or policy, and what patterns and whole services begin with."""
        names, beginnings, starts = set(), set(), set()
        known = self.revision.catalogue.methods
        values = {value for line in self.lines for value in line if value.startswith("/")}
        for value in {*known, *values}:
            if value.endswith("/*") and value in known:
                beginnings.add(value[:-1])
            elif "*" in value:
                starts.add(value.partition("*")[0])
            else:
                names.add(value)
        # a pattern tells methods apart that the catalogue does not name, where it knows a service as a whole
        beginnings |= {start for start in starts if any(start.startswith(service) for service in beginnings)}
        if any(name.endswith("/*") for name in known):
            for part in conjuncts(parse_matcher(self.model)):
                calls = [n.func.id for n in ast.walk(part) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
                if "obj" in self._fields(part)[1] and any(c not in self.model.roles and c != "keyMatch" for c in calls):
                    why = f"`{ast.unparse(part)}` cannot be worked out for a service whose methods are not all known"
                    raise Beyond(self.model.places["m"], why)
        return names, beginnings

    # --- the answers

    def reached(self, subject: str, namespace: str) -> frozenset[str]:
        """What rules may say for ``subject`` to be meant, in ``namespace`` (a name, or ``@cluster``)."""
        key = (subject, namespace if self._domain_roles else "")
        found = self._reached.get(key)
        if found is None:
            request = self._request(sub=subject, dom=namespace)
            found = self._reached[key] = frozenset(self._selectors[self._subject].find(request))
        return found

    def _request(self, **values: str) -> tuple[str, ...]:
        return tuple([values.get(name, "") for name in self.model.request])

    def accepted_namespaces(self, namespace: str) -> tuple[Key, ...]:
        """What rules may say of the namespace to be about ``namespace``, as keys of ``cells``."""
        found = self._accepted_namespaces.get(namespace)
        if found is None:
            request = self._request(dom=namespace)
            ways = product(*(self._selectors[field].find(request) for field in self._namespace_fields))
            found = self._accepted_namespaces[namespace] = tuple(way for way in ways if way in self.cells)
        return found

    def accepted_methods(self, method: str) -> tuple[ApiMethod | None, frozenset[Key]]:
        """The catalogue's entry for ``method`` (None: unknown, and denied), and what rules may say to be about it."""
        found = self._accepted_methods.get(method)
        if found is None:
            entry = self.revision.catalogue.find(method)
            keys: frozenset[Key] = frozenset()
            if entry is not None:
                request = self._request(obj=method, act=entry.access.value)
                keys = frozenset(product(*(self._selectors[field].find(request) for field in self._method_fields)))
            found = self._accepted_methods[method] = (entry, keys)
        return found

    def asked(self, entry: ApiMethod, namespace: str) -> str:
        """The namespace that a call of ``entry`` in ``namespace`` is decided in."""
        return NOWHERE if entry.scope is Scope.CLUSTER else namespace

    def cells_of(self, namespace: str, keys: frozenset[Key]) -> list[Cell]:
        """The cells of the rules about ``namespace`` and about methods with these ``keys``: subject -> rules."""
        cells = []
        for way in self.accepted_namespaces(namespace):
            there = self.cells[way]
            cells += [there[key] for key in (there if len(there) < len(keys) else keys) if key in keys and key in there]
        return cells

    def bits(self, cells: Sequence[Cell], names: Iterable[str]) -> int:
        """The effects (1 allow, 2 deny) of the rules in ``cells`` about one of ``names``."""
        bits, effects = 0, self.effects
        for name in names:
            for cell in cells:
                rules = cell.get(name)
                if rules is not None:
                    for rule in rules:
                        bits |= effects[rule]
        return bits if self.model.effect is PolicyEffect.ALLOW_AND_DENY else bits & ALLOW

    def names_of(self, subject: str, namespace: str, held_in: str | None = None) -> frozenset[str]:
        """What rules may say to mean a caller who is ``subject``, and else only what every caller is.

        A role is held in ``held_in`` (left out: in ``namespace``), and in another namespace it does not count.
        """
        if held_in not in (None, namespace) and subject.startswith("role:") and subject != ANONYMOUS:
            subject = PROVEN
        everyone = self.reached(ANONYMOUS, namespace)
        if subject == ANONYMOUS:
            return everyone
        return everyone | self.reached(PROVEN, namespace) | self.reached(subject, namespace)

    def rules_for(self, subject: str, namespace: str, method: str) -> list[int]:
        """Every rule that a caller who is ``subject`` reaches with ``method`` in ``namespace``, in order."""
        entry, keys = self.accepted_methods(method)
        if entry is None:
            return []
        place = self.asked(entry, namespace)
        names = self.names_of(subject, place, namespace)
        return sorted({rule for cell in self.cells_of(place, keys) for name in names for rule in cell.get(name, ())})

    def told(self, rules: Iterable[int]) -> Effect:
        """What matching ``rules`` say together."""
        bits = 0
        for rule in rules:
            bits |= self.effects[rule]
        return EFFECTS[bits if self.model.effect is PolicyEffect.ALLOW_AND_DENY else bits & ALLOW]

    def ends(self, rule: int) -> float:
        """When ``rule`` ends, in seconds since the epoch; infinity: never."""
        return self.rules.ends.get(rule, _NEVER)

    def line(self, rule: int) -> PolicyLine:
        """The line of ``rule`` (a position in ``rows``)."""
        return self.revision.lines[self.rules.lines[rule]]

    @property
    def by_namespace(self) -> bool:
        """Whether who is a member of a role depends on the namespace."""
        return self._domain_roles

    def said(self, rule: int, name: str) -> str:
        """What ``rule`` says of the request's field ``name`` (``sub``, ``dom``, ``obj``, ``act``); ``*`` if nothing."""
        return self.rows[rule][self._names.index(name)] if name in self._names else "*"

    def key_of(self, rule: int) -> tuple[Key, Key, str]:
        """Where ``rule`` stands: the keys of its namespaces and of its methods, and its subject."""
        row = self.rows[rule]
        return (
            tuple([row[f] for f in self._namespace_fields]),
            tuple([row[f] for f in self._method_fields]),
            row[self._subject],
        )


def conjuncts(tree: ast.expr) -> Iterator[ast.expr]:
    """The conditions that ``tree`` joins by ``&&``."""
    if isinstance(tree, ast.BoolOp) and isinstance(tree.op, ast.And):
        for part in tree.values:
            yield from conjuncts(part)
    else:
        yield tree


def namespace_classes(*reaches: Reach) -> list[NameClass]:
    """The classes of namespaces that none of ``reaches`` tells apart; ``@cluster`` first."""
    names, beginnings = set[str](), set[str]()
    for reach in reaches:
        more, starts = reach.namespace_names()
        names |= more
        beginnings |= starts
    return [NameClass(NOWHERE, NOWHERE), *name_classes(names, beginnings, is_namespace)]


def method_classes(*reaches: Reach) -> list[NameClass]:
    """Every method that one of the catalogues knows; of a service that is known as a whole, one for the others."""
    names, beginnings = set[str](), set[str]()
    for reach in reaches:
        more, starts = reach.method_names()
        names |= more
        beginnings |= starts

    def known(name: str) -> bool:
        return is_method(name) and any(reach.revision.catalogue.find(name) is not None for reach in reaches)

    return list(name_classes(names, beginnings, known))
