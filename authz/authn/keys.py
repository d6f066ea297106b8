"""Key and KeySet: what verifies the tokens of one issuer. KeySource: where an issuer's keys come from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from jwt.algorithms import Algorithm, get_default_algorithms

from authz.authn.background import WatchedFile

ASYMMETRIC: Final = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
)
SYMMETRIC: Final = frozenset({"HS256", "HS384", "HS512"})
ALGORITHMS: Final = ASYMMETRIC | SYMMETRIC

RSA_LEAST_BITS: Final = 2048
RSA_MOST_BITS: Final = 8192
_RSA: Final = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_CURVES: Final = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
_SECRET_LEAST_BYTES: Final = {"HS256": 32, "HS384": 48, "HS512": 64}

_VERIFIERS: Final[dict[str, Algorithm]] = {
    name: algorithm for name, algorithm in get_default_algorithms().items() if name in ALGORITHMS
}


@dataclass(frozen=True, slots=True, eq=False)
class Key:
    """A key that verifies signatures.

    Attributes:
        id: the ``kid``; None: the key has no name (it came from a PEM file or a secret).
        algorithms: the algorithms that it may verify; never symmetric and asymmetric ones together.
    """

    id: str | None
    algorithms: frozenset[str]
    _material: Any = field(repr=False)

    def verifies(self, algorithm: str, message: bytes, signature: bytes) -> bool:
        """Whether ``signature`` is this key's, for ``message``; False also for an algorithm that is not the key's."""
        return algorithm in self.algorithms and _VERIFIERS[algorithm].verify(message, self._material, signature)


@dataclass(frozen=True, slots=True, eq=False)
class KeySet:
    """The keys of one issuer. Compared by identity: another set means that everything verified is to be verified again.

    Attributes:
        keys: the keys, in the order of their source.
        skipped: why keys of the source are not among them, one sentence each.
    """

    keys: tuple[Key, ...]
    skipped: tuple[str, ...] = ()

    def find(self, key_id: str | None, algorithm: str) -> Sequence[Key]:
        """The keys to try for a token with the header ``kid`` ``key_id`` (None: it has none) and ``alg`` ``algorithm``.

        A named token is verified by the key of that name, or by keys that have no name; a token without a name by the
        only key that could have signed it.
        """
        able = [key for key in self.keys if algorithm in key.algorithms]
        if key_id is None:
            return able if len(able) == 1 or all(key.id is None for key in able) else ()
        named = [key for key in able if key.id == key_id]
        return named or [key for key in able if key.id is None]


class KeySource(Protocol):
    """Where an issuer's keys come from. Thread-safe; reading it never waits and never does network I/O."""

    def current(self, now: float) -> KeySet | None:
        """The keys at ``now`` (seconds since the epoch); None: there are none that may be used."""
        ...

    def missed(self, key_id: str | None) -> None:
        """Take note that a token names a key that is not in the set, so that the source may look again, later."""
        ...


class FixedKeys:
    """A key source that always has the same keys."""

    def __init__(self, keys: KeySet) -> None:
        self._keys = keys

    def current(self, now: float) -> KeySet:  # noqa: ARG002 - fixed keys do not age
        """The keys."""
        return self._keys

    def missed(self, key_id: str | None) -> None:
        """Do nothing: there is nowhere to look."""


class WatchedKeys:
    """The keys of a file that is read again when it changes."""

    def __init__(self, file: WatchedFile[KeySet]) -> None:
        self._file = file

    def current(self, now: float) -> KeySet:  # noqa: ARG002 - a file does not age
        """The keys, as the file had them when it was last good."""
        return self._file.value

    def missed(self, key_id: str | None) -> None:
        """Do nothing: the file is looked at anyway."""


def public_key(material: PublicKeyTypes, key_id: str | None, only: str | None = None) -> Key:
    """The key for a public key of the cryptography package.

    Args:
        material: the public key.
        key_id: its ``kid``, if it has one.
        only: the one algorithm that it is for, if that is said.

    Raises:
        ValueError: the key is of a kind or size that is not used, or ``only`` does not fit it.
    """
    algorithms = algorithms_of(material)
    if only is not None:
        if only not in algorithms:
            raise ValueError(f"is said to be for {only[:32]!r}, which it cannot be")
        algorithms = frozenset({only})
    return Key(key_id, algorithms, material)


def algorithms_of(material: PublicKeyTypes) -> frozenset[str]:
    """The algorithms that a public key can verify, if it is strong enough for any.

    Raises:
        ValueError: the key is of a kind or size that is not used.
    """
    if isinstance(material, rsa.RSAPublicKey):
        if not RSA_LEAST_BITS <= material.key_size <= RSA_MOST_BITS:
            raise ValueError(f"has {material.key_size} bits, not {RSA_LEAST_BITS} to {RSA_MOST_BITS}")
        if not 65537 <= material.public_numbers().e < 1 << 32:
            raise ValueError("has a public exponent that is not from 65537 to 2^32")
        return _RSA
    if isinstance(material, ec.EllipticCurvePublicKey):
        if material.curve.name not in _CURVES:
            raise ValueError(f"is on the curve {material.curve.name}, not P-256, P-384 or P-521")
        return frozenset({_CURVES[material.curve.name]})
    if isinstance(material, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
        return frozenset({"EdDSA"})
    raise ValueError("is not an RSA, elliptic curve or Edwards curve key")


def secret_key(secret: bytes, algorithms: Iterable[str]) -> Key:
    """The key for a secret that the issuer shares with this server.

    Raises:
        ValueError: the secret is shorter than the hash of one of the ``algorithms``, or looks like a public key.
    """
    names = frozenset(algorithms)
    least = max(_SECRET_LEAST_BYTES[name] for name in names)
    if len(secret) < least:
        raise ValueError(f"has {len(secret)} bytes, fewer than the {least} that {', '.join(sorted(names))} needs")
    if b"-----BEGIN " in secret or secret.startswith((b"ssh-", b"ecdsa-")):
        raise ValueError("looks like a key pair's half; a secret is random bytes that nobody else knows")
    return Key(None, names, secret)
