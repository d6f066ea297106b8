"""Condition: what must hold of a claims set or of a certificate's names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from authz.authn.pointer import ABSENT, Pointer

_TEXT_LIMIT = 512


class Condition(Protocol):
    """A condition. Immutable."""

    @property
    def text(self) -> str:
        """The condition in words, for the detail of a refusal."""
        ...

    def holds(self, attributes: Mapping[str, object]) -> bool:
        """Whether it holds. What is absent or of another type than the condition names does not make it hold."""
        ...


@dataclass(frozen=True, slots=True)
class IsBoolean:
    """The claim is there and is this boolean; neither the text ``"true"`` nor 1 is one."""

    claim: Pointer
    value: bool

    @property
    def text(self) -> str:
        """See :class:`Condition`."""
        return f"`{self.claim.text}` is {str(self.value).lower()}"

    def holds(self, attributes: Mapping[str, object]) -> bool:
        """See :class:`Condition`."""
        return self.claim.find(attributes) is self.value


@dataclass(frozen=True, slots=True)
class IsOneOf:
    """The claim is a text, and one of these, to the letter."""

    claim: Pointer
    values: frozenset[str]

    @property
    def text(self) -> str:
        """See :class:`Condition`."""
        return f"`{self.claim.text}` is one of {', '.join(sorted(self.values))}"

    def holds(self, attributes: Mapping[str, object]) -> bool:
        """See :class:`Condition`."""
        value = self.claim.find(attributes)
        return isinstance(value, str) and value in self.values


@dataclass(frozen=True, slots=True)
class Has:
    """The claim is a list, and this text is in it."""

    claim: Pointer
    value: str

    @property
    def text(self) -> str:
        """See :class:`Condition`."""
        return f"`{self.claim.text}` has {self.value}"

    def holds(self, attributes: Mapping[str, object]) -> bool:
        """See :class:`Condition`."""
        found = self.claim.find(attributes)
        return isinstance(found, list) and self.value in found


@dataclass(frozen=True, slots=True)
class Matches:
    """The claim is a text, and the whole of it matches."""

    claim: Pointer
    pattern: re.Pattern[str]

    @property
    def text(self) -> str:
        """See :class:`Condition`."""
        return f"`{self.claim.text}` matches {self.pattern.pattern}"

    def holds(self, attributes: Mapping[str, object]) -> bool:
        """See :class:`Condition`."""
        value = self.claim.find(attributes)
        return isinstance(value, str) and len(value) <= _TEXT_LIMIT and self.pattern.fullmatch(value) is not None


@dataclass(frozen=True, slots=True)
class IsPresent:
    """The claim is there, and is not null."""

    claim: Pointer

    @property
    def text(self) -> str:
        """See :class:`Condition`."""
        return f"`{self.claim.text}` is present"

    def holds(self, attributes: Mapping[str, object]) -> bool:
        """See :class:`Condition`."""
        value = self.claim.find(attributes)
        return value is not ABSENT and value is not None
