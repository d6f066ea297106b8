"""Revocations: tokens, certificates, subjects and issuers that are refused although their proof is good.

The file has one revocation a line; what follows ``#`` at the beginning of a line is a remark:

    # leaked in the build log of 3 May
    token corp 4f1c9a52-7be1-4c3c-a0f1-9d7b3f0f1f6e
    subject corp alice
    issuer old-idp
    certificate 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08

A token is named by its issuer's name and its ``jti``: not by its text, which can be changed without making it bad.

A server does not start with a line that cannot be read, or that names an issuer whom nobody has configured. When the
file changes under a server, such a line takes no other one down with it: what is good in the file is revoked, what was
revoked stays so, and the log names the line.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from authz.authn.base import Principal, PrincipalKind
from authz.authn.key_files import read_bytes
from authz.authn.subject import subject_problem
from authz.document import did_you_mean
from authz.errors import AuthenticationError, KeyFileError, Place, Problem
from authz.reason import Reason

_LOG: Final = logging.getLogger("authz.authn")
_BYTES_LIMIT: Final = 64 * 1024 * 1024
_REMEDY: Final = "write `token <issuer> <jti>`, `subject <issuer> <subject>`, `issuer <name>` or `certificate <sha256>`"
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_TOLD: Final = 20
_FIELDS: Final = {"token": 2, "subject": 2, "issuer": 1, "certificate": 1}


@dataclass(frozen=True, slots=True, eq=False)
class Revocations:
    """What is revoked. Compared by identity.

    Attributes:
        tokens: (issuer's name, ``jti``).
        subjects: (issuer's or authority's name, subject).
        issuers: names of issuers and authorities.
        certificates: SHA-256 in hex; also a token that is bound to such a certificate is refused.
    """

    tokens: frozenset[tuple[str, str]] = frozenset()
    subjects: frozenset[tuple[str, str]] = frozenset()
    issuers: frozenset[str] = frozenset()
    certificates: frozenset[str] = frozenset()

    def and_also(self, other: Revocations) -> Revocations:
        """What is revoked here or there."""
        return Revocations(
            self.tokens | other.tokens,
            self.subjects | other.subjects,
            self.issuers | other.issuers,
            self.certificates | other.certificates,
        )

    def check(self, principal: Principal) -> None:
        """Refuse ``principal`` if it is revoked.

        Raises:
            AuthenticationError: CREDENTIAL_REVOKED.
        """
        if principal.issuer in self.issuers:
            raise _revoked(f"the issuer {principal.issuer}")
        if (principal.issuer, principal.subject) in self.subjects:
            raise _revoked(f"the subject {principal.subject} of {principal.issuer}")
        if principal.fingerprint and principal.fingerprint in self.certificates:
            raise _revoked("the certificate")
        if principal.kind is PrincipalKind.TOKEN:
            token_id = principal.attributes.get("jti")
            if isinstance(token_id, str) and (principal.issuer, token_id) in self.tokens:
                raise _revoked("the token")


def _revoked(what: str) -> AuthenticationError:
    return AuthenticationError(Reason.CREDENTIAL_REVOKED, f"{what} is revoked")


NOTHING_REVOKED: Final = Revocations()


class RevocationReader:
    """Reads the same file again and again, each time it changes.

    Args:
        issuers: the names of the issuers, authorities and authenticators that there are.
    """

    def __init__(self, issuers: Iterable[str]) -> None:
        self._issuers = frozenset(issuers)
        self._read: Revocations | None = None

    def __call__(self, path: Path) -> Revocations:
        """The revocations in the file ``path``; if it was read before and has a bad line now, those of before as well.

        Raises:
            KeyFileError: the file cannot be read; or, the first time, with every line that cannot.
        """
        problems: list[Problem] = []
        found = self._parse(path, read_bytes(path, _BYTES_LIMIT), problems)
        if problems and self._read is None:
            raise KeyFileError(problems)
        if problems and self._read is not None:
            # a bad line may be one that was good before: until it is mended, nobody gets back in
            found = found.and_also(self._read)
            told = "\n".join(map(str, problems[:_TOLD]))
            _LOG.error("%d lines revoke nobody, and nothing is taken off the list meanwhile:\n%s", len(problems), told)
        self._read = found
        return found

    def _parse(self, path: Path, data: bytes, problems: list[Problem]) -> Revocations:
        # what is not UTF-8 is seen in its line
        text = data.decode("utf-8", "surrogateescape").removeprefix("\ufeff")
        found: dict[str, set[tuple[str, ...]]] = {kind: set() for kind in _FIELDS}
        for number, line in enumerate(text.split("\n"), start=1):
            line = line.removesuffix("\r")
            if not line.strip() or (line.startswith("#") and "\r" not in line):
                continue
            kind, *fields = line.split(" ", _FIELDS.get(line.split(" ", 1)[0], 1))
            problem, remedy = _problem(kind, fields), _REMEDY
            if not problem and kind != "certificate" and fields[0] not in self._issuers:
                problem = f"no issuer or authority is named `{fields[0]}`"
                remedy = did_you_mean(fields[0], self._issuers)
            if problem:
                problems.append(Problem(Place(str(path), number), problem, remedy))
            else:
                found[kind].add(tuple(fields))
        return Revocations(
            tokens=frozenset((issuer, token) for issuer, token in found["token"]),
            subjects=frozenset((issuer, subject) for issuer, subject in found["subject"]),
            issuers=frozenset(name for (name,) in found["issuer"]),
            certificates=frozenset(name for (name,) in found["certificate"]),
        )


def _problem(kind: str, fields: list[str]) -> str:
    line = " ".join((kind, *fields))
    if "\r" in line:
        return "a carriage return alone ends no line"
    if not line.isascii() and any("\ud800" <= character <= "\udfff" for character in line):
        return "is not UTF-8"
    if kind not in _FIELDS:
        return f"`{kind[:32]}` cannot be revoked"
    if len(fields) != _FIELDS[kind] or not all(fields):
        return f"a {kind} is named by {_FIELDS[kind]} words"
    if kind == "certificate" and not _FINGERPRINT.fullmatch(fields[0]):
        return "the certificate's SHA-256 is not 64 hexadecimal digits in lower case"
    if kind == "subject" and subject_problem(fields[1]):
        return f"the subject {subject_problem(fields[1])}"
    if " " in fields[0] or any(field != field.strip() for field in fields):
        return "there is a blank too many"
    return ""
