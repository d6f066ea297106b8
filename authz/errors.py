"""The exceptions of authz.

Policy answers are values, never exceptions; an exception means "could not answer", and the engine turns each of them
into a refusal.

    AuthzError
    ├── FileError              a file that cannot be used: every problem with its place and its remedy
    │   ├── ConfigError          the configuration
    │   ├── PolicyError          a policy bundle
    │   └── KeyFileError         keys, certificates, revocation lists
    ├── AuthenticationError    a credential is refused, with its reason code
    ├── MappingError           a claim mapper cannot map a principal, with its reason code
    ├── EvaluationError        an authorizer cannot answer
    ├── RefusedError           a handler's own finer check was refused
    └── AuditError             a record cannot be written
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from authz.reason import Reason

if TYPE_CHECKING:
    from authz.decision.base import Decision


class AuthzError(Exception):
    """The root of the tree: catch it to catch everything that authz raises on purpose."""


class Place(NamedTuple):
    """Where something is written: a file, a line and a column, both counted from 1 (0: the file as a whole)."""

    path: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        if not self.line:
            return self.path
        return f"{self.path}:{self.line}:{self.column}" if self.column else f"{self.path}:{self.line}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in a file: where, what, and what to write instead (``remedy``, may be empty)."""

    place: Place
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.place}: {self.message}" + (f"; {self.remedy}" if self.remedy else "")


class FileError(AuthzError):
    """A file cannot be used. ``problems`` holds every :class:`Problem` found, in the order of the file."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))

    @classmethod
    def at(cls, place: Place | str | Path, message: str, remedy: str = "") -> FileError:
        """An error with the one problem ``message`` at ``place``."""
        where = place if isinstance(place, Place) else Place(str(place))
        return cls([Problem(where, message, remedy)])


class ConfigError(FileError):
    """The configuration is refused."""


class PolicyError(FileError):
    """A policy bundle is refused; the last good revision stays in force."""


class KeyFileError(FileError):
    """A file of keys, certificates or revocations is refused."""


class _ReasonedError(AuthzError):
    def __init__(self, reason: Reason, detail: str) -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"{reason}: {detail}")

    @property
    def is_whole(self) -> bool:
        """Whether it can be recorded and answered with: what a plugin raises may have something else than a Reason."""
        reason = getattr(self, "reason", None)
        detail = getattr(self, "detail", None)
        return isinstance(reason, Reason) and reason is not Reason.ALLOWED and isinstance(detail, str)


class AuthenticationError(_ReasonedError):
    """A credential is refused.

    ``reason`` is a code for machines and audit queries; ``detail`` is a sentence for operators. It names no secret, but
    it is never sent to the caller.
    """


class MappingError(_ReasonedError):
    """A claim mapper cannot map a proven principal; ``reason`` and ``detail`` as in :class:`AuthenticationError`."""


class EvaluationError(AuthzError):
    """An authorizer could not answer. Enforced as INTERNAL, never as an allow."""


class RefusedError(AuthzError):
    """A finer check inside a handler was refused: let it pass, and the interceptor answers the caller with it.

    ``decision`` is the denial, which is recorded already.
    """

    def __init__(self, decision: Decision) -> None:
        self.decision = decision
        super().__init__(f"{decision.reason}: {decision.detail}" if decision.detail else str(decision.reason))


class AuditError(AuthzError):
    """An audit record could not be written. An allow that cannot be recorded is refused with UNAVAILABLE."""
