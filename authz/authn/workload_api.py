"""WorkloadBundle: a trust domain's authorities, as a SPIFFE Workload API (a SPIRE agent) gives them.

Needs the extra ``grpc-authz[spiffe]``.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from spiffe import TrustDomain, WorkloadApiClient

from authz.forked import renew_in_child

_log = logging.getLogger("authz.authn")


class WorkloadBundle:
    """The authorities of one trust domain. A thread of its own asks for them; reading them never waits.

    Args:
        name: the authority's name, for the log.
        socket: address of the Workload API, e.g. ``unix:///run/spire/agent.sock``.
        trust_domain: whose authorities.
        interval: seconds between two questions.
        timeout: seconds for one.
        max_stale: how long the authorities are used after the last answer, in seconds.

    Raises:
        ValueError: the address is not of a socket in the file system.
    """

    def __init__(
        self, name: str, socket: str, trust_domain: str, *, interval: float, timeout: float, max_stale: float
    ) -> None:
        self.name = name
        self.failures = 0
        if not socket.startswith("unix:/"):
            raise ValueError("is not unix:///path")
        self._socket = socket
        self._timeout = timeout
        self._trust_domain = TrustDomain(trust_domain)
        self._interval = interval
        self._max_stale = max_stale
        self._usable_until = 0.0
        self._certificates: Sequence[x509.Certificate] = ()
        self._known: frozenset[bytes] = frozenset()
        self.renew_locks()
        renew_in_child(self)
        self._first = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"authz-bundle-{name}", daemon=True)

    @property
    def value(self) -> Sequence[x509.Certificate]:
        """The authorities, the same object for as long as they are the same; empty if there are none to be used."""
        return self._certificates if time.monotonic() < self._usable_until else ()

    def __repr__(self) -> str:
        return f"the authorities of {self.name}"

    def renew_locks(self) -> None:
        """See :class:`authz.forked.HasLocks`. The thread is the parent's."""
        self._end = threading.Event()

    def start(self) -> None:
        """See :class:`authz.authn.background.Background`."""
        self._thread.start()

    def ready(self, timeout: float) -> bool:
        """See :class:`authz.authn.background.Background`."""
        return self._first.wait(timeout)

    def close(self) -> None:
        """See :class:`authz.authn.background.Background`. A question under way is not waited for."""
        self._end.set()

    def _run(self) -> None:
        while True:
            try:
                self._ask()
            except Exception as exc:
                # whatever the agent can bring about here, the thread that would mend it must live on
                self.failures += 1
                why = " ".join(str(exc).split())[:300]
                _log.warning("the authorities of %s could not be had: %s", self.name, why)
            if self._end.wait(self._interval):
                return

    def _ask(self) -> None:
        began = time.monotonic()
        # made anew each time: the client will not be made before the agent's socket is there
        with WorkloadApiClient(socket_path=self._socket, default_timeout=self._timeout) as client:
            bundle = client.fetch_x509_bundles().get_bundle_for_trust_domain(self._trust_domain)
        found = [] if bundle is None else sorted(bundle.x509_authorities, key=lambda c: c.public_bytes(Encoding.DER))
        if not found:
            raise LookupError(f"there is no bundle of the trust domain {self._trust_domain.name}")
        known = frozenset(certificate.public_bytes(Encoding.DER) for certificate in found)
        if known != self._known:
            self._certificates, self._known = tuple(found), known
            _log.info("the authorities of %s: %d certificates", self.name, len(found))
        self._usable_until = began + self._max_stale
        self.failures = 0
        self._first.set()
