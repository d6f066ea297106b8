"""The keys of checkpoints: made once, read strictly."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from authz.audit.chain import Link, new_writer
from authz.audit.checkpoint import SigningKey, VerifyingKey
from authz.errors import KeyFileError

LINK = Link(new_writer(), 7, "ab" * 32)


@pytest.fixture
def key(tmp_path: Path) -> SigningKey:
    return SigningKey.generate(tmp_path / "audit.key")


def test_either_half_verifies(key: SigningKey, tmp_path: Path) -> None:
    signature = SigningKey.read(tmp_path / "audit.key").sign(LINK, "now")
    for name in ("audit.key", "audit.pub"):
        public = VerifyingKey.read(tmp_path / name)
        assert public.id == key.id
        assert public.verifies(LINK, "now", signature)


@pytest.mark.parametrize("signature", ["", "%", "AAAA", "é", "A" * 88])
def test_nothing_else_does(key: SigningKey, signature: str) -> None:
    assert not key.public.verifies(LINK, "now", signature)


def test_a_signature_is_for_one_place_in_one_chain(key: SigningKey) -> None:
    signature = key.sign(LINK, "now")
    others = [Link(new_writer(), 7, "ab" * 32), Link(LINK.writer, 8, LINK.hash), Link(LINK.writer, 7, "cd" * 32)]
    assert not any(key.public.verifies(link, "now", signature) for link in others)
    assert not key.public.verifies(LINK, "later", signature)


def test_what_is_no_key_is_refused(key: SigningKey, tmp_path: Path) -> None:
    other = tmp_path / "other"
    elliptic = ec.generate_private_key(ec.SECP256R1())
    private = elliptic.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = elliptic.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    for data in (b"", b"nonsense", private, public, b"-----BEGIN PRIVATE KEY-----\nAA\n-----END PRIVATE KEY-----\n"):
        other.write_bytes(data)
        with pytest.raises(KeyFileError, match="authz audit keygen"):
            VerifyingKey.read(other)
        with pytest.raises(KeyFileError, match="is not an Ed25519 private key"):
            SigningKey.read(other)
    with pytest.raises(KeyFileError, match="is not an Ed25519 private key"):
        SigningKey.read(tmp_path / "audit.pub")
    with pytest.raises(KeyFileError, match="cannot be read"):
        VerifyingKey.read(tmp_path / "absent")
    with pytest.raises(KeyFileError, match="cannot be made"):
        SigningKey.generate(tmp_path / "absent" / "audit.key")
    with pytest.raises(KeyFileError, match="a key is never overwritten"):
        SigningKey.generate(tmp_path / "audit.key")


def test_no_link_is_made_of_what_is_no_line() -> None:
    assert Link.of(b'{"v":1}\n') is None
    line = LINK.seal(b'{"event":"x"}', 8)
    after = Link.of(line)
    assert after == LINK.after(line, 8)
