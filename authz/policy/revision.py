"""Revision: one immutable, content-addressed policy bundle."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from authz.errors import Place, Problem
from authz.policy.catalogue import Catalogue

NOWHERE = "@cluster"
"""What a policy file writes for "outside every namespace": the domain of calls of cluster scope, and of calls that name
no namespace. No namespace can have this name."""


@dataclass(frozen=True, slots=True)
class PolicyLine:
    """One line of a Casbin policy: its type (``p``, ``g``, ``g2``, ...), its fields, and where it is written."""

    ptype: str
    fields: tuple[str, ...]
    place: Place

    @property
    def text(self) -> str:
        """The line in Casbin's CSV form."""
        return ", ".join((self.ptype, *self.fields))


@dataclass(frozen=True, slots=True)
class Revision:
    """A policy bundle as it was read.

    Attributes:
        id: SHA-256 (hex) of the names and bytes of the bundle's files.
        path: the bundle's folder.
        model: text of the Casbin model, for Casbin and the compiler.
        lines: every line of the policy files, in order.
        catalogue: the API catalogue.
        warnings: what is suspicious and still loads.
    """

    id: str
    path: Path
    model: str = field(repr=False)
    lines: tuple[PolicyLine, ...] = field(repr=False)
    catalogue: Catalogue = field(repr=False)
    warnings: tuple[Problem, ...] = ()
