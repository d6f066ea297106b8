"""The ``serve`` section of the configuration: what `authz serve` listens on, and what is behind it.

Everything is read when the process starts, also the files of keys. Nothing is plaintext, and no caller's token is
passed on, unless the configuration says so in words.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Final

from authz import document
from authz.document import Section
from authz.errors import ConfigError, Place

_ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]{2,45}\]|[A-Za-z0-9_.-]{1,253}):([0-9]{1,5})")
_HEADER = re.compile(r"[a-z0-9_.-]{1,64}")
_STRIPPED = re.compile(r"[a-z0-9_.-]{1,64}\*?")
_MIB: Final = 1024 * 1024
_WORKERS_LIMIT: Final = 128
_FILE_LIMIT: Final = _MIB
SIGNATURES: Final = ("EdDSA", "ES256")
COMPRESSIONS: Final = ("none", "gzip", "deflate")
NAMESPACE_VARIABLE: Final = "{namespace}"
_ROUTES: Final = Place("serve.ext_authz.routes")


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate chain and its private key, in PEM."""

    certificate: bytes
    key: bytes


@dataclass(frozen=True, slots=True)
class Listener:
    """An address to serve at.

    Attributes:
        address: ``host:port``; port 0 is any free one.
        identity: what TLS is served with; None: plaintext, which the configuration asked for.
        client_ca: the authorities (PEM) of which every client must show a certificate; None: none is asked for.
    """

    address: str
    identity: Identity | None = None
    client_ca: bytes | None = None


@dataclass(frozen=True, slots=True)
class Upstream:
    """The server behind a proxy.

    Attributes:
        address: ``host:port``.
        ca: the authorities (PEM) that vouch for it; None: the system's. Only with ``tls``.
        identity: what the proxy shows to it as a client.
        server_name: the name in its certificate, if it is not the host of the address.
        tls: whether it is called over TLS.
        connections: HTTP/2 connections to it, for each worker.
        keepalive: seconds without a sign of life after which it is pinged while calls are under way; it has to permit
            that. 0: after a minute, and no more than twice, which every server permits.
        compression: how requests to it are compressed, one of :data:`COMPRESSIONS`; it has to take that.
    """

    address: str
    ca: bytes | None = None
    identity: Identity | None = None
    server_name: str = ""
    tls: bool = False
    connections: int = 1
    keepalive: float = 0.0
    compression: str = "none"


@dataclass(frozen=True, slots=True)
class SignedIdentity:
    """How the caller is told to the server behind, in a token that it can verify.

    Attributes:
        header: the metadata key that carries it.
        key: the private key, PEM.
        algorithm: one of :data:`SIGNATURES`.
        issuer, audience: its ``iss`` and ``aud``.
        key_id: its ``kid``.
        lifetime: seconds that it is good for.
    """

    header: str
    key: bytes
    algorithm: str
    issuer: str
    audience: str
    key_id: str
    lifetime: float


@dataclass(frozen=True, slots=True)
class Forward:
    """What is told to the server behind, under which metadata keys; an empty key: not told.

    Attributes:
        principal: the caller's id, percent-encoded.
        roles: the roles that count for the call, joined by commas.
        audit_id: the id of the audit record.
        signed: the caller in a signed token.
        authorization: whether the client's own ``authorization`` is passed on.
        strip: metadata keys that no client may send; a last ``*`` stands for any ending.
    """

    principal: str = "x-authz-principal"
    roles: str = ""
    audit_id: str = "x-audit-id"
    signed: SignedIdentity | None = None
    authorization: bool = False
    strip: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Limits:
    """What a connection and a call may take.

    Attributes:
        message_bytes: the largest message, after decompression, in either direction.
        metadata_bytes: the largest metadata of one call.
        streams: calls at once on one connection.
        calls: calls at once in one worker.
        connection_age: seconds after which a client is asked to connect anew: its certificate is looked at again then.
    """

    message_bytes: int = 4 * _MIB
    metadata_bytes: int = 16 * 1024
    streams: int = 1000
    calls: int = 10_000
    connection_age: float = 1800.0


@dataclass(frozen=True, slots=True)
class Proxy:
    """A transparent proxy in front of ``upstream``. ``descriptors`` are the files with its API's descriptor sets.

    ``compress_replies``: whether clients that accept it are given compressed replies.
    """

    listeners: tuple[Listener, ...]
    upstream: Upstream
    descriptors: tuple[Path, ...]
    forward: Forward
    limits: Limits
    compress_replies: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """A plain HTTP request, and which method of the API catalogue it is.

    Attributes:
        verb: the HTTP method, in upper case.
        path: e.g. ``/v1/{namespace}/orders/{id}``: the variable ``namespace`` is the namespace.
        method: gRPC full method.
        header: the header that names the namespace, where the path does not.
        names_no_other_namespace: whether such a request names no namespace elsewhere, whatever the catalogue says of
            its method's messages.
        place: where it is written.
    """

    verb: str
    path: str
    method: str
    header: str = ""
    names_no_other_namespace: bool = False
    place: Place = _ROUTES

    @property
    def names_namespace(self) -> bool:
        """Whether the path or a header names the namespace."""
        return bool(self.header) or NAMESPACE_VARIABLE in self.path


@dataclass(frozen=True, slots=True)
class ExtAuthz:
    """Envoy's external authorizer.

    Attributes:
        listeners: where Envoy asks.
        descriptors: files with descriptor sets of the APIs behind Envoy, for namespaces in request bodies.
        source: where the namespaces of a gRPC request are: ``body``, ``extracted`` or ``header``.
        header: the header, for ``header``.
        by_first_message: methods with a request stream that are decided by what Envoy sees of its beginning.
        routes: plain HTTP APIs.
        forward: what is told to the server behind.
        shadow: decide and record, and allow everything.
        max_body_bytes: the largest body, after decompression.
    """

    listeners: tuple[Listener, ...]
    descriptors: tuple[Path, ...]
    source: str
    header: str
    by_first_message: frozenset[str]
    routes: tuple[Route, ...]
    forward: Forward
    shadow: bool
    max_body_bytes: int


@dataclass(frozen=True, slots=True)
class Serve:
    """The section as a whole.

    Attributes:
        workers: processes that share the listening ports.
        drain: seconds for calls under way when the server is asked to stop.
        health: where the server says that it is alive (gRPC health protocol, plaintext); empty: nowhere.
        proxy, ext_authz: what is served; None: not configured.
    """

    workers: int
    drain: float
    health: str
    proxy: Proxy | None
    ext_authz: ExtAuthz | None


def load_serve(path: str | PathLike[str]) -> Serve:
    """Read the section ``serve`` of the configuration ``path``; the other sections are :func:`load_config`'s.

    Raises:
        ConfigError: with the place of what cannot be used and what to write instead.
    """
    top = document.load(Path(path), ConfigError)
    section = top.section("serve")
    audit = top.section("audit", None)
    if audit is not None and "file" in audit and section.integer("workers", 1, least=1, most=_WORKERS_LIMIT) > 1:
        raise audit.refuse(
            "file", "one process writes to a file, and `serve.workers` are several", "write `directory:`"
        )
    found = Serve(
        workers=section.integer("workers", 1, least=1, most=_WORKERS_LIMIT),
        drain=section.duration("drain", 30.0, most=3600.0),
        health=_address(section, "health") if "health" in section else "",
        proxy=_proxy(section.section("proxy")) if "proxy" in section else None,
        ext_authz=_ext_authz(section.section("ext_authz")) if "ext_authz" in section else None,
    )
    section.close(["proxy", "ext_authz", "health"])
    return found


def _proxy(section: Section) -> Proxy:
    found = Proxy(
        listeners=_listeners(section),
        upstream=_upstream(section.section("upstream")),
        descriptors=section.files("descriptors"),
        forward=_forward(section),
        limits=_limits(section),
        compress_replies=section.boolean("compress_replies", False),
    )
    section.close(["forward", "limits"])
    return found


def _ext_authz(section: Section) -> ExtAuthz:
    source = section.choice("namespaces_from", ("body", "extracted", "header"), "body")
    found = ExtAuthz(
        listeners=_listeners(section),
        descriptors=section.files("descriptors", ()),
        source=source,
        header=_header(section, "namespace_header") if source == "header" else "",
        by_first_message=frozenset(section.texts("streams_decided_by_first_message", ())),
        routes=tuple(_route(entry) for entry in section.sections("routes", ())),
        forward=_forward(section),
        shadow=section.choice("mode", ("enforce", "shadow_allow_everything"), "enforce") != "enforce",
        max_body_bytes=section.integer("max_body_bytes", 4 * _MIB, least=1024, most=64 * _MIB),
    )
    section.close(["namespace_header", "forward"])
    return found


def _route(section: Section) -> Route:
    verb, path = section.text("verb"), section.text("path")
    if not re.fullmatch(r"[A-Z]{1,16}", verb):
        raise section.refuse("verb", f"`{verb}` is not an HTTP method", "write it in upper case, e.g. GET")
    if not re.fullmatch(r"(/([A-Za-z0-9_.~:@-]+|\{[a-z_]{1,32}\}))+/?|/", path):
        remedy = "write segments and whole-segment variables, e.g. /v1/{namespace}/orders/{id}"
        raise section.refuse("path", f"`{path}` is not a path", remedy)
    header = _header(section, "namespace_header") if "namespace_header" in section else ""
    if header and NAMESPACE_VARIABLE in path:
        raise section.refuse("namespace_header", "the path names the namespace already", "keep one of them")
    if path.count(NAMESPACE_VARIABLE) > 1:
        remedy = "keep one of them: of a request that names several, gRPC alone shows them all"
        raise section.refuse("path", f"`{path}` names the namespace more than once", remedy)
    alone = section.boolean("names_no_other_namespace", False)
    route = Route(verb, path, section.text("method"), header, alone, section.place)
    section.close(["namespace_header"])
    return route


def _listeners(section: Section) -> tuple[Listener, ...]:
    return tuple(_listener(entry) for entry in section.sections("listen"))


def _listener(section: Section) -> Listener:
    address = _address(section, "address")
    tls = _tls_or_plaintext(section)
    listener = Listener(address)
    if tls is not None:
        ca = _read(tls, "client_ca_file") if "client_ca_file" in tls else None
        listener = Listener(address, _identity(tls), ca)
        tls.close(["client_ca_file"])
    section.close()
    return listener


def _upstream(section: Section) -> Upstream:
    address = _address(section, "address")
    connections = section.integer("connections", 1, least=1, most=64)
    keepalive = section.duration("keepalive", 60.0, least=1.0, most=3600.0) if "keepalive" in section else 0.0
    compression = section.choice("compression", COMPRESSIONS, "none")
    tls = _tls_or_plaintext(section)
    section.close()
    if tls is None:
        return Upstream(address, connections=connections, keepalive=keepalive, compression=compression)
    found = Upstream(
        address,
        ca=_read(tls, "ca_file") if "ca_file" in tls else None,
        identity=_identity(tls) if "certificate_file" in tls else None,
        server_name=tls.text("server_name", ""),
        tls=True,
        connections=connections,
        keepalive=keepalive,
        compression=compression,
    )
    tls.close(["ca_file", "certificate_file", "key_file"])
    return found


def _tls_or_plaintext(section: Section) -> Section | None:
    """The section ``tls``; None if the configuration says ``plaintext: true`` instead."""
    tls = section.section("tls", None)
    if section.boolean("plaintext", False) is (tls is not None):
        message = "both `tls` and `plaintext`" if tls else f"`{section.name}.tls` is missing"
        raise section.refuse("plaintext", message, "write `tls: {...}`, or `plaintext: true` where nobody can listen")
    return tls


def _identity(section: Section) -> Identity:
    return Identity(_read(section, "certificate_file"), _read(section, "key_file"))


def _read(section: Section, key: str) -> bytes:
    path = section.file(key)
    try:
        with path.open("rb") as file:
            data = file.read(_FILE_LIMIT)
    except OSError as exc:
        message = f"`{section.name}.{key}` cannot be read: {path}: {exc.strerror}"
        raise section.refuse(key, message, "name a PEM file that this process can read") from None
    if b"-----BEGIN " not in data:
        raise section.refuse(key, f"`{path}` is not a PEM file", "write the file that begins with -----BEGIN")
    return data


_USUAL_FORWARD: Final = Forward()
_USUAL_LIMITS: Final = Limits()


def _forward(section: Section) -> Forward:
    forward = section.section("forward", None)
    strip = section.texts("strip", ())
    for key in strip:
        if not _STRIPPED.fullmatch(key):
            remedy = "write it in lower case, e.g. x-user or x-user-*"
            raise section.refuse("strip", f"`{key}` cannot be a metadata key", remedy)
    if forward is None:
        return Forward(strip=strip)
    signed = forward.section("signed", None)
    found = Forward(
        principal=_optional_header(forward, "principal", _USUAL_FORWARD.principal),
        roles=_optional_header(forward, "roles", ""),
        audit_id=_optional_header(forward, "audit_id", _USUAL_FORWARD.audit_id),
        signed=None if signed is None else _signed(signed),
        authorization=forward.boolean("the_callers_own_token", False),
        strip=strip,
    )
    forward.close()
    return found


def _signed(section: Section) -> SignedIdentity:
    found = SignedIdentity(
        header=_header(section, "header"),
        key=_read(section, "key_file"),
        algorithm=section.choice("algorithm", SIGNATURES),
        issuer=section.text("issuer"),
        audience=section.text("audience"),
        key_id=section.text("key_id", ""),
        lifetime=section.duration("lifetime", 60.0, least=5.0, most=3600.0),
    )
    section.close()
    return found


def _limits(section: Section) -> Limits:
    limits = section.section("limits", None)
    if limits is None:
        return Limits()
    found = Limits(
        message_bytes=limits.integer("message_bytes", _USUAL_LIMITS.message_bytes, least=1024, most=1024 * _MIB),
        metadata_bytes=limits.integer("metadata_bytes", _USUAL_LIMITS.metadata_bytes, least=1024, most=_MIB),
        streams=limits.integer("streams_per_connection", _USUAL_LIMITS.streams, least=1, most=1_000_000),
        calls=limits.integer("calls_per_worker", _USUAL_LIMITS.calls, least=1, most=1_000_000),
        connection_age=limits.duration("connection_age", _USUAL_LIMITS.connection_age, least=1.0, most=7 * 86400.0),
    )
    limits.close()
    return found


def _optional_header(section: Section, key: str, default: str) -> str:
    return _header(section, key) if key in section else default


def _header(section: Section, key: str) -> str:
    name = section.text(key)
    if not _HEADER.fullmatch(name) or name.endswith("-bin") or name.startswith(("grpc-", ":")):
        remedy = "write lower-case letters, digits and '-', e.g. x-authz-principal; not grpc-*, not *-bin"
        raise section.refuse(key, f"`{name}` cannot be a metadata key for text", remedy)
    return name


def _address(section: Section, key: str) -> str:
    address = section.text(key)
    match = _ADDRESS.fullmatch(address)
    if match is None or int(match[2]) > 65_535:
        raise section.refuse(key, f"`{address}` is not an address", "write host:port, e.g. 127.0.0.1:7233")
    return address
