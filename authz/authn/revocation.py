"""Revocations: tokens, certificates, subjects and issuers that are refused although their proof is good.

The file has one revocation a line; what follows ``#`` at the beginning of a line is a remark:

    # leaked in the build log of 3 May
    token corp 4f1c9a52-7be1-4c3c-a0f1-9d7b3f0f1f6e
    subject corp alice
    issuer old-idp
    certificate 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08

A token is named by its issuer's name and its ``jti``: not by its text, which can be changed without making it bad.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from authz.authn.base import Principal, PrincipalKind
from authz.authn.key_files import read_bytes
from authz.authn.subject import subject_problem
from authz.errors import AuthenticationError, KeyFileError, Place, Problem
from authz.reason import Reason

_BYTES_LIMIT: Final = 64 * 1024 * 1024
_REMEDY: Final = "write `token <issuer> <jti>`, `subject <issuer> <subject>`, `issuer <name>` or `certificate <sha256>`"
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
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


def read_revocations(path: Path) -> Revocations:
    """The revocations in the file ``path``.

    Raises:
        KeyFileError: with every line that cannot be read.
    """
    data = read_bytes(path, _BYTES_LIMIT)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise KeyFileError.at(path, "is not UTF-8") from None
    found: dict[str, set[tuple[str, ...]]] = {kind: set() for kind in _FIELDS}
    problems: list[Problem] = []
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.removesuffix("\r")
        if not line.strip() or line.startswith("#"):
            continue
        kind, *fields = line.split(" ", _FIELDS.get(line.split(" ", 1)[0], 1))
        problem = _problem(kind, fields)
        if problem:
            problems.append(Problem(Place(str(path), number), problem, _REMEDY))
        else:
            found[kind].add(tuple(fields))
    if problems:
        raise KeyFileError(problems)
    return Revocations(
        tokens=frozenset((issuer, token) for issuer, token in found["token"]),
        subjects=frozenset((issuer, subject) for issuer, subject in found["subject"]),
        issuers=frozenset(name for (name,) in found["issuer"]),
        certificates=frozenset(name for (name,) in found["certificate"]),
    )


def _problem(kind: str, fields: list[str]) -> str:
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
