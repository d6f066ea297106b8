"""Revision: one immutable, content-addressed policy bundle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from authz.errors import Problem
from authz.policy.catalogue import Catalogue
from authz.policy.lines import PolicyLine, PolicyLines

__all__ = ["NOWHERE", "PolicyLine", "PolicyLines", "Revision"]

NOWHERE = "@cluster"
"""What a policy file writes for "outside every namespace": the domain of calls of cluster scope, and of calls that name
no namespace. No namespace can have this name."""


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
    lines: Sequence[PolicyLine] = field(repr=False)
    catalogue: Catalogue = field(repr=False)
    warnings: tuple[Problem, ...] = ()
