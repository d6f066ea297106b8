"""Check: what is wrong with the lines of a bundle, given its model and its catalogue.

Casbin reads a field that nothing can ever equal without a word, so a typo silently allows or denies. Here each field of
a bundle's lines has a meaning (who, where, what, how), and what has none is refused.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Collection, Iterable
from typing import Final

from authz.authn.subject import LENGTH_LIMIT, subject_problem
from authz.call import NAMESPACE_RULE, Access, Scope, is_method, is_namespace
from authz.document import did_you_mean
from authz.errors import Place, Problem
from authz.policy.catalogue import Catalogue
from authz.policy.ending import END_RULE, end_field, read_end
from authz.policy.lines import PolicyLines, parts
from authz.policy.matcher import FUNCTIONS, constants, uses
from authz.policy.model import Model, PolicyEffect
from authz.policy.revision import NOWHERE

REQUEST_FIELDS: Final = ("sub", "dom", "obj", "act")
"""What a bundle's model may ask about: the caller, the namespace, the method, the method's access."""

_ROLE: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_EFFECTS: Final = ("allow", "deny")
_ACCESS: Final = tuple(access.value for access in Access)
_Found = tuple[str, str] | None
_Edges = dict[str, dict[str, int]]


def check_model(model: Model) -> list[Problem]:
    """What a bundle's model may not say though Casbin would take it."""
    problems: list[Problem] = []
    for name in model.request:
        if name not in REQUEST_FIELDS:
            message = f"`r` asks for `{name}`, which no call has"
            problems.append(Problem(model.places["r"], message, did_you_mean(name, REQUEST_FIELDS)))
    if "sub" not in model.request and not problems:
        message = "`r` does not ask for `sub`, so every caller would be the same"
        problems.append(Problem(model.places["r"], message, "add `sub`"))
    for key, place in model.places.items():
        if key[0] in "rpem" and len(key) > 1:
            problems.append(Problem(place, f"`{key}` is never decided: a call is asked of `{key[0]}`", "leave it out"))
    for key, role in model.roles.items():
        if role.conditions:
            message = f"`{key}` has conditions, which every reload of Casbin forgets"
            problems.append(Problem(model.places[key], message, "write `_, _`"))
        elif role.fields > 3:
            problems.append(Problem(model.places[key], f"`{key}` has more than one domain", "write `_, _, _`"))
    if model.effect is PolicyEffect.DENY_OVERRIDE:
        message = "this effect allows every call that no rule denies, and everything under an empty policy"
        problems.append(Problem(model.places["e"], message, f"write `{PolicyEffect.ALLOW_AND_DENY.value}`"))
    return problems


class LineCheck:
    """Checks ``lines`` against ``model``, its matcher ``tree`` and ``catalogue``.

    Attributes:
        problems: what must be repaired, in the order of the lines.
        warnings: what is suspicious and still loads.
    """

    def __init__(self, model: Model, tree: ast.expr, catalogue: Catalogue, lines: PolicyLines) -> None:
        self._model = model
        self._tree = tree
        self._end_field = end_field(tree)
        self._catalogue = catalogue
        self._lines = lines
        self._at: list[tuple[int, int, str, str]] = []
        self._bad: dict[tuple[str, int, str], tuple[str, str]] = {}
        self.warnings: list[Problem] = []
        self._widths = {key: len(names) for key, names in model.policies.items()}
        self._widths |= {key: role.fields for key, role in model.roles.items()}
        self._subject_roles = {key for key in model.roles if uses(tree, key, "r_sub", "p_sub")}
        self._method_roles = {key for key in model.roles if uses(tree, key, "r_obj", "p_obj")}
        self._patterns = {name for name in REQUEST_FIELDS if uses(tree, "keyMatch", f"r_{name}", f"p_{name}")}
        self._constants = {name: constants(tree, f"p_{name}") for name in REQUEST_FIELDS}
        # Of a field with patterns of the model's own, nothing is known here.
        self._free = {
            name
            for name in REQUEST_FIELDS
            if any(uses(tree, each, f"r_{name}", f"p_{name}") for each in FUNCTIONS - {"keyMatch"})
        }
        rows = lines.rows()
        self._shapes(rows)
        if not self._at:
            self._values(rows)
            self._duplicates(rows)
        self.problems = [
            Problem(lines.place(index, field), message, remedy) for index, field, message, remedy in sorted(self._at)
        ]

    def _refuse(self, index: int, field: int, message: str, remedy: str = "") -> None:
        self._at.append((index, field, message, remedy))

    def _shapes(self, rows: list[list[str]]) -> None:
        """Types and field counts."""
        widths = {key: width + 1 for key, width in self._widths.items()}
        for index, row in enumerate(rows):
            if widths.get(row[0]) != len(row) or "" in row:
                self._shape(index, row)

    def _shape(self, index: int, row: list[str]) -> None:
        ptype, count = row[0], len(row) - 1
        width = self._widths.get(ptype)
        if width is None:
            hint = did_you_mean(ptype.lower(), self._widths)
            if ptype[:1] == "g" and not self._model.roles:
                hint = "add `[role_definition]` and `g = _, _` to the model"
            self._refuse(index, 0, f"the model defines no `{ptype}`, so Casbin would overlook this line", hint)
        elif count != width:
            names = self._model.policies.get(ptype, ("member", "role", "domain")[:width])
            self._refuse(index, 0, f"has {count} fields, `{ptype}` has {width}", f"write {ptype}, {', '.join(names)}")
        else:
            self._refuse(index, row.index(""), "a field is empty", "write a value, or remove the comma")

    def _values(self, rows: list[list[str]]) -> None:
        """What the fields say, each distinct value once."""
        by_type: dict[str, list[list[str]]] = {ptype: [] for ptype in self._widths}
        for row in rows:
            by_type[row[0]].append(row)
        seen: dict[tuple[str, int], dict[str, None]] = {}
        for ptype, width in self._widths.items():
            columns: list[dict[str, None]] = [{} for _ in range(width + 1)]
            for part in parts(by_type[ptype]):
                for column, cells in zip(columns, zip(*part, strict=True), strict=True):
                    column.update(dict.fromkeys(cells))
            seen |= {(ptype, field): columns[field] for field in range(1, width + 1)}
        groups = {group for key in self._method_roles for group in seen[key, 2]}
        for (ptype, field), values in seen.items():
            for value in values:
                if found := self._value(ptype, field, value, groups):
                    self._bad[ptype, field, value] = found
        if self._bad:
            for index, row in enumerate(rows):
                for field in range(1, len(row)):
                    if found := self._bad.get((row[0], field, row[field])):
                        self._refuse(index, field, *found)
            return
        edges = {key: self._edges(key, rows) if by_type[key] else {} for key in self._model.roles}
        for key in self._model.roles:
            self._circle(edges[key])
        self._loose_ends(seen, edges)
        self._dead_rules(seen, by_type["p"], rows)

    def _value(self, ptype: str, field: int, value: str, groups: Iterable[str]) -> _Found:
        """What is wrong with ``value``, and what to write instead."""
        if ptype in self._subject_roles:
            if field == 3:
                return _namespace(value, pattern=False)
            return _subject(value) if field == 1 else _role(value)
        if ptype in self._method_roles and field < 3:
            return self._group(value) if field == 2 or value.startswith("api:") else self._method(value, groups, False)
        if ptype in self._model.roles:
            return None
        name = self._model.policies[ptype][field - 1]
        if name == "priority":
            return None if value.isdecimal() and value.isascii() else (f"`{value}` is no priority", "write a number")
        if name == "eft" and value == "deny" and self._model.effect is PolicyEffect.ALLOW_OVERRIDE:
            remedy = f"write `e = {PolicyEffect.ALLOW_AND_DENY.value}` in the model"
            return "the model's effect ignores every denial", remedy
        if name == self._end_field:
            return _end(value)
        if name == "eft":
            return None if value in _EFFECTS else (f"`{value}` is no effect", did_you_mean(value.lower(), _EFFECTS))
        if name not in REQUEST_FIELDS or name in self._free or value in self._constants[name]:
            return None
        pattern = name in self._patterns
        checks: dict[str, Callable[[], _Found]] = {
            "sub": lambda: _subject(value),
            "dom": lambda: _namespace(value, pattern=pattern),
            "obj": lambda: self._method(value, groups, pattern),
            "act": lambda: (
                None if value in _ACCESS else (f"`{value}` is no access", did_you_mean(value.lower(), _ACCESS))
            ),
        }
        return checks[name]()

    def _group(self, value: str) -> _Found:
        if value.startswith("api:") and _ROLE.fullmatch(value[4:]):
            return None
        return f"`{value}` is no API group", "write `api:<name>`, in ASCII letters, digits, `_`, `.` and `-`"

    def _method(self, value: str, groups: Iterable[str], pattern: bool) -> _Found:
        known = self._catalogue.methods
        if value.startswith("api:"):
            if value in groups:
                return None
            remedy = did_you_mean(value, groups) or f"add `g2, <method>, {value}`"
            return f"no line puts a method into the API group `{value}`", remedy
        if "*" in value:
            prefix = value[:-1]
            if not pattern:
                return f"`{value}` would not be a pattern here", "name the method"
            if value == "*":
                return None
            if "*" in prefix:
                return f"`{value}`: Casbin ignores what follows the first `*`", "write `*` at the end only"
            if any(name.startswith(prefix) or (name.endswith("/*") and prefix.startswith(name[:-1])) for name in known):
                return None
            return f"`{value}` matches no method of the catalogue", did_you_mean(prefix, known)
        if self._catalogue.find(value) is not None:
            return None
        if not is_method(value) and not value.startswith("/"):
            near = [name for name in known if name.endswith("/" + value)]
            return f"`{value}` is no method", f"write `{near[0]}`" if near else "write `/package.Service/Method`"
        return f"the catalogue knows no method `{value}`", did_you_mean(value, known)

    def _edges(self, key: str, rows: list[list[str]]) -> _Edges:
        edges: _Edges = {}
        for index, row in enumerate(rows):
            if row[0] == key:
                domain = "\0" + row[3] if len(row) > 3 else ""
                edges.setdefault(row[1] + domain, {}).setdefault(row[2] + domain, index)
        return edges

    def _circle(self, edges: _Edges) -> None:
        """Refuse the first line of each way that leads back to where it began, and warn of ways too long for Casbin."""
        depth: dict[str, int] = {}
        for start in edges:
            way: list[tuple[str, Iterable[str]]] = [(start, iter(edges[start]))] if start not in depth else []
            on_way = {start}
            while way:
                name, parents = way[-1]
                for parent in parents:
                    if parent in on_way:
                        index, circle = edges[name][parent], [each.partition("\0")[0] for each, _ in way]
                        circle = circle[circle.index(parent.partition("\0")[0]) :]
                        text = " -> ".join([*circle, circle[0]])
                        self._refuse(index, 0, f"closes the circle {text}", "remove one of its lines")
                        return
                    if parent not in depth and parent in edges:
                        way.append((parent, iter(edges[parent])))
                        on_way.add(parent)
                        break
                else:
                    depth[name] = 1 + max((depth.get(parent, 0) for parent in edges[name]), default=0)
                    way.pop()
                    on_way.discard(name)
            if depth.get(start, 0) >= 10:
                index = next(iter(edges[start].values()))
                message = f"`{start.partition(chr(0))[0]}` is {depth[start]} steps from its last role: others stop at 9"
                self.warnings.append(Problem(self._lines.place(index), message, "make the way shorter"))

    def _loose_ends(self, seen: dict[tuple[str, int], dict[str, None]], edges: dict[str, _Edges]) -> None:
        """Roles that grant nothing, and API groups that no rule names."""
        names = self._model.policies["p"]
        for name, keys in (("sub", self._subject_roles), ("obj", self._method_roles)):
            if name not in names:
                continue
            granted = seen["p", names.index(name) + 1]
            for key in keys:
                first = {role: index for below in edges[key].values() for role, index in reversed(below.items())}
                members = {member.partition("\0")[0] for member in edges[key]}
                for role, index in sorted(first.items(), key=lambda item: item[1]):
                    self._loose_end(name, role.partition("\0")[0], index, granted, members)
        if not seen["p", 1]:
            place = Place(self._lines.place(0).path) if len(self._lines) else self._model.places["p"]
            self.warnings.append(
                Problem(place, "has no rule: every call is denied", "add a line that begins with `p, `")
            )

    def _loose_end(self, name: str, role: str, index: int, granted: Collection[str], members: Collection[str]) -> None:
        if role in granted or role in members:
            return
        if name == "obj":
            message = f"no rule names the API group `{role}`"
            self.warnings.append(Problem(self._lines.place(index, 2), message, did_you_mean(role, granted)))
            return
        known = [each for each in (*granted, *members) if each.startswith("role:")]
        self._refuse(index, 2, f"no line grants anything to `{role}`", did_you_mean(role, known))

    def _dead_rules(
        self, seen: dict[tuple[str, int], dict[str, None]], rules: list[list[str]], rows: list[list[str]]
    ) -> None:
        """Rules for one method that its access or its scope keeps from ever matching."""
        names = self._model.policies["p"]
        if "obj" not in names or "obj" in self._free:
            return
        obj = names.index("obj") + 1
        methods = {value: self._catalogue.find(value) for value in seen["p", obj] if is_method(value)}
        cluster = {value for value, method in methods.items() if method and method.scope is Scope.CLUSTER}
        dead: dict[tuple[str, int, str], tuple[str, str]] = {}
        if "act" in names and "act" not in self._free:
            act = names.index("act") + 1
            for value, how in {(rule[obj], rule[act]) for rule in rules}:
                method = methods.get(value)
                if method is not None and how in _ACCESS and how != method.access:
                    message = f"never matches: `{value}` is {method.access}, not {how}"
                    dead[value, act, how] = (message, f"write `{method.access}`")
        if "dom" in names and "dom" not in self._free and cluster:
            dom = names.index("dom") + 1
            for value, where in {(rule[obj], rule[dom]) for rule in rules if rule[obj] in cluster}:
                if where not in ("*", NOWHERE):
                    message = f"never matches: `{value}` has scope cluster, and `{where}` is a namespace"
                    dead[value, dom, where] = (message, f"write `{NOWHERE}`")
        if not dead:
            return
        fields = sorted({field for _, field, _ in dead})
        for index, row in enumerate(rows):
            for field in fields if row[0] == "p" else ():
                if found := dead.get((row[obj], field, row[field])):
                    self.warnings.append(Problem(self._lines.place(index, field), *found))

    def _duplicates(self, rows: list[list[str]]) -> None:
        # Texts, not tuples: Python keeps some freed tuples for later, and with them the memory around them.
        once: set[str] = set()
        for part in parts(rows):
            once.update(map(",".join, part))
        if len(once) != len(rows):
            first: dict[str, int] = {}
            for index, row in enumerate(rows):
                before = first.setdefault(",".join(row), index)
                if before != index:
                    self._refuse(index, 0, f"is the same line as {self._lines.place(before)}", "keep one of them")
        names = self._model.policies["p"]
        if "eft" in names:
            eft = names.index("eft") + 1
            for index, row in enumerate(rows):
                if row[0] == "p" and row[eft] == "deny" and ",".join([*row[:eft], "allow", *row[eft + 1 :]]) in once:
                    message = "the same is allowed by another line, which has no effect then"
                    self.warnings.append(Problem(self._lines.place(index, eft), message, "remove one of them"))


def _end(value: str) -> _Found:
    try:
        read_end(value)
    except ValueError:
        return f"`{value}` is no end of a rule", f"write {END_RULE}"
    return None


def _subject(value: str) -> _Found:
    if value.startswith("role:"):
        return _role(value)
    if not value.startswith("user:"):
        near = value.partition(":")[2] or value
        return f"`{value}` is no subject", f"write `role:{near}`, or `user:<prefix of the issuer>{near}`"
    if value == "user:":
        return "`user:` names nobody", "write `user:<prefix of the issuer><subject>`"
    if "*" in value:
        return f"`{value}`: a subject is no pattern", "name the user, or give a role to many users"
    # the prefix may be as long again
    if problem := subject_problem(value.removeprefix("user:"), 2 * LENGTH_LIMIT):
        return f"`{value}` is no subject of any caller: it {problem}", "write it as in a record of the audit log"
    return None


def _role(value: str) -> _Found:
    if not value.startswith("role:"):
        near = value.partition(":")[2] or value
        return f"`{value}` is no role", f"write `role:{near}`"
    if _ROLE.fullmatch(value[5:]) is None:
        return f"`{value}` is no role", "write 1 to 128 ASCII letters, digits, `_`, `.` and `-` after `role:`"
    return None


def _namespace(value: str, *, pattern: bool) -> _Found:
    if value == NOWHERE or is_namespace(value) or (pattern and value == "*"):
        return None
    if pattern and value.endswith("*") and is_namespace(value[:-1]):
        return None
    if "*" in value[:-1] and pattern:
        return f"`{value}`: Casbin ignores what follows the first `*`", "write `*` at the end only"
    if "*" in value and not pattern:
        return f"`{value}` would not be a pattern here", "name the namespace"
    return f"`{value}` is no namespace", f"write {NAMESPACE_RULE}; or `{NOWHERE}` for outside every namespace"
