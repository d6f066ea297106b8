"""Readers of an authority's own certificates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cryptography import x509

from authz.authn.key_files import read_bytes
from authz.errors import KeyFileError

_BYTES_LIMIT: Final = 1024 * 1024


def read_authority_file(path: Path) -> Sequence[x509.Certificate]:
    """The certificates of authorities in the PEM file ``path``, at least one.

    Raises:
        KeyFileError: the file cannot be read, or holds a certificate that is not an authority's, or a private key.
    """
    data = read_bytes(path, _BYTES_LIMIT)
    if b"PRIVATE KEY-----" in data:
        raise KeyFileError.at(path, "holds a private key", "keep the authority's certificates alone in it")
    try:
        certificates = x509.load_pem_x509_certificates(data)
        constraints = [_constraints(certificate) for certificate in certificates]
    except (ValueError, x509.DuplicateExtension, x509.InvalidVersion) as exc:
        raise KeyFileError.at(path, f"is not certificates in PEM: {type(exc).__name__}") from None
    for i, constraint in enumerate(constraints):
        if constraint is None or not constraint.ca:
            raise KeyFileError.at(path, f"certificate {i} is not an authority's (its basic constraints do not say CA)")
    return certificates


def _constraints(certificate: x509.Certificate) -> x509.BasicConstraints | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        return None
