"""Masking: what of a caller does not reach the log in the clear."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Collection
from fnmatch import fnmatchcase
from typing import Final

HIDEABLE: Final = ("peer", "peer_ip", "peer_port", "user_agent", "trace_id", "span_id", "reason_text", "claims_used")
"""Fields that may be left out. What an auditor needs to tell decisions apart is not among them."""
_TEXTS: Final = ("reason_text", "rule", "shadow_rule")
_LISTS: Final = ("rule_chain", "request")
_NAMED: Final = re.compile(r"user:[^\s,]+")
_DIGITS: Final = 32
_USER: Final = "user:"


class Masking:
    """Replaces subjects by a keyed hash, and leaves fields out. The same subject always gives the same mask.

    Args:
        key: secret of the hash; None: subjects stay readable.
        plain: patterns (``*``, ``?``) of subjects that stay readable although there is a key, without ``user:``.
        hide: names of fields to leave out, of :data:`HIDEABLE`.
    """

    def __init__(self, key: bytes | None = None, plain: Collection[str] = (), hide: Collection[str] = ()) -> None:
        self._key = key
        self._plain = tuple(plain)
        self._hide = tuple(hide)

    def hides(self, names: Collection[str]) -> bool:
        """Whether one of the fields ``names`` is left out."""
        return not set(names).isdisjoint(self._hide)

    def subject(self, subject: str, prefix: str = "") -> str:
        """What stands in the log for ``subject``.

        Args:
            subject: as the policy writes it, ``user:corp:alice``.
            prefix: the issuer's prefix in it (``corp:``), which stays readable.
        """
        bare = subject.removeprefix(_USER)
        if self._key is None or any(fnmatchcase(bare, pattern) for pattern in self._plain):
            return subject
        hashed = hmac.new(self._key, subject.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:_DIGITS]
        return f"{_USER}{prefix if bare.startswith(prefix) else ''}hmac-{hashed}"

    def apply(self, fields: dict[str, object], prefix: str = "") -> None:
        """Mask the fields of one record in place, and say so in its ``redacted``."""
        redacted = [name for name in self._hide if fields.get(name) not in (None, "", [])]
        for name in redacted:
            fields[name] = None
        subject = fields.get("sub")
        if self._key is not None and isinstance(subject, str):
            mask = self.subject(subject, prefix)
            if mask != subject:
                redacted.append("sub")
                fields["sub"] = mask
            self._elsewhere(fields, subject, mask, prefix)
        fields["redacted"] = redacted

    def _elsewhere(self, fields: dict[str, object], subject: str, mask: str, prefix: str) -> None:
        """A rule about one user names them too, and the sentence for operators names whoever comes near."""
        bare = subject.removeprefix(_USER)
        for name in _TEXTS:
            text = fields.get(name)
            if isinstance(text, str):
                text = _NAMED.sub(lambda found: self.subject(found[0], prefix), text)
                fields[name] = text if mask == subject else text.replace(bare, mask)
        for name in _LISTS:
            items = fields.get(name)
            if isinstance(items, list):
                fields[name] = [mask if item == subject else item for item in items]
