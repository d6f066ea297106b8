"""Rules: how a claim or a certificate field becomes grants.

What has another shape than the configuration says refuses the caller: the issuer is not what it was taken for. What
has the right shape and means nothing here is skipped with a note, for lists of groups and permissions are shared
between systems; nothing is ever granted by it, since grants only add.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from authz.authn.conditions import Condition
from authz.authn.pointer import ABSENT, Pointer
from authz.authn.subject import is_visible
from authz.claims.grants import Grants
from authz.errors import MappingError
from authz.reason import Reason

ENTRIES_LIMIT: Final = 1000
ENTRY_LIMIT: Final = 512


class Rule(Protocol):
    """One rule. Immutable."""

    def apply(self, attributes: Mapping[str, object], grants: Grants) -> None:
        """Add to ``grants`` what ``attributes`` give.

        Raises:
            MappingError: CLAIMS_MALFORMED: a value has another shape than the rule describes.
        """
        ...


@dataclass(frozen=True, slots=True)
class GrantOf:
    """A role where it holds: in ``namespace``, or system-wide if that is None."""

    role: str
    namespace: str | None = None


@dataclass(frozen=True, slots=True)
class StaticRule:
    """Grants to whoever the issuer proves."""

    grants: tuple[GrantOf, ...]

    def apply(self, attributes: Mapping[str, object], grants: Grants) -> None:  # noqa: ARG002 - the same for everyone
        """See :class:`Rule`."""
        for grant in self.grants:
            grants.add(grant.role, grant.namespace, "static")


@dataclass(frozen=True, slots=True)
class ConditionalRule:
    """A rule that is applied only if all of its conditions hold."""

    conditions: Sequence[Condition]
    rule: Rule

    def apply(self, attributes: Mapping[str, object], grants: Grants) -> None:
        """See :class:`Rule`."""
        for condition in self.conditions:
            if not condition.holds(attributes):
                grants.note(f"a rule was not applied: not so: {condition.text}")
                return
        self.rule.apply(attributes, grants)


@dataclass(frozen=True, slots=True)
class TableRule:
    """Grants by the exact text of an entry, e.g. a group. Entries that are not in the table mean nothing here."""

    claim: Pointer
    table: Mapping[str, tuple[GrantOf, ...]]
    split: bool = False

    def apply(self, attributes: Mapping[str, object], grants: Grants) -> None:
        """See :class:`Rule`."""
        for entry in read_entries(self.claim, attributes, split=self.split):
            for grant in self.table.get(entry, ()):
                grants.add(grant.role, grant.namespace, self.claim.text)


@dataclass(frozen=True, slots=True)
class MatchRule:
    """Grants by a regular expression that matches a whole entry, with its named groups as parts of the grant.

    Attributes:
        claim: where the entries are.
        pattern: ASCII; matched against whole entries only.
        role: template of the role, e.g. ``{role}`` or ``team-{role}``.
        namespace: template of the namespace; None: the role holds system-wide.
        words: translates what the template gave into a role name; one that is not there grants nothing. Empty: as is.
        split: whether a text is a list with blanks between its entries, like OAuth's ``scope``.
    """

    claim: Pointer
    pattern: re.Pattern[str]
    role: str
    namespace: str | None = None
    words: Mapping[str, str] = field(default_factory=dict)
    split: bool = False

    def apply(self, attributes: Mapping[str, object], grants: Grants) -> None:
        """See :class:`Rule`."""
        for entry in read_entries(self.claim, attributes, split=self.split):
            match = self.pattern.fullmatch(entry)
            if match is None:
                continue
            role = fill(self.role, match)
            if self.words:
                role = self.words.get(role, "")
            namespace = None if self.namespace is None else fill(self.namespace, match)
            grants.add(role, namespace, self.claim.text)


_HOLE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


def holes(template: str) -> Sequence[str]:
    """The names of the groups that ``template`` refers to.

    Raises:
        ValueError: a brace that belongs to no ``{name}``.
    """
    if re.search(r"[{}]", _HOLE.sub("", template)):
        raise ValueError("has a brace that is not part of a {name}")
    return _HOLE.findall(template)


def fill(template: str, match: re.Match[str]) -> str:
    """``template`` with the groups of ``match``; a group that did not take part is empty."""
    return _HOLE.sub(lambda hole: match[hole[1]] or "", template)


def read_entries(claim: Pointer, attributes: Mapping[str, object], *, split: bool) -> Sequence[str]:
    """The texts at ``claim``: none if it is absent, one if it is a text, each of a list.

    Raises:
        MappingError: CLAIMS_MALFORMED: it is neither, or there are too many, or one is too long or has a character that
            cannot be seen.
    """
    value = claim.find(attributes)
    if value is ABSENT:
        return ()
    found = value if isinstance(value, list) else value.split(" ") if split and isinstance(value, str) else [value]
    if len(found) > ENTRIES_LIMIT:
        raise malformed(f"`{claim.text}` has more than {ENTRIES_LIMIT} entries")
    entries: list[str] = []
    for entry in found:
        if not isinstance(entry, str):
            raise malformed(f"`{claim.text}` is neither a text nor a list of texts")
        if len(entry) > ENTRY_LIMIT or not is_visible(entry):
            detail = f"`{claim.text}` has an entry of more than {ENTRY_LIMIT} characters, or one that cannot be seen"
            raise malformed(detail)
        entries.append(entry)
    return entries


def malformed(detail: str) -> MappingError:
    """A CLAIMS_MALFORMED error with ``detail``."""
    return MappingError(Reason.CLAIMS_MALFORMED, detail)
