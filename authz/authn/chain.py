"""Authentication: every credential that came with a call -> the one principal who makes it.

Whatever is shown must be good: a bad credential is refused, also where another would have been enough, and never makes
a caller anonymous.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from typing import Any, Final

from cryptography.hazmat.primitives.hashes import SHA256

from authz.authn.background import Background, FileWatcher
from authz.authn.base import ANONYMOUS, Authenticator, Principal
from authz.authn.certificate import read_certificates
from authz.authn.fetched_keys import FetchedKeys, KeyStatus
from authz.authn.forwarded import read_forwarded
from authz.authn.memory import Memory
from authz.credentials import BearerToken, ClientCertificate, Credential, Credentials, ForwardedCertificate
from authz.errors import AuthenticationError
from authz.forked import renew_in_child
from authz.reason import Reason

_log = logging.getLogger("authz.authn")
_PAIRS_REMEMBERED = 10_000
DEFAULT_STARTUP: Final = 10.0


class Combine(StrEnum):
    """Who the caller is when both a token and a certificate count as credentials.

    REQUIRE_BOTH: both must be shown; the caller is the token's principal, for as long as both are good.
    JWT: if both are shown, both must be good, and the caller is the token's principal.
    MTLS: if both are shown, both must be good, and the caller is the certificate's principal.
    """

    REQUIRE_BOTH = "require_both"
    JWT = "jwt"
    MTLS = "mtls"


class Authentication:
    """Proves who makes a call. Thread-safe, no network I/O, no waiting.

    Args:
        tokens: proves bearer tokens; None: a token is refused, since nobody here can prove it.
        certificates: proves client certificates; None: a certificate is no credential (a mesh shows one for itself).
        combine: the rule for both; needed exactly if both are given.
        anonymous: gRPC full methods that a caller who shows nothing at all may call.
        forwarders: ids of the principals who may forward the certificates of their own callers, e.g.
            ``user:mesh:spiffe://prod.example.org/ns/edge/sa/envoy``; only with ``certificates``. Such a peer that
            forwards none is the caller itself.
        background: what runs beside the calls for them: started and closed with this object.
        startup: how many seconds :meth:`start` waits for the first keys.
    """

    def __init__(
        self,
        tokens: Authenticator | None = None,
        certificates: Authenticator | None = None,
        *,
        combine: Combine | None = None,
        anonymous: Iterable[str] = (),
        forwarders: Iterable[str] = (),
        background: Sequence[Background] = (),
        startup: float = DEFAULT_STARTUP,
    ) -> None:
        both = tokens is not None and certificates is not None
        if both != (combine is not None):
            raise ValueError("`combine` is needed if both tokens and certificates are credentials, and only then")
        self.combine = combine
        self.anonymous = frozenset(anonymous)
        self.forwarders = frozenset(forwarders)
        if self.forwarders and certificates is None:
            raise ValueError("`forwarders` are proven by certificates, and there is nothing that proves any")
        self.tokens = tokens
        self._certificates = certificates
        self._background = tuple(background)
        self._startup = startup
        self._pairs: Memory[tuple[Principal, Principal], Principal] = Memory(_PAIRS_REMEMBERED)
        self._fingerprints: Memory[bytes, str] = Memory(_PAIRS_REMEMBERED)
        self._refusals: Counter[Reason] = Counter()
        self.renew_locks()
        renew_in_child(self)

    def start(self) -> None:
        """Begin what runs beside the calls, and wait for the first keys, but no longer than ``startup`` seconds.

        An issuer whose keys are not there by then is refused with KEYS_UNAVAILABLE until they are, and no other issuer.
        """
        for each in self._background:
            each.start()
        end = time.monotonic() + self._startup
        for each in self._background:
            if not each.ready(max(0.0, end - time.monotonic())):
                _log.error("going on without: %s", each)

    def renew_locks(self) -> None:
        """See :class:`authz.forked.HasLocks`."""
        self._lock = threading.Lock()

    def close(self) -> None:
        """End what runs beside the calls. Authentication goes on with the keys at hand."""
        for each in self._background:
            each.close()

    def tell_changes(self, told: Callable[[str], None]) -> None:
        """Call ``told`` with the name of each source of keys, certificates or revocations when it has changed."""
        for each in self._background:
            if isinstance(each, FetchedKeys | FileWatcher):
                each.told = told

    @property
    def keys(self) -> Sequence[KeyStatus]:
        """How it stands with each source of keys that are fetched."""
        return [each.status for each in self._background if isinstance(each, FetchedKeys)]

    def recognizes(self, credentials: Credentials) -> bool:
        """Whether these very credentials were proven lately. A hint that costs little, and no proof."""
        return all(map(self._recognizes, credentials))

    def _recognizes(self, credential: Credential) -> bool:
        if isinstance(credential, BearerToken):
            part = self.tokens
        elif isinstance(credential, ClientCertificate):
            if self._certificates is None:
                return True  # it does not count
            part = self._certificates
        else:
            return False
        remembers = getattr(part, "remembers", None)
        return remembers is not None and bool(remembers(credential))

    @property
    def reads_certificates(self) -> bool:
        """Whether a client certificate counts as a credential."""
        return self._certificates is not None

    @property
    def caches(self) -> Mapping[str, Memory[Any, Any]]:
        """What is remembered, by what it is, for metrics."""
        parts = {"tokens": self.tokens, "certificates": self._certificates}
        memories = {name: getattr(part, "memory", None) for name, part in parts.items()}
        return {"pairs": self._pairs} | {name: memory for name, memory in memories.items() if memory is not None}

    @property
    def refusals(self) -> Mapping[Reason, int]:
        """How many calls were refused here since the start, by reason."""
        with self._lock:
            return dict(self._refusals)

    def authenticate(self, credentials: Credentials, method: str, now: float) -> Principal:
        """Prove the caller.

        Args:
            credentials: everything that the caller showed.
            method: gRPC full method, for whether it is open to anonymous callers.
            now: seconds since the epoch.

        Returns:
            the principal; the same object for the same credentials for as long as they are remembered.

        Raises:
            AuthenticationError: something shown is refused, or nothing was shown and the method is not open to that.
        """
        try:
            return self._authenticate(credentials, method, now)
        except AuthenticationError as exc:
            with self._lock:
                self._refusals[exc.reason] += 1
            raise

    def _authenticate(self, credentials: Credentials, method: str, now: float) -> Principal:
        token: BearerToken | None = None
        certificate: ClientCertificate | None = None
        forwarded: ForwardedCertificate | None = None
        for credential in credentials:
            if isinstance(credential, BearerToken):
                if token is not None:
                    raise AuthenticationError(Reason.CREDENTIAL_REPEATED, "more than one token was shown")
                token = credential
            elif isinstance(credential, ClientCertificate):
                if certificate is not None:
                    raise AuthenticationError(Reason.CREDENTIAL_REPEATED, "more than one certificate was shown")
                certificate = credential
            elif isinstance(credential, ForwardedCertificate):
                forwarded = credential
            else:
                raise AuthenticationError(credential.reason, credential.detail)
        by_token = None if token is None else _prove(self.tokens, token, now)
        by_certificate = None
        if certificate is not None and self._certificates is not None:
            by_certificate = _prove(self._certificates, certificate, now)
        if forwarded is not None and self.forwarders:
            certificate = self._received(forwarded, by_certificate)
            by_certificate = _prove(self._certificates, certificate, now)
        if by_token is not None and by_token.fingerprint:
            self._check_binding(by_token, certificate)
        if self.combine is Combine.REQUIRE_BOTH and (by_token is not None or by_certificate is not None):
            return self._both(by_token, by_certificate)
        if by_certificate is not None and (by_token is None or self.combine is Combine.MTLS):
            return by_certificate
        return by_token if by_token is not None else self._nobody(method)

    def _received(self, forwarded: ForwardedCertificate, peer: Principal | None) -> ClientCertificate:
        """The certificate of a proxy's own caller, if the peer is a proxy that is named for it."""
        if peer is None or peer.id not in self.forwarders:
            detail = "a certificate was forwarded by a peer who is not named for that"
            raise AuthenticationError(Reason.CREDENTIAL_FORWARDER_UNKNOWN, detail)
        return ClientCertificate(read_forwarded(forwarded.text))

    def _check_binding(self, principal: Principal, certificate: ClientCertificate | None) -> None:
        """Refuse a token that is bound to another certificate than the connection's, however it came to be here."""
        if certificate is None:
            detail = "the token is bound to a certificate, and none was shown"
            raise AuthenticationError(Reason.TOKEN_BINDING_WRONG, detail)
        if self._fingerprints.get(certificate.pem) == principal.fingerprint:
            return
        if read_certificates(certificate.pem)[0].fingerprint(SHA256()).hex() != principal.fingerprint:
            raise AuthenticationError(Reason.TOKEN_BINDING_WRONG, "the token is bound to another certificate")
        # only those that fit are remembered: whoever has one bound token could show any number of others
        self._fingerprints.put(certificate.pem, principal.fingerprint)

    def _nobody(self, method: str) -> Principal:
        if method in self.anonymous:
            return ANONYMOUS
        raise AuthenticationError(Reason.CREDENTIAL_MISSING, "no credential was shown")

    def _both(self, by_token: Principal | None, by_certificate: Principal | None) -> Principal:
        if by_token is None or by_certificate is None:
            shown, missing = ("certificate", "token") if by_token is None else ("token", "certificate")
            detail = f"a {shown} was shown without a {missing}, and both are required"
            raise AuthenticationError(Reason.CREDENTIAL_MISSING, detail)
        pair = (by_token, by_certificate)
        principal = self._pairs.get(pair)
        if principal is None:
            ends = [end for end in (by_token.expires_at, by_certificate.expires_at) if end is not None]
            expires_at = min(ends, default=None)
            principal = replace(by_token, expires_at=expires_at, fingerprint=by_certificate.fingerprint)
            self._pairs.put(pair, principal)
        return principal


def _prove(authenticator: Authenticator | None, credential: Credential, now: float) -> Principal:
    principal = None if authenticator is None else authenticator.authenticate(credential, now)
    if principal is None:
        kind = "token" if isinstance(credential, BearerToken) else "certificate"
        raise AuthenticationError(Reason.CREDENTIAL_UNSUPPORTED, f"nothing is configured that proves a {kind}")
    return principal
