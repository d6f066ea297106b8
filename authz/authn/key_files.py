"""Readers of keys: a JSON web key set (RFC 7517), a public key in PEM, a shared secret.

A set is refused as a whole for what no honest issuer publishes: private or symmetric keys, one ``kid`` for two keys, a
text that can be read in two ways. A key that is merely not for this is skipped with a note: for encryption, of a kind
or size that is not used.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from authz.authn import base64url
from authz.authn.keys import ASYMMETRIC, Key, KeySet, public_key, secret_key
from authz.authn.strict_json import read_json_object
from authz.authn.subject import is_visible
from authz.errors import FileError, KeyFileError

SET_BYTES_LIMIT: Final = 256 * 1024
_SET_KEYS_LIMIT: Final = 100
_PRIVATE: Final = ("d", "p", "q", "dp", "dq", "qi", "oth", "k")
_EC_CURVES: Final[dict[str, ec.EllipticCurve]] = {
    "P-256": ec.SECP256R1(),
    "P-384": ec.SECP384R1(),
    "P-521": ec.SECP521R1(),
}


class _NotForThis(Exception):  # noqa: N818 - a note, not an error
    """A key is sound, as far as can be seen, and not for verifying tokens here."""


def read_key_set(data: bytes, origin: str) -> KeySet:
    """The keys of the JSON web key set ``data``.

    Args:
        data: the text, at most 256 KiB.
        origin: the file or address that it is from, for messages.

    Raises:
        KeyFileError: the set is refused, or has no key that can verify a token.
    """
    if len(data) > SET_BYTES_LIMIT:
        raise KeyFileError.at(origin, f"is larger than {SET_BYTES_LIMIT} bytes")
    try:
        document = read_json_object(data)
    except ValueError as exc:
        raise KeyFileError.at(origin, str(exc), 'a key set is written {"keys": [...]}') from None
    entries = document.get("keys")
    if not isinstance(entries, list) or not entries:
        raise KeyFileError.at(origin, "`keys` is not a list of keys", 'a key set is written {"keys": [...]}')
    if len(entries) > _SET_KEYS_LIMIT:
        raise KeyFileError.at(origin, f"has {len(entries)} keys, more than {_SET_KEYS_LIMIT}")
    keys: list[Key] = []
    skipped: list[str] = []
    for i, entry in enumerate(entries):
        try:
            keys.append(_read_key(entry))
        except _NotForThis as exc:
            skipped.append(f"key {i} {exc}")
        except ValueError as exc:
            raise KeyFileError.at(origin, f"key {i} {exc}") from None
    names = [key.id for key in keys if key.id is not None]
    for name in names:
        if names.count(name) > 1:
            raise KeyFileError.at(origin, f"two keys have the `kid` {name!r}", "give each key its own")
    if not keys:
        raise KeyFileError.at(origin, f"has no key that verifies a token: {'; '.join(skipped)}")
    return KeySet(tuple(keys), tuple(skipped))


def _read_key(entry: object) -> Key:
    if not isinstance(entry, dict):
        raise ValueError("is not an object")
    for name in _PRIVATE:
        if name in entry:
            raise ValueError(f"holds `{name}`, which is secret; publish the public half alone, and replace the key")
    kind, use, operations = entry.get("kty"), entry.get("use"), entry.get("key_ops")
    if not isinstance(kind, str):
        raise ValueError("has no `kty`")
    if use is not None and not isinstance(use, str):
        raise ValueError("has a `use` that is not text")
    if use not in (None, "sig"):
        raise _NotForThis(f"has the `use` {use[:32]!r}")
    if operations is not None:
        if not isinstance(operations, list) or not all(isinstance(operation, str) for operation in operations):
            raise ValueError("has `key_ops` that are not a list of texts")
        if "verify" not in operations:
            raise _NotForThis("has `key_ops` without verify")
    algorithm = entry.get("alg")
    if algorithm is not None and not isinstance(algorithm, str):
        raise ValueError("has an `alg` that is not text")
    if algorithm is not None and algorithm not in ASYMMETRIC:
        raise _NotForThis(f"is for the algorithm {algorithm[:32]!r}")
    key_id = entry.get("kid")
    if key_id is not None and (not isinstance(key_id, str) or not 1 <= len(key_id) <= 255 or not is_visible(key_id)):
        raise ValueError("has a `kid` that is not a text of 1 to 255 visible characters")
    material = _material(kind, entry)
    try:
        return public_key(material, key_id, algorithm)
    except ValueError as exc:
        raise _NotForThis(str(exc)) from None


def _material(kind: str, entry: dict[str, object]) -> PublicKeyTypes:
    curve = entry.get("crv")
    try:
        if kind == "RSA":
            modulus = _bytes(entry, "n")
            if len(modulus) > 2048:
                raise ValueError("is too long")
            return rsa.RSAPublicNumbers(_number(_bytes(entry, "e")), _number(modulus)).public_key()
        if kind == "EC" and isinstance(curve, str) and curve in _EC_CURVES:
            size = (_EC_CURVES[curve].key_size + 7) // 8
            x, y = _bytes(entry, "x"), _bytes(entry, "y")
            if len(x) != size or len(y) != size:
                raise ValueError("has coordinates of the wrong length")
            return ec.EllipticCurvePublicNumbers(_number(x), _number(y), _EC_CURVES[curve]).public_key()
        if kind == "OKP" and curve == "Ed25519":
            return ed25519.Ed25519PublicKey.from_public_bytes(_bytes(entry, "x"))
        if kind == "OKP" and curve == "Ed448":
            return ed448.Ed448PublicKey.from_public_bytes(_bytes(entry, "x"))
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise ValueError(f"is not a sound {kind} key: {exc}") from None
    raise _NotForThis(
        f"is of the kind {kind[:32]!r}" + (f" and curve {curve[:32]!r}" if isinstance(curve, str) else "")
    )


def _bytes(entry: dict[str, object], name: str) -> bytes:
    value = entry.get(name)
    if not isinstance(value, str) or not value or not value.isascii():
        raise ValueError(f"`{name}` is not base64url")
    return base64url.decode(value.encode("ascii"))


def _number(data: bytes) -> int:
    return int.from_bytes(data, "big")


def read_key_set_file(path: Path) -> KeySet:
    """The keys of the JSON web key set in the file ``path``. See :func:`read_key_set`."""
    return read_key_set(read_bytes(path, SET_BYTES_LIMIT), str(path))


def read_pem_files(paths: Iterable[Path]) -> KeySet:
    """The public keys of PEM files, one ``PUBLIC KEY`` in each. They have no ``kid``: each is tried for each token.

    Raises:
        KeyFileError: naming the file.
    """
    return KeySet(tuple(_read_pem(path) for path in paths))


def _read_pem(path: Path) -> Key:
    data = read_bytes(path, SET_BYTES_LIMIT)
    if b"PRIVATE KEY-----" in data:
        raise KeyFileError.at(path, "holds a private key", "write the public key: openssl pkey -pubout")
    if data.count(b"-----BEGIN ") != 1 or b"-----BEGIN PUBLIC KEY-----" not in data:
        raise KeyFileError.at(path, "is not one public key in PEM", "it begins -----BEGIN PUBLIC KEY-----")
    try:
        return public_key(load_pem_public_key(data), None)
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise KeyFileError.at(path, f"the key {exc}") from None


def read_secret_file(path: Path, algorithms: Iterable[str]) -> KeySet:
    """The shared secret that is the content of the file ``path``; one line break at its end is not part of it.

    Raises:
        KeyFileError: the secret is too short for ``algorithms``, or is not a secret.
    """
    data = read_bytes(path, SET_BYTES_LIMIT)
    try:
        return KeySet((secret_key(data.removesuffix(b"\n").removesuffix(b"\r"), algorithms),))
    except ValueError as exc:
        raise KeyFileError.at(path, f"the secret {exc}", "openssl rand -hex 32 makes one") from None


def read_bytes(path: Path, limit: int, error: type[FileError] = KeyFileError) -> bytes:
    """The content of the file ``path``, at most ``limit`` bytes of it.

    Raises:
        FileError: of the type ``error``.
    """
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as exc:
        raise error.at(path, f"cannot be read: {exc.strerror}") from None
    if len(data) > limit:
        raise error.at(path, f"is larger than {limit} bytes")
    return data
