"""The ``keys`` of an issuer: where they come from. Watch: everything of a configuration that runs beside the calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from authz.authn.background import Background, FileWatcher, WatchedFile
from authz.authn.fetched_keys import FetchedKeys, Refresh
from authz.authn.https import Https, check_url
from authz.authn.key_files import SET_BYTES_LIMIT, read_key_set_file, read_pem_files, read_secret_file
from authz.authn.keys import SYMMETRIC, FixedKeys, KeySet, KeySource, WatchedKeys
from authz.document import Section
from authz.errors import KeyFileError

_SOURCES: Final = ("discovery", "jwks_url", "jwks_file", "pem_files", "secret_file")
_HOUR: Final = 3600.0
_USUAL: Final = Refresh()
T = TypeVar("T")


class Watch:
    """Collects what a configuration needs to run beside the calls."""

    def __init__(self) -> None:
        self._running: list[Background] = []
        self._files: list[WatchedFile[Any]] = []

    def file(self, section: Section, key: str, read: Callable[[Path], T]) -> WatchedFile[T]:
        """The file that ``key`` names, which is read again whenever it changes."""
        path = section.file(key)
        watched = from_file(section, key, lambda: WatchedFile(path, read))
        self._files.append(watched)
        return watched

    def run(self, part: Background) -> None:
        """Have ``part`` started and closed with the rest."""
        self._running.append(part)

    def all(self) -> Sequence[Background]:
        """Everything, to be started and closed."""
        return [*self._running, *([FileWatcher(self._files)] if self._files else [])]


def from_file(section: Section, key: str, read: Callable[[], T]) -> T:
    """What ``read`` gives; a file that is refused is refused where the configuration names it, too."""
    try:
        return read()
    except KeyFileError as exc:
        raise section.refuse(key, f"`{section.name}.{key}` cannot be used: {exc.problems[0]}") from None


def read_keys(section: Section, name: str, issuer: str, algorithms: frozenset[str], watch: Watch) -> KeySource:
    """Read the key ``keys`` of the issuer ``name``.

    Raises:
        ConfigError: it does not name one source, the source does not fit the algorithms, or a file cannot be used.
    """
    keys = section.section("keys")
    given = [key for key in _SOURCES if key in keys]
    if len(given) != 1:
        raise section.refuse(
            "keys",
            f"`{keys.name}` names {len(given)} sources of keys, not one",
            f"write one of: {', '.join(_SOURCES)}",
        )
    (source,) = given
    _check_symmetric(section, keys, source, algorithms)
    found: KeySource
    if source in ("discovery", "jwks_url"):
        found = fetched = _read_fetched(keys, source, name, issuer)
        watch.run(fetched)
    elif source == "jwks_file":
        file = watch.file(keys, source, read_key_set_file)
        _check_use(keys, source, file.value, algorithms)
        found = WatchedKeys(file)
    else:
        found = FixedKeys(_read_fixed(keys, source, algorithms))
    keys.close(_SOURCES)
    return found


def _check_symmetric(section: Section, keys: Section, source: str, algorithms: frozenset[str]) -> None:
    symmetric = algorithms & SYMMETRIC
    if symmetric and (source != "secret_file" or symmetric != algorithms):
        raise section.refuse(
            "algorithms",
            f"{', '.join(sorted(symmetric))} can neither stand beside other algorithms nor use `{source}`",
            "give an issuer that shares a secret only HS algorithms and `keys: {secret_file: ...}`",
        )
    if source == "secret_file" and not symmetric:
        remedy = "write `jwks_file` or `pem_files`"
        raise keys.refuse(source, "`secret_file` is for HS256, HS384 and HS512 alone", remedy)


def _read_fixed(keys: Section, source: str, algorithms: frozenset[str]) -> KeySet:
    if source == "secret_file":
        path = keys.file(source)
        return from_file(keys, source, lambda: read_secret_file(path, algorithms))
    paths = keys.files(source)
    found = from_file(keys, source, lambda: read_pem_files(paths))
    _check_use(keys, source, found, algorithms)
    return found


def _check_use(keys: Section, source: str, found: KeySet, algorithms: frozenset[str]) -> None:
    if not any(key.algorithms & algorithms for key in found.keys):
        raise keys.refuse(source, f"no key in it can verify {', '.join(sorted(algorithms))}")


def _read_fetched(keys: Section, source: str, name: str, issuer: str) -> FetchedKeys:
    discovers = source == "discovery"
    long = discovers or keys.is_section(source)
    settings = keys.section(source) if long else keys
    insecure = settings.boolean("allow_insecure_http", False) if long else False
    url = issuer if discovers else settings.text("url" if long else source)
    try:
        parts = check_url(url, insecure=insecure)
        if discovers and parts.query:
            raise ValueError("has a query")
    except ValueError as exc:
        remedy = "keys are fetched by https; write `allow_insecure_http: true` to trust whoever can answer in its place"
        raise keys.refuse(source, f"the address `{url}` {exc}", remedy) from None
    ca_file = settings.file("ca_file", None) if long else None
    refresh = _read_refresh(settings) if long else _USUAL
    https = from_file(
        settings,
        "ca_file",
        lambda: Https(ca_file=ca_file, timeout=refresh.timeout, max_bytes=SET_BYTES_LIMIT, insecure=insecure),
    )
    if long:
        settings.close()
    return FetchedKeys(name, https, refresh, jwks_url=None if discovers else url, issuer=issuer)


def _read_refresh(settings: Section) -> Refresh:
    refresh = Refresh(
        interval=settings.duration("refresh", _USUAL.interval, least=1.0, most=24 * _HOUR),
        max_stale=settings.duration("max_stale", _USUAL.max_stale, least=1.0, most=30 * 24 * _HOUR),
        cooldown=settings.duration("unknown_kid_cooldown", _USUAL.cooldown, least=0.1, most=_HOUR),
        timeout=settings.duration("timeout", _USUAL.timeout, least=0.1, most=60.0),
    )
    if refresh.max_stale < 2 * refresh.interval:
        raise settings.refuse(
            "max_stale",
            "keys would be given up before two refreshes are due",
            f"write a `max_stale` of {2 * refresh.interval:g}s or more, or a shorter `refresh`",
        )
    return refresh
