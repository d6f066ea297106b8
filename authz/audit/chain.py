"""Chain: every line of a log carries the SHA-256 of the exact bytes of the line before it.

A line begins ``{"v":1,"writer":"<id>","seq":<number>,"prev":"<64 hex digits>",`` in exactly this form, so that a
verifier compares bytes and needs no parser, and so does ``sha256sum``.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass

from authz.audit.record import GENESIS, VERSION

HEAD = re.compile(rb'\{"v":1,"writer":"([0-9a-f]{12})","seq":([1-9][0-9]{0,17}),"prev":"([0-9a-f]{64})",')
"""How every line begins: the writer, the number, and the hash of the line before."""


def new_writer() -> str:
    """A fresh id for a chain: 12 hex digits."""
    return secrets.token_hex(6)


def digest(line: bytes) -> str:
    """The hash (hex) of a line, its line feed included."""
    return hashlib.sha256(line).hexdigest()


@dataclass(frozen=True, slots=True)
class Link:
    """Where a chain ends: the next line is made from this, and nothing else.

    Attributes:
        writer: id of the chain.
        seq: number of the last line; 0: there is none.
        hash: of the last line.
    """

    writer: str
    seq: int = 0
    hash: str = GENESIS

    def seal(self, body: bytes, seq: int) -> bytes:
        """A line from the JSON object ``body``, with its place in front of the object's own fields."""
        return b'{"v":%d,"writer":"%s","seq":%d,"prev":"%s",%s\n' % (
            VERSION,
            self.writer.encode(),
            seq,
            self.hash.encode(),
            body[1:],
        )

    def after(self, line: bytes, seq: int) -> Link:
        """The chain when ``line`` is its last."""
        return Link(self.writer, seq, digest(line))

    @classmethod
    def of(cls, line: bytes) -> Link | None:
        """The chain that ends with ``line``, or None if that is no line of a chain."""
        head = HEAD.match(line)
        return cls(head[1].decode(), int(head[2]), digest(line)) if head else None
