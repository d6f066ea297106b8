"""NamedAuthenticator: an authenticator of a user's own, held to the name and prefix that the configuration gave it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NoReturn

from authz.authn.background import WatchedFile
from authz.authn.base import Authenticator, Principal, PrincipalKind
from authz.authn.revocation import Revocations
from authz.authn.subject import subject_problem
from authz.credentials import Credential
from authz.errors import AuthenticationError
from authz.reason import Reason

_log = logging.getLogger("authz.authn")


class NamedAuthenticator:
    """Passes on what another authenticator proves, if that is what it may prove.

    What it returns must bear its own name and prefix, a subject that can name a caller, and a proof that has not ended;
    else the caller is refused with AUTHENTICATOR_FAILED. So is whoever makes it raise anything but its typed error,
    with a Reason.

    Args:
        name: its name in the configuration: the ``issuer`` of its principals.
        prefix: the ``prefix`` of its principals.
        inner: the authenticator.
        revocations: what is revoked at the moment; None: nothing ever.
    """

    def __init__(
        self, name: str, prefix: str, inner: Authenticator, revocations: WatchedFile[Revocations] | None = None
    ) -> None:
        self.name = name
        self._prefix = prefix
        self._inner = inner
        self._revocations = revocations

    def authenticate(self, credential: Credential, now: float) -> Principal | None:
        """See :class:`authz.authn.base.Authenticator`."""
        try:
            principal = self._inner.authenticate(credential, now)
        except Exception as exc:
            if isinstance(exc, AuthenticationError) and exc.is_whole:
                raise
            _log.exception("the authenticator %s failed", self.name)
            self._fail(f"raised {type(exc).__name__}")
        if principal is None:
            return None
        if not isinstance(principal, Principal) or principal.kind is PrincipalKind.ANONYMOUS:
            self._fail("returned something else than a proven principal")
        if (principal.issuer, principal.prefix) != (self.name, self._prefix):
            self._fail("returned a principal of another issuer or prefix")
        if subject_problem(principal.subject):
            self._fail(f"returned a subject that {subject_problem(principal.subject)}")
        if principal.expires_at is not None and principal.expires_at <= now:
            raise AuthenticationError(Reason.CREDENTIAL_EXPIRED, f"the proof of {self.name} has ended")
        if self._revocations is not None:
            self._revocations.value.check(principal)
        return principal

    def _fail(self, what: str) -> NoReturn:
        raise AuthenticationError(Reason.AUTHENTICATOR_FAILED, f"the authenticator {self.name} {what}")


class FirstAuthenticator:
    """Asks authenticators in turn; the first that handles a credential decides, also if it refuses."""

    def __init__(self, authenticators: Sequence[Authenticator]) -> None:
        self.authenticators = tuple(authenticators)

    def authenticate(self, credential: Credential, now: float) -> Principal | None:
        """See :class:`authz.authn.base.Authenticator`."""
        for authenticator in self.authenticators:
            principal = authenticator.authenticate(credential, now)
            if principal is not None:
                return principal
        return None

    def remembers(self, credential: Credential) -> bool:
        """Whether one of them has proven ``credential`` lately and says so: no proof."""
        asked = (getattr(each, "remembers", None) for each in self.authenticators)
        return any(remembers(credential) for remembers in asked if remembers is not None)
