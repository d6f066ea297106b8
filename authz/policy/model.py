"""Model: a Casbin model, read strictly. The language is Casbin's; what Casbin would overlook is refused with its place.

Only the plain request is ever decided (``r``, ``p``, ``e``, ``m``, as Casbin's own ``enforce`` does), with any number
of role definitions ``g``, ``g2``, ...
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from authz.document import did_you_mean
from authz.errors import Place, PolicyError, Problem

_SECTIONS: Final = {
    "request_definition": "r",
    "policy_definition": "p",
    "role_definition": "g",
    "policy_effect": "e",
    "matchers": "m",
}
_REQUIRED: Final = ("request_definition", "policy_definition", "policy_effect", "matchers")
_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ROLE_FIELDS = re.compile(r"_(?:\s*,\s*_)+(?:\s*,\s*\(\s*_(?:\s*,\s*_)*\s*\))?")


class PolicyEffect(Enum):
    """How the effects of the matching rules become one answer. The values are Casbin's own spelling."""

    ALLOW_OVERRIDE = "some(where (p.eft == allow))"
    DENY_OVERRIDE = "!some(where (p.eft == deny))"
    ALLOW_AND_DENY = "some(where (p.eft == allow)) && !some(where (p.eft == deny))"
    PRIORITY = "priority(p.eft) || deny"
    SUBJECT_PRIORITY = "subjectPriority(p.eft) || deny"


@dataclass(frozen=True, slots=True)
class RoleDefinition:
    """``g = _, _``: how many fields its lines have, and how many of those are conditions in brackets."""

    fields: int
    conditions: int = 0


@dataclass(frozen=True, slots=True)
class Model:
    """A Casbin model.

    Attributes:
        text: as written, for Casbin itself.
        request: names of the request's fields, in order.
        policies: policy type (``p``, ``p2``, ...) -> names of its fields.
        roles: role type (``g``, ``g2``, ...) -> its definition.
        effect: how matching rules become one answer.
        matcher: the expression ``m``, without comments.
        places: key (``r``, ``p``, ``m``, ...) -> where its value is written.
    """

    text: str = field(repr=False)
    request: tuple[str, ...]
    policies: Mapping[str, tuple[str, ...]]
    roles: Mapping[str, RoleDefinition]
    effect: PolicyEffect
    matcher: str
    places: Mapping[str, Place] = field(repr=False)


def read_model(text: str, path: str) -> Model:
    """The Casbin model in ``text``; ``path`` is for messages.

    Raises:
        PolicyError: everything that Casbin would refuse later, or overlook.
    """
    problems: list[Problem] = []
    found = _definitions(text, path, problems)
    for section in _REQUIRED:
        letter = _SECTIONS[section]
        if letter not in found and not problems:
            remedy = f"add `[{section}]` and `{letter} = ...`"
            problems.append(Problem(Place(path), f"`{letter}` of `[{section}]` is missing", remedy))
    if problems:
        raise PolicyError(problems)
    request: tuple[str, ...] = ()
    policies: dict[str, tuple[str, ...]] = {}
    roles: dict[str, RoleDefinition] = {}
    effect: PolicyEffect | None = None
    for key, (value, place) in found.items():
        if "#" in value and key[0] in "rpg":
            remedy = "put the comment on a line of its own"
            problems.append(Problem(place, f"`{key}` would take the comment as part of its value", remedy))
        elif key == "r":
            request = _fields(key, value, place, problems)
        elif key[0] == "p":
            policies[key] = _fields(key, value, place, problems)
        elif key[0] == "g":
            definition = _role_definition(key, value, place, problems)
            roles[key] = definition
        elif key == "e":
            effect = _effect(value.split("#")[0].strip(), place, problems)
    if problems or effect is None:
        raise PolicyError(problems)
    matcher, place = found["m"]
    matcher = matcher.split("#")[0].strip()
    if not matcher:
        raise PolicyError.at(place, "`m` is empty", "write what a rule and a request must have in common")
    places = {key: place for key, (_, place) in found.items()}
    return Model(text, request, policies, roles, effect, matcher, places)


def _definitions(text: str, path: str, problems: list[Problem]) -> dict[str, tuple[str, Place]]:
    """Key -> value and place, of every definition; what is no definition goes to ``problems``."""
    found: dict[str, tuple[str, Place]] = {}
    section = ""
    pending, start = "", 0
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip()
        if not pending:
            start = number
            if not line or line[0] in "#;":
                continue
            if line[0] == "[":
                section = _section(line, Place(path, number, 1), problems)
                continue
        elif not line or line[0] in "#;[":
            problems.append(Problem(Place(path, number, 1), "a line that ends in `\\` must be continued here"))
            pending = ""
            continue
        if line.endswith("\\"):
            pending += line[:-1].strip() + " "
            continue
        line, pending = pending + line, ""
        key, equals, value = (part.strip() for part in line.partition("="))
        column = raw.find("=") + 2 if start == number else 1
        column += len(raw[column - 1 :]) - len(raw[column - 1 :].lstrip()) if start == number else 0
        _take(found, section, key, value if equals else "", Place(path, start, column), problems)
    if pending:
        problems.append(Problem(Place(path, start, 1), "the last line ends in `\\`", "write the rest, or remove `\\`"))
    return found


def _section(line: str, place: Place, problems: list[Problem]) -> str:
    name = line[1:-1]
    if line[-1] != "]" or name not in _SECTIONS:
        problems.append(Problem(place, f"unknown section `{line}`", did_you_mean(name, _SECTIONS)))
        return "?"
    return name


def _take(
    found: dict[str, tuple[str, Place]], section: str, key: str, value: str, place: Place, problems: list[Problem]
) -> None:
    letter = _SECTIONS.get(section)
    if letter is None:
        if section != "?":
            remedy = "begin with `[request_definition]`"
            problems.append(Problem(place, f"`{key}` stands before the first section", remedy))
    elif re.fullmatch(rf"{letter}(?:[2-9]|[1-9][0-9]+)?", key) is None:
        message = f"`{key}` is no key of `[{section}]`: Casbin would overlook it"
        problems.append(Problem(place, message, f"write `{letter} = ...`"))
    elif not value:
        problems.append(Problem(place, f"`{key}` has no value", f"write `{key} = ...`"))
    elif key in found:
        message = f"`{key}` is defined twice, first on line {found[key][1].line}"
        problems.append(Problem(place, message, "keep one of them"))
    else:
        found[key] = (value, place)


def _fields(key: str, value: str, place: Place, problems: list[Problem]) -> tuple[str, ...]:
    names = tuple(name.strip() for name in value.split(","))
    for name in names:
        if _FIELD.fullmatch(name) is None:
            problems.append(Problem(place, f"`{name}` in `{key}` is no name", "write letters, digits and `_`"))
        elif names.count(name) > 1:
            problems.append(Problem(place, f"`{key}` names `{name}` twice", "keep one of them"))
            break
    return names


def _role_definition(key: str, value: str, place: Place, problems: list[Problem]) -> RoleDefinition:
    if _ROLE_FIELDS.fullmatch(value) is None:
        remedy = f"write `{key} = _, _`, or `{key} = _, _, _` for roles by domain"
        problems.append(Problem(place, f"`{key}` cannot be `{value}`", remedy))
    outside, _, inside = value.partition("(")
    return RoleDefinition(value.count("_"), inside.count("_") if outside else 0)


def _effect(value: str, place: Place, problems: list[Problem]) -> PolicyEffect | None:
    spelled = value.replace("p_eft", "p.eft")
    for effect in PolicyEffect:
        if effect.value == spelled:
            return effect
    near = {effect.value.replace(" ", ""): effect.value for effect in PolicyEffect}.get(spelled.replace(" ", ""))
    remedy = f"write `{near}`" if near else did_you_mean(value, [effect.value for effect in PolicyEffect])
    problems.append(Problem(place, f"Casbin has no effect `{value}`", remedy))
    return None
