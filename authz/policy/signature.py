"""Signature: who vouches for a bundle. Ed25519 over the bundle's revision, in the file ``bundle.sig`` beside its files.

The revision is the SHA-256 of the names and bytes of all files of the bundle, so the signature is about each of them;
the bundle's tests are no part of it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from authz.errors import KeyFileError, Place, PolicyError
from authz.policy.revision import Revision

SIGNATURE: Final = "bundle.sig"
_CONTEXT: Final = b"authz policy bundle v1\n"
_HEAD: Final = "# Ed25519 signature of this bundle's revision: revision, key, signature"
_BYTES_LIMIT: Final = 4096


@dataclass(frozen=True, slots=True)
class Signer:
    """A public key that may vouch for bundles.

    Attributes:
        key: the key.
        id: the first 16 hex digits of the SHA-256 of its 32 bytes.
        path: where it was read.
    """

    key: Ed25519PublicKey
    id: str
    path: Path


def read_signer(path: Path) -> Signer:
    """The Ed25519 public key in the PEM file ``path``.

    Raises:
        KeyFileError: there is none.
    """
    try:
        key = load_pem_public_key(_read(path))
    except (ValueError, UnsupportedAlgorithm):
        raise KeyFileError.at(path, "is no public key in PEM", "make one with `authz policy sign --new-key`") from None
    if not isinstance(key, Ed25519PublicKey):
        raise KeyFileError.at(path, "is no Ed25519 key", "make one with `authz policy sign --new-key`")
    return Signer(key, _id(key), path)


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """The Ed25519 private key in the unencrypted PEM file ``path``.

    Raises:
        KeyFileError: there is none.
    """
    try:
        key = load_pem_private_key(_read(path), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise KeyFileError.at(path, "is no private key in PEM, without a password") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError.at(path, "is no Ed25519 key", "make one with `authz policy sign --new-key`")
    return key


def signature_text(revision: Revision, key: Ed25519PrivateKey) -> str:
    """What ``bundle.sig`` says for ``revision``, signed with ``key``."""
    signed = base64.b64encode(key.sign(_CONTEXT + revision.id.encode())).decode()
    return f"{_HEAD}\n{revision.id} {_id(key.public_key())} {signed}\n"


def verify_signature(revision: Revision, signers: Sequence[Signer]) -> Signer:
    """Which of ``signers`` vouches for ``revision``.

    Raises:
        PolicyError: none does: ``bundle.sig`` is not there, not readable, of another revision, or by another key.
    """
    file = revision.path / SIGNATURE
    try:
        text = _read(file).decode("utf-8", "replace")
    except KeyFileError as exc:
        if not file.is_symlink() and not file.exists():
            remedy = "sign it with `authz policy sign`"
            raise PolicyError.at(file, "is missing: the bundle is not signed", remedy) from None
        raise PolicyError(exc.problems) from None
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line and line[0] != "#"]
    for number, line in lines:
        words = line.split()
        place = Place(str(file), number)
        if len(words) != 3:
            raise PolicyError.at(place, "is no signature", "sign the bundle again with `authz policy sign`")
        if words[0] != revision.id:
            message = f"signs revision {words[0][:12]}, and this is {revision.id[:12]}: a file was changed since"
            raise PolicyError.at(place, message, "look at the change, and sign the bundle again")
        for signer in signers:
            if signer.id == words[1]:
                try:
                    signer.key.verify(base64.b64decode(words[2], validate=True), _CONTEXT + revision.id.encode())
                except (InvalidSignature, binascii.Error):
                    raise PolicyError.at(place, f"the signature is not by the key {signer.id}") from None
                return signer
    by = ", ".join(line.split()[1] for _, line in lines) or "nobody"
    known = ", ".join(signer.id for signer in signers)
    raise PolicyError.at(file, f"is signed by {by}, not by a key that is required: {known}")


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_BYTES_LIMIT)
    except OSError as exc:
        raise KeyFileError.at(path, f"cannot be read: {exc.strerror}") from None


def _id(key: Ed25519PublicKey) -> str:
    return hashlib.sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()[:16]
