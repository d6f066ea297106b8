"""NamedUsers: the users whom a policy names. A hash in a log may stand for one of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from authz.policy.revision import Revision


def is_hashed(record: Mapping[str, Any]) -> bool:
    """Whether a hash stands for the caller in a record."""
    return "sub" in (record.get("redacted") or ())


class NamedUsers:
    """The users whom the lines of ``revision`` are about."""

    def __init__(self, revision: Revision) -> None:
        self._users = {field for line in revision.lines for field in line.fields if field.startswith("user:")}
        self._known: dict[str, bool] = {}

    def may_be(self, record: Mapping[str, Any]) -> bool:
        """Whether the caller in a record is hashed, and may be one of them: what a policy says of them is not known."""
        if not is_hashed(record):
            return False
        # the prefix of the issuer stays readable
        stem = str(record["sub"]).partition("hmac-")[0]
        if stem not in self._known:
            self._known[stem] = any(user.startswith(stem) for user in self._users)
        return self._known[stem]
