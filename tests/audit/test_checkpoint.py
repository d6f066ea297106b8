"""The keys of checkpoints: made once, read strictly."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from authz.audit.chain import Link, new_writer
from authz.audit.checkpoint import SigningKey, VerifyingKey, checkpoint, signed_members
from authz.errors import KeyFileError

LINK = Link(new_writer(), 7, "ab" * 32)
MEMBERS = b'"event":"checkpoint","time":"now","lines":3'


@pytest.fixture
def key(tmp_path: Path) -> SigningKey:
    return SigningKey.generate(tmp_path / "audit.key")


def test_either_half_verifies(key: SigningKey, tmp_path: Path) -> None:
    signature = SigningKey.read(tmp_path / "audit.key").sign(LINK, MEMBERS)
    for name in ("audit.key", "audit.pub"):
        public = VerifyingKey.read(tmp_path / name)
        assert public.id == key.id
        assert public.verifies(LINK, MEMBERS, signature)


@pytest.mark.parametrize("signature", ["", "%", "AAAA", "é", "A" * 88])
def test_nothing_else_does(key: SigningKey, signature: str) -> None:
    assert not key.public.verifies(LINK, MEMBERS, signature)
    assert not key.public.verifies_v1(LINK, "now", signature)


def test_a_signature_is_for_one_place_in_one_chain_and_for_what_is_said_there(key: SigningKey) -> None:
    signature = key.sign(LINK, MEMBERS)
    others = [Link(new_writer(), 7, "ab" * 32), Link(LINK.writer, 8, LINK.hash), Link(LINK.writer, 7, "cd" * 32)]
    assert not any(key.public.verifies(link, MEMBERS, signature) for link in others)
    assert not any(key.public.verifies(LINK, members, signature) for members in (b"", MEMBERS + b" ", MEMBERS[1:]))
    assert not key.public.verifies_v1(LINK, MEMBERS.decode(), signature)


@pytest.mark.parametrize("details", [{"lines": 3}, {"lines": 0, "omitted": 2, "final": True}])
def test_what_is_signed_can_be_made_from_the_line(key: SigningKey, tmp_path: Path, details: dict[str, object]) -> None:
    line = LINK.seal(checkpoint(LINK, key, details), 8)
    behind = line.index(b'"event"')
    members, signature = line[behind : line.index(b',"sig":')], json.loads(line)["sig"]
    assert json.loads(b"{" + members + b"}").items() >= details.items()
    assert signed_members(line, signature) == members
    statement = f"authz audit checkpoint v2\n{LINK.writer}\n7\n{LINK.hash}\n{hashlib.sha256(members).hexdigest()}"
    raw = serialization.load_pem_public_key((tmp_path / "audit.pub").read_bytes())
    assert isinstance(raw, ed25519.Ed25519PublicKey)
    raw.verify(base64.b64decode(signature), statement.encode())


@pytest.mark.parametrize("line", [b"", b'{"sig":"x"}\n', LINK.seal(b'{"sig":"x","more":1}', 8)])
def test_a_signature_that_is_not_at_the_end_is_about_nothing(line: bytes) -> None:
    assert signed_members(line, "x") == b""


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
