"""An authenticator: opaque API keys, of which only the SHA-256 is in a file."""

from __future__ import annotations

import hashlib

from authz.authn.base import Principal, PrincipalKind
from authz.credentials import BearerToken, Credential
from authz.document import Section
from authz.errors import AuthenticationError
from authz.reason import Reason

PREFIX = "acme-"


class ApiKeys:
    """Proves the keys of a list. What does not look like a key of Acme's is left to other authenticators.

    Args:
        name, prefix: what the configuration calls this authenticator, and what its subjects begin with.
        keys: SHA-256 of a key (hex) -> whose it is.
    """

    def __init__(self, name: str, prefix: str, keys: dict[str, str]) -> None:
        # the same object for the same key each time, so that later rooms can remember what they worked out for it
        self._principals = {
            digest: Principal(PrincipalKind.TOKEN, name, owner, prefix, key_id=digest[:8])
            for digest, owner in keys.items()
        }

    def authenticate(self, credential: Credential, now: float) -> Principal | None:
        """See :class:`authz.Authenticator`."""
        if not isinstance(credential, BearerToken) or not credential.value.startswith(PREFIX):
            return None
        # a key is looked up by its digest, so that the time it takes tells nothing of the keys that there are
        principal = self._principals.get(hashlib.sha256(credential.value.encode()).hexdigest())
        if principal is None:
            raise AuthenticationError(Reason.TOKEN_KEY_UNKNOWN, "there is no such API key")
        return principal


def make(options: Section, name: str, prefix: str) -> ApiKeys:
    """The entry point: ``options: {file: ...}``, a file of lines ``<sha256> <owner>``."""
    lines = options.file("file").read_text(encoding="utf-8").splitlines()
    return ApiKeys(name, prefix, dict(line.split(" ", 1) for line in lines if line))
