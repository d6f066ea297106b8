"""Sign: vouch for a bundle with a key, so that a server can refuse what nobody vouches for."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from authz.errors import KeyFileError
from authz.policy.load import load_bundle
from authz.policy.signature import (
    SIGNATURE,
    Signer,
    read_private_key,
    read_signer,
    signature_text,
    verify_signature,
)


@dataclass(frozen=True, slots=True)
class Signed:
    """A bundle's revision and whose key vouches for it."""

    revision: str
    signer: Signer


def new_key(path: Path) -> tuple[Path, Path]:
    """Make a key: the private one in ``path`` (readable by its owner alone), the public one beside it in ``.pub.pem``.

    Raises:
        KeyFileError: a file is there already, or cannot be written.
    """
    public = path.with_suffix(".pub.pem")
    key = Ed25519PrivateKey.generate()
    files = (
        (path, 0o600, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())),
        (public, 0o644, key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)),
    )
    for file, mode, data in files:
        try:
            with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as stream:
                stream.write(data)
        except OSError as exc:
            raise KeyFileError.at(file, f"cannot be written: {exc.strerror}") from None
    return path, public


def sign(bundle: Path, key: Path) -> Path:
    """Sign the bundle in the folder ``bundle`` with the private key in the file ``key``; the signature's file.

    Raises:
        PolicyError: the bundle cannot be used.
        KeyFileError: the key cannot be used, or the signature not be written.
    """
    text = signature_text(load_bundle(bundle), read_private_key(key))
    file = bundle / SIGNATURE
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as exc:
        raise KeyFileError.at(file, f"cannot be written: {exc.strerror}") from None
    return file


def verify(bundle: Path, keys: list[Path]) -> Signed:
    """Who of ``keys`` vouches for the bundle in the folder ``bundle``.

    Raises:
        PolicyError: nobody does, or the bundle cannot be used.
        KeyFileError: a key cannot be used.
    """
    revision = load_bundle(bundle)
    return Signed(revision.id, verify_signature(revision, [read_signer(key) for key in keys]))
