"""FetchedKeys: the keys that an issuer publishes at an address, fetched beside the calls and never for one of them."""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from authz.authn.background import nobody
from authz.authn.https import Document, FetchError, Https
from authz.authn.key_files import read_key_set
from authz.authn.keys import KeySet
from authz.authn.strict_json import read_json_object
from authz.errors import KeyFileError
from authz.forked import renew_in_child

_log = logging.getLogger("authz.authn")
_REDISCOVER: Final = 3600.0
_JITTER: Final = 0.1
_random = random.Random()  # noqa: S311 - spreads load, keeps no secret; one of its own leaves the program's as it is
_WELL_KNOWN: Final = "/.well-known/openid-configuration"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refresh:
    """When keys are fetched; every value in seconds.

    Attributes:
        interval: from one fetch to the next, give or take a tenth.
        max_stale: how long keys are used after the last fetch that succeeded.
        cooldown: between two fetches, whatever is asked: a token with an unknown ``kid`` asks for one.
        timeout: for one exchange with the server.
    """

    interval: float = 300.0
    max_stale: float = 86_400.0
    cooldown: float = 30.0
    timeout: float = 5.0


class KeyStatus(NamedTuple):
    """How it stands with a source of keys, for metrics.

    Attributes:
        name: the issuer's name.
        keys: how many keys there are.
        age: seconds since the last fetch that succeeded; None: none did.
        fetches: fetches that succeeded.
        failures: fetches that failed.
        error: why the last fetch failed; empty: it did not.
    """

    name: str
    keys: int
    age: float | None
    fetches: int
    failures: int
    error: str


class FetchedKeys:
    """The keys at an address. A thread of its own fetches them; reading them never waits.

    Args:
        name: the issuer's name, for the log.
        https: what fetches.
        refresh: when.
        jwks_url: where the key set is; None: where the discovery document of ``issuer`` says.
        issuer: the issuer's address, for discovery.
    """

    def __init__(
        self, name: str, https: Https, refresh: Refresh, *, jwks_url: str | None = None, issuer: str = ""
    ) -> None:
        self.name = name
        self._https = https
        self._refresh = refresh
        self._issuer = issuer
        self._discovers = jwks_url is None
        self._jwks_url = jwks_url or ""
        self._discovered_at = -math.inf
        self._keys: KeySet | None = None
        self._known: Document | None = None
        self._body: bytes | None = None
        self._usable_until = 0.0
        self._fetched_at: float | None = None
        self._fetches = 0
        self._failures = 0
        self._failed_in_a_row = 0
        self._error = ""
        self._wanted = False
        self._closed = False
        self.renew_locks()
        renew_in_child(self)
        self._first = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"authz-keys-{name}", daemon=True)
        self.told: Callable[[str], None] = nobody
        """Told :attr:`name` when other keys than before were fetched."""

    def current(self, now: float) -> KeySet | None:  # noqa: ARG002 - see below
        """The keys, unless they are older than ``max_stale``. See :class:`authz.authn.keys.KeySource`.

        Their age is measured with a clock that nobody sets.
        """
        return self._keys if time.monotonic() < self._usable_until else None

    def missed(self, key_id: str | None) -> None:
        """Ask for a fetch as soon as the cool-down is over. See :class:`authz.authn.keys.KeySource`."""
        if key_id is None or self._wanted:
            return
        with self._wake:
            self._wanted = True
            self._wake.notify()

    def renew_locks(self) -> None:
        """See :class:`authz.forked.HasLocks`."""
        self._wake = threading.Condition()

    def __repr__(self) -> str:
        return f"the keys of {self.name}" + (f" ({self._error})" if self._error else "")

    @property
    def status(self) -> KeyStatus:
        """How it stands."""
        keys = self._keys
        age = None if self._fetched_at is None else time.monotonic() - self._fetched_at
        return KeyStatus(
            self.name, 0 if keys is None else len(keys.keys), age, self._fetches, self._failures, self._error
        )

    def start(self) -> None:
        """See :class:`authz.authn.background.Background`."""
        self._thread.start()

    def ready(self, timeout: float) -> bool:
        """See :class:`authz.authn.background.Background`."""
        return self._first.wait(timeout)

    def close(self) -> None:
        """See :class:`authz.authn.background.Background`. A fetch under way is not waited for."""
        with self._wake:
            self._closed = True
            self._wake.notify()

    def _run(self) -> None:
        while True:
            self._wanted = False
            try:
                self._fetch()
            except (FetchError, KeyFileError) as exc:
                self._fail(str(exc))
            except Exception as exc:
                # whatever a server can bring about here, the thread that would mend it must live on
                _log.exception("the keys of %s could not be fetched", self.name)
                self._fail(type(exc).__name__)
            if not self._sleep():
                return

    def _sleep(self) -> bool:
        """Wait until the next fetch is due, or asked for and allowed; False: this is the end."""
        spread = _random.uniform(1 - _JITTER, 1 + _JITTER)
        wait = self._refresh.interval
        if self._failed_in_a_row:
            wait = min(wait, self._refresh.cooldown * 2 ** min(self._failed_in_a_row - 1, 10))
        began = time.monotonic()
        due, allowed = began + wait * spread, began + self._refresh.cooldown
        with self._wake:
            while not self._closed:
                left = (min(due, allowed) if self._wanted else due) - time.monotonic()
                if left <= 0:
                    return True
                self._wake.wait(left)
        return False

    def _fetch(self) -> None:
        began = time.monotonic()
        if self._discovers and began - self._discovered_at > _REDISCOVER:
            self._discover()
        document = self._https.get(self._jwks_url, self._known)
        if document.body is not None and document.body != self._body:
            keys = read_key_set(document.body, self._jwks_url)
            for note in keys.skipped:
                _log.info("the keys of %s: skipped: %s", self.name, note)
            _log.info("the keys of %s: %s", self.name, ", ".join(str(key.id) for key in keys.keys))
            self._keys, self._body = keys, document.body
            self.told(self.name)
        self._known = document
        self._fetched_at = began
        self._usable_until = began + self._refresh.max_stale
        self._fetches += 1
        self._failed_in_a_row = 0
        self._error = ""
        self._first.set()

    def _discover(self) -> None:
        url = self._issuer.rstrip("/") + _WELL_KNOWN
        document = self._https.get(url)
        try:
            found = read_json_object(document.body or b"")
        except ValueError as exc:
            raise FetchError(f"{url}: the document {exc}") from None
        if found.get("issuer") != self._issuer:
            raise FetchError(f"{url}: `issuer` in the document is not {self._issuer!r}")
        address = found.get("jwks_uri")
        if not isinstance(address, str):
            raise FetchError(f"{url}: `jwks_uri` is not text")
        if address != self._jwks_url:
            self._jwks_url, self._known = address, None
        self._discovered_at = time.monotonic()

    def _fail(self, error: str) -> None:
        self._failures += 1
        self._failed_in_a_row += 1
        self._error = error
        self._discovered_at = -math.inf
        left = max(0.0, self._usable_until - time.monotonic())
        _log.warning("the keys of %s could not be fetched, those at hand serve for %.0f s: %s", self.name, left, error)
