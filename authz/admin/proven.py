"""Proven: the caller that a token or certificate proves, as a server with this configuration would see it."""

from __future__ import annotations

from pathlib import Path

from authz import document
from authz.claims.base import Claims
from authz.config.authn import read_authn
from authz.credentials import BearerToken, ClientCertificate, Credential
from authz.errors import ConfigError


def claims_shown(config: Path, token: Path | None, certificate: Path | None, method: str, now: float) -> Claims:
    """The claims of whoever shows ``token`` and ``certificate`` to a server with the configuration ``config``.

    No server is asked and nothing is recorded.

    Args:
        config: the configuration; its ``authn`` section is read.
        token: a file with a bearer token.
        certificate: a PEM file with the client's certificate, and what it was issued by.
        method: what is called.
        now: the moment, in seconds since the epoch.

    Raises:
        ConfigError: a file cannot be used.
        AuthenticationError: nobody is proven.
        MappingError: the caller has no usable roles.
    """
    shown: list[Credential] = []
    for path in (token, certificate):
        if path is not None:
            try:
                data = path.read_bytes()
            except OSError as exc:
                raise ConfigError.at(path, f"cannot be read: {exc.strerror}") from None
            if path is token:
                text = data.decode("utf-8", "replace").strip()
                shown.append(BearerToken(text.removeprefix("Bearer ").strip()))
            else:
                shown.append(ClientCertificate(data))
    top = document.load(config, ConfigError)
    authentication, mapper = read_authn(top.section("authn"))
    authentication.start()
    try:
        return mapper.map(authentication.authenticate(shown, method, now))
    finally:
        authentication.close()
