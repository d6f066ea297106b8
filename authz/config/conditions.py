"""The conditions of an issuer, an authority or a rule: ``require`` and ``when``."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

from authz.authn.conditions import Condition, Has, IsBoolean, IsOneOf, IsPresent, Matches
from authz.authn.pattern import read_pattern
from authz.authn.pointer import Pointer
from authz.document import Section

ReadClaim = Callable[[Section], Pointer]
_KINDS: Final = ("equals", "one_of", "has", "match", "is", "present")


def read_conditions(section: Section, key: str, read_claim: ReadClaim) -> Sequence[Condition]:
    """The list of conditions in ``key``; all must hold. ``read_claim`` reads what one is about."""
    conditions: list[Condition] = []
    for entry in section.sections(key, ()):
        condition = _read_cel(entry) if "cel" in entry else _read_condition(entry, read_claim(entry))
        conditions.append(condition)
        entry.close()
    return conditions


def _read_cel(section: Section) -> Condition:
    text = section.text("cel")
    try:
        from authz.authn.cel import CelCondition
    except ModuleNotFoundError as exc:
        remedy = "install grpc-authz[cel], or write the condition without `cel`"
        raise section.refuse("cel", f"`cel` needs a package that is not installed: {exc.name}", remedy) from None
    try:
        return CelCondition(text)
    except ValueError as exc:
        raise section.refuse("cel", f"`cel` {exc}") from None


def _read_condition(section: Section, claim: Pointer) -> Condition:
    given = [kind for kind in _KINDS if kind in section]
    if len(given) != 1:
        remedy = f"write one of: {', '.join(_KINDS)}"
        raise section.refuse("", f"`{section.name}` names {len(given)} conditions, not one", remedy)
    if given == ["equals"]:
        return IsOneOf(claim, frozenset({section.text("equals")}))
    if given == ["one_of"]:
        return IsOneOf(claim, frozenset(section.texts("one_of")))
    if given == ["has"]:
        return Has(claim, section.text("has"))
    if given == ["match"]:
        return Matches(claim, read_match(section))
    if given == ["is"]:
        return IsBoolean(claim, section.boolean("is"))
    if not section.boolean("present"):
        raise section.refuse("present", "`present` can only be true")
    return IsPresent(claim)


def read_claim(section: Section, key: str, default: str | None = None) -> Pointer:
    """The place in a claims set that is the value of ``key``."""
    text = section.text(key) if default is None else section.text(key, default)
    try:
        return Pointer(text)
    except ValueError as exc:
        raise section.refuse(key, f"`{text}` {exc}", "write a claim's name, or a JSON Pointer such as /a/b") from None


def read_match(section: Section) -> re.Pattern[str]:
    """The pattern in the key ``match``."""
    try:
        return read_pattern(section.text("match"))
    except ValueError as exc:
        raise section.refuse("match", f"`match` {exc}") from None
