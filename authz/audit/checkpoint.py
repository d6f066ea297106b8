"""Checkpoint: a line that seals itself and everything before it with an Ed25519 signature, and the keys for that.

A hash chain alone proves little: whoever can write the file can compute it again. A checkpoint cannot be made without
the private key; and a copy of one that is kept elsewhere (an *anchor*) holds even against the owner of the key.

What is signed are five lines, with a line feed between them: ``authz audit checkpoint v2``, the writer, the number of
the line before, the hash (hex) of that, and the SHA-256 (hex) of what the checkpoint says itself: of its own line, what
is behind ``"prev":"...",`` and before ``,"sig":``. Logs of before have signatures ``v1``, with the time as the fifth
line: such a checkpoint seals what comes before it, and what it says itself may be anybody's word.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from pathlib import Path

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from authz.audit.chain import HEAD, Link
from authz.audit.event import Event, EventName
from authz.errors import KeyFileError

_CONTEXT = b"authz audit checkpoint v2"
_CONTEXT_V1 = b"authz audit checkpoint v1"


def _statement(context: bytes, link: Link, last: str) -> bytes:
    """What is signed: which chain, how far, with which hash, and what the checkpoint says."""
    return b"\n".join((context, link.writer.encode(), b"%d" % link.seq, link.hash.encode(), last.encode()))


class VerifyingKey:
    """The public half: tells whether a checkpoint is genuine.

    Attributes:
        id: 16 hex digits of the SHA-256 of the raw key.
    """

    def __init__(self, key: Ed25519PublicKey) -> None:
        self._key = key
        self.id = hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]

    @classmethod
    def read(cls, path: Path) -> VerifyingKey:
        """The key in the PEM file ``path``; of a private key, its public half.

        Raises:
            KeyFileError: there is no Ed25519 key in it.
        """
        data = _read(path)
        try:
            if b"PRIVATE KEY" in data:
                return cls(_private(data, path).public_key())
            key = serialization.load_pem_public_key(data)
        except ValueError:
            key = None
        if not isinstance(key, Ed25519PublicKey):
            raise KeyFileError.at(path, "is not an Ed25519 public key", "make one with `authz audit keygen`")
        return cls(key)

    def verifies(self, link: Link, members: bytes, signature: str) -> bool:
        """Whether ``signature`` (base64) seals the chain up to ``link`` in a checkpoint with these ``members``."""
        return self._verifies(_statement(_CONTEXT, link, hashlib.sha256(members).hexdigest()), signature)

    def verifies_v1(self, link: Link, time: str, signature: str) -> bool:
        """Whether ``signature`` (base64) seals the chain up to ``link`` at ``time``, and says no more than that."""
        return self._verifies(_statement(_CONTEXT_V1, link, time), signature)

    def _verifies(self, statement: bytes, signature: str) -> bool:
        try:
            self._key.verify(base64.b64decode(signature, validate=True), statement)
        except (InvalidSignature, binascii.Error, ValueError):
            return False
        return True


class SigningKey:
    """The private half: makes checkpoints.

    Attributes:
        id: the id of the public half.
        public: the public half.
    """

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = VerifyingKey(key.public_key())
        self.id = self.public.id

    @classmethod
    def read(cls, path: Path) -> SigningKey:
        """The key in the PEM file ``path``.

        Raises:
            KeyFileError: there is no Ed25519 private key in it.
        """
        return cls(_private(_read(path), path))

    @classmethod
    def generate(cls, path: Path) -> SigningKey:
        """Make a key in the new file ``path`` (mode 0600), and its public half beside it in ``<name>.pub``.

        Raises:
            KeyFileError: a file of this name exists, or cannot be made.
        """
        key = Ed25519PrivateKey.generate()
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        for file, data, mode in ((path, private, 0o600), (path.with_suffix(".pub"), public, 0o644)):
            try:
                descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
            except FileExistsError:
                raise KeyFileError.at(file, "exists", "name another file; a key is never overwritten") from None
            except OSError as exc:
                raise KeyFileError.at(file, f"cannot be made: {exc.strerror}") from None
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(data)
        return cls(key)

    def sign(self, link: Link, members: bytes) -> str:
        """The signature (base64) that seals the chain up to ``link`` in a checkpoint with these ``members``."""
        statement = _statement(_CONTEXT, link, hashlib.sha256(members).hexdigest())
        return base64.b64encode(self._key.sign(statement)).decode()


def checkpoint(link: Link, key: SigningKey | None, details: dict[str, object]) -> bytes:
    """The body of a checkpoint for the chain up to ``link``; without a key it is not signed, and good as an anchor."""
    fields = Event(EventName.CHECKPOINT, details).fields()
    fields["key"] = None if key is None else key.id
    members = orjson.dumps(fields)[1:-1]
    return b'{%s,"sig":%s}' % (members, orjson.dumps(key and key.sign(link, members)))


def signed_members(line: bytes, signature: str) -> bytes:
    """The members of the checkpoint ``line`` that its ``signature`` is about; empty: it does not end with that."""
    head, end = HEAD.match(line), b',"sig":"%s"}\n' % signature.encode()
    return line[head.end() : -len(end)] if head is not None and line.endswith(end) else b""


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(65536)
    except OSError as exc:
        raise KeyFileError.at(path, f"cannot be read: {exc.strerror}") from None


def _private(data: bytes, path: Path) -> Ed25519PrivateKey:
    try:
        key = serialization.load_pem_private_key(data, None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError.at(path, "is not an Ed25519 private key", "make one with `authz audit keygen`")
    return key
