"""The ``roles`` of an issuer or authority: the rules that map its principals, and their ceiling."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from authz.authn.certificate_names import ATTRIBUTES
from authz.authn.pointer import Pointer
from authz.call import NAMESPACE_RULE, is_namespace
from authz.claims.base import ROLE_RULE, ClaimMapper, is_role
from authz.claims.grants import Ceiling, is_namespace_pattern
from authz.claims.mapper import CheckedMapper, RuleMapper
from authz.claims.permissions import SYSTEM_NAMESPACE, PermissionsRule
from authz.claims.rules import ConditionalRule, GrantOf, MatchRule, Rule, StaticRule, TableRule, holes
from authz.config.conditions import ReadClaim, read_conditions, read_match
from authz.config.plugins import CLAIM_MAPPERS, make_plugin
from authz.document import Section, did_you_mean

CERTIFICATE_FIELDS: Final = frozenset({*ATTRIBUTES, "dns", "uri", "email", "spiffe_id", "trust_domain", "path"})
_HOW: Final = ("format", "equals", "table", "match")


def read_mapper(section: Section, read_claim: ReadClaim) -> ClaimMapper:
    """Read ``roles`` or ``mapper``, ``namespaces_allowed``, ``roles_allowed`` and ``system_roles_allowed``.

    Args:
        section: an issuer or an authority.
        read_claim: reads what a rule or condition is about: a claim, or a field of a certificate.

    Raises:
        ConfigError: a rule that cannot be used, or that can only grant what is above the ceiling.
    """
    ceiling = _read_ceiling(section)
    plugin = section.section("mapper", None)
    if plugin is not None:
        if "roles" in section:
            raise section.refuse("mapper", "both `mapper` and `roles` say which roles there are", "keep one of them")
        mapper = CheckedMapper(section.text("name"), make_plugin(plugin, CLAIM_MAPPERS), ceiling)
        plugin.close()
        return mapper
    rules = []
    for entry in section.sections("roles", ()):
        rules.append(_read_rule(entry, read_claim, ceiling))
        entry.close()
    return RuleMapper(rules, ceiling)


def _read_ceiling(section: Section) -> Ceiling:
    namespaces = section.texts("namespaces_allowed", None)
    for name in namespaces or ():
        if not is_namespace_pattern(name):
            remedy = "write a namespace, or the beginning of one and a `*`: orders or orders-*"
            raise section.refuse("namespaces_allowed", f"`{name}` is not a namespace", remedy)
    roles: dict[str, frozenset[str] | None] = {}
    for key in ("roles_allowed", "system_roles_allowed"):
        names = section.texts(key, None)
        for name in names or ():
            _check_role(section, key, name)
        roles[key] = None if names is None else frozenset(names)
    return Ceiling(namespaces, roles["roles_allowed"], roles["system_roles_allowed"])


def read_field(section: Section) -> Pointer:
    """The field of a certificate that is the value of the key ``field``."""
    text = section.text("field")
    if text not in CERTIFICATE_FIELDS:
        raise section.refuse("field", f"a certificate has no field `{text}`", did_you_mean(text, CERTIFICATE_FIELDS))
    return Pointer(text)


def _read_rule(section: Section, read_claim: ReadClaim, ceiling: Ceiling) -> Rule:
    conditions = read_conditions(section, "when", read_claim)
    rule = _read_bare_rule(section, read_claim, ceiling)
    return ConditionalRule(conditions, rule) if conditions else rule


def _read_bare_rule(section: Section, read_claim: ReadClaim, ceiling: Ceiling) -> Rule:
    if "static" in section:
        return StaticRule(tuple(_grants(section, "static", ceiling)))
    claim = read_claim(section)
    if "format" in section:
        section.choice("format", ["temporal"])
        return _read_permissions(section, claim)
    if sum(how in section for how in _HOW) != 1:
        remedy = f"give each rule one of: {', '.join(_HOW)}"
        raise section.refuse("", f"`{section.name}` does not say how to read `{claim.text}`", remedy)
    split = section.boolean("split", False)
    if "equals" in section:
        return TableRule(claim, {section.text("equals"): (_grant(section, ceiling),)}, split)
    if "table" in section:
        table = section.section("table")
        return TableRule(claim, {entry: tuple(_grants(table, entry, ceiling)) for entry in table}, split)
    return _read_match(section, claim, split=split)


def _read_permissions(section: Section, claim: Pointer) -> PermissionsRule:
    pattern = None
    if "match" in section:
        pattern = read_match(section)
        for group in ("namespace", "role"):
            if group not in pattern.groupindex:
                raise section.refuse("match", f"`match` has no group `{group}`", f"write (?P<{group}>...) in it")
    system_namespace = section.text("system_namespace", SYSTEM_NAMESPACE)
    if not is_namespace(system_namespace):
        raise section.refuse("system_namespace", f"`{system_namespace}` is not a namespace: {NAMESPACE_RULE}")
    return PermissionsRule(claim, system_namespace, pattern)


def _read_match(section: Section, claim: Pointer, *, split: bool) -> MatchRule:
    pattern = read_match(section)
    role_key = _role_key(section)
    role = _read_template(section, role_key, pattern)
    namespace = None if role_key == "system_role" else _read_template(section, "namespace", pattern)
    words: dict[str, str] = {}
    table = section.section("words", None)
    if table is not None:
        words = {word: _check_role(table, word, table.text(word)) for word in table}
    elif not holes(role):
        _check_role(section, role_key, role)
    if namespace is not None and not holes(namespace) and not is_namespace(namespace):
        raise section.refuse("namespace", f"`{namespace}` is not a namespace: {NAMESPACE_RULE}")
    return MatchRule(claim, pattern, role, namespace, words, split)


def _read_template(section: Section, key: str, pattern: re.Pattern[str]) -> str:
    template = section.text(key)
    try:
        names = holes(template)
    except ValueError as exc:
        raise section.refuse(key, f"`{template}` {exc}", "write {name} for the group (?P<name>...)") from None
    for name in names:
        if name not in pattern.groupindex:
            raise section.refuse(key, f"`match` has no group `{name}`", did_you_mean(name, pattern.groupindex))
    return template


def _role_key(section: Section) -> str:
    if ("role" in section) == ("system_role" in section):
        raise section.refuse(
            "",
            f"`{section.name}` must have either `role` with `namespace`, or `system_role`",
            "write `role: reader` and `namespace: orders`, or `system_role: reader`",
        )
    return "role" if "role" in section else "system_role"


def _grants(section: Section, key: str, ceiling: Ceiling) -> Iterator[GrantOf]:
    for entry in section.sections(key):
        yield _grant(entry, ceiling)
        entry.close()


def _grant(section: Section, ceiling: Ceiling) -> GrantOf:
    key = _role_key(section)
    role = _check_role(section, key, section.text(key))
    namespace = None if key == "system_role" else section.text("namespace")
    if namespace is not None and not is_namespace(namespace):
        raise section.refuse("namespace", f"`{namespace}` is not a namespace: {NAMESPACE_RULE}")
    if not ceiling.allows(role, namespace):
        where = "system-wide" if namespace is None else f"in `{namespace}`"
        raise section.refuse(key, f"`{role}` {where} is above the ceiling of what may be granted here")
    return GrantOf(role, namespace)


def _check_role(section: Section, key: str, name: str) -> str:
    if not is_role(name):
        raise section.refuse(key, f"`{name}` cannot be granted as a role", f"write {ROLE_RULE}")
    return name
