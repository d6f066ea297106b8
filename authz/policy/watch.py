"""Watch: notices that a policy has changed, and reads it again.

A :class:`PolicySource` is where policy comes from: a folder here, a database or a Casbin adapter elsewhere. A
:class:`Watcher` looks at its source every so often. What it finds half-written it leaves alone until it has settled,
and what it cannot use it reports, once; the last good revision stays in force either way.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol

from authz.errors import PolicyError
from authz.forked import renew_in_child
from authz.policy.load import bundle_files, load_bundle
from authz.policy.revision import Revision
from authz.policy.signature import SIGNATURE

_LOG: Final = logging.getLogger("authz.policy")
_ANY: Final = object()
_RETRY: Final = 10.0
_now = time.monotonic


class PolicySource(Protocol):
    """Where a policy comes from."""

    def load(self) -> Revision:
        """The policy as it is now.

        Raises:
            PolicyError: there is none that can be used.
        """
        ...


class DirectorySource:
    """A bundle in a folder. The folder, or any folder above it, may be a symbolic link that is swapped."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> Revision:
        """Read the bundle; see :func:`authz.policy.load.load_bundle`.

        Raises:
            PolicyError: the bundle cannot be used, or changed while it was read.
        """
        before = self.signature()
        revision = load_bundle(self.path)
        if self.signature() != before:
            raise PolicyError.at(self.path, "changed while it was being read")
        return revision

    def signature(self) -> object:
        """Something that differs whenever a file of the bundle, or its signature, has changed.

        Costs a few system calls.
        """
        try:
            files = [*bundle_files(self.path), self.path / SIGNATURE]
        except PolicyError as exc:
            # what it cannot say is for load() to tell
            return str(exc)
        return tuple((file.name, _stat(file)) for file in files)


def _stat(file: Path) -> tuple[int, ...] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


class Watcher:
    """Looks at ``source`` from a thread of its own, and calls back from there.

    A source that has a ``signature()`` is read only when that has changed and then stayed the same for one interval,
    so that a file caught half-written is left alone until it is whole. What was refused is tried again every ten
    seconds, since it may be mended elsewhere. Any other source is read at each interval.

    Args:
        source: where the policy comes from.
        current: the id of the revision in force, which is not reported again; None: report the first one too.
        on_revision: called with each new revision. A PolicyError that it raises counts as a rejection; anything else
            is logged.
        on_rejected: called with what is wrong, once for each state of the source.
        interval: seconds between looks.
    """

    def __init__(
        self,
        source: PolicySource,
        current: str | None,
        on_revision: Callable[[Revision], None],
        on_rejected: Callable[[PolicyError], None],
        *,
        interval: float = 0.25,
    ) -> None:
        self._source = source
        self._current = current
        self._on_revision = on_revision
        self._on_rejected = on_rejected
        self._interval = interval
        self._seen: object = _ANY
        self._read: object = _ANY
        self._retry_at = 0.0
        self._rejected = ""
        self.renew_locks()
        renew_in_child(self)
        self._thread: threading.Thread | None = None

    def renew_locks(self) -> None:
        """See :class:`authz.forked.HasLocks`. The thread is the parent's."""
        self._stop = threading.Event()

    def start(self) -> None:
        """Begin to look. A watcher can be started once."""
        if self._thread is not None:
            raise RuntimeError("a watcher can be started once")
        self._thread = threading.Thread(target=self._run, name="authz-policy-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop, and wait for a look that is under way; not from within a callback."""
        self._stop.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def __enter__(self) -> Watcher:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self) -> None:
        while not self._stop.wait(self._interval):
            try:
                self.look()
            except Exception:
                _LOG.exception("looking at the policy failed; the last good revision stays in force")

    def look(self) -> None:
        """Look once, as the thread does at each interval."""
        signature = self._signature()
        if signature is not None:
            settled, self._seen = signature == self._seen, signature
            if not settled or (signature == self._read and _now() < self._retry_at):
                return
        try:
            revision = self._source.load()
        except PolicyError as exc:
            if signature is not None and self._signature() != signature:
                return
            self._have_read(signature)
            self._reject(exc)
            return
        self._have_read(signature)
        if revision.id != self._current:
            try:
                self._on_revision(revision)
            except PolicyError as exc:
                self._reject(exc)
                return
            self._current = revision.id
        self._retry_at = math.inf
        self._rejected = ""

    def _have_read(self, signature: object) -> None:
        """Until it is in force, it is read again in a while, also if nothing changes."""
        self._read = signature if signature is not None else _ANY
        self._retry_at = _now() + _RETRY

    def _signature(self) -> object:
        signature = getattr(self._source, "signature", None)
        return None if signature is None else signature()

    def _reject(self, error: PolicyError) -> None:
        text = str(error)
        if text == self._rejected:
            return
        self._rejected = text
        _LOG.error("policy rejected, the last good revision stays in force:\n%s", text)
        self._on_rejected(error)
