"""Question: from Envoy's CheckRequest to a call and credentials."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from authz.adapters.admission import named_elsewhere, needs_message
from authz.adapters.ext_authz.body import BodyError, messages
from authz.adapters.ext_authz.routes import Routes, unread
from authz.adapters.messages import Messages
from authz.adapters.namespaces import Namespaces, read_namespaces
from authz.adapters.outgoing import hyphenated
from authz.call import ApiMethod, Call, Scope
from authz.config.serve import ExtAuthz
from authz.credentials import ClientCertificate, Credentials, from_metadata
from authz.policy.catalogue import Catalogue
from authz.resource_name import ResourceName
from authz.trace_context import read_traceparent

EXTRACTED: Final = "envoy.filters.http.grpc_field_extraction"
"""The filter whose dynamic metadata holds the fields of the first message."""
LATER: Final = (
    "Envoy extracts the fields of a request stream's first message alone: put `authz serve proxy` there, which decides "
    "each message, or list the method in `streams_decided_by_first_message` if its server holds a stream to the "
    "namespace of its first message"
)
_PARTIAL: Final = "x-envoy-auth-partial-body"
_NONE: Final[Namespaces] = ((), None)


@dataclass(frozen=True, slots=True)
class Question:
    """What Envoy asks.

    Attributes:
        call: what the client wants.
        credentials: what it showed.
        grpc: whether it speaks gRPC, and is to be answered so.
        headers: the names of the headers that Envoy showed.
    """

    call: Call
    credentials: Credentials
    grpc: bool
    headers: frozenset[str]


class Reader:
    """Reads questions.

    Args:
        settings: where requests name their namespaces.
        messages: the requests of the gRPC APIs behind Envoy.
    """

    def __init__(self, settings: ExtAuthz, messages: Messages) -> None:
        self._settings = settings
        self._messages = messages
        self._routes = Routes(settings.routes)

    def read(self, request: Any, catalogue: Catalogue) -> Question:
        """The question in ``request``, an ``envoy.service.auth.v3.CheckRequest``."""
        source, http = request.attributes.source, request.attributes.request.http
        headers = _headers(http)
        credentials: Credentials = from_metadata(headers)
        if source.certificate:
            # as Envoy has verified it on this connection; the engine verifies it once more
            credentials = (*credentials, ClientCertificate(unquote_to_bytes(source.certificate)))
        content = _one(headers, "content-type").partition(";")[0].strip().lower()
        grpc = content.startswith("application/grpc")
        if grpc:
            method = http.path
            namespaces, unreadable = self._of_grpc(catalogue.find(method), request, headers, content)
        else:
            method, (namespaces, unreadable) = self._of_http(catalogue, http, headers)
        trace, span = read_traceparent([value for name, value in headers if name == "traceparent"])
        call = Call(
            method,
            namespaces,
            unreadable,
            peer=_peer(source.address),
            user_agent=_one(headers, "user-agent"),
            trace_id=trace,
            span_id=span,
            enforced=not self._settings.shadow,
        )
        return Question(call, credentials, grpc, frozenset(name for name, _ in headers))

    def _of_http(self, catalogue: Catalogue, http: Any, headers: list[tuple[str, str]]) -> tuple[str, Namespaces]:
        matched = self._routes.find(http.method, http.path)
        if matched is None:
            # not a method at all, so it is denied; what the record says of it tells where to look
            return f"{http.method} {http.path.partition('?')[0]}", _NONE
        route = matched.route
        api = catalogue.find(route.method)
        if api is None or api.scope is not Scope.NAMESPACE:
            return route.method, _NONE
        why = unread(route, api)
        if why is not None:
            return route.method, ((), why)
        elsewhere = _respelled(headers, api.metadata) or named_elsewhere(api, headers)
        if route.header:
            return route.method, _union([_of_header(headers, route.header), elsewhere])
        if route.names_namespace or needs_message(api):
            return route.method, _union([((matched.namespace,), None), elsewhere])
        return route.method, elsewhere

    def _of_grpc(self, api: ApiMethod | None, request: Any, headers: list[tuple[str, str]], content: str) -> Namespaces:
        if api is None or api.scope is not Scope.NAMESPACE:
            return _NONE
        if content not in ("application/grpc", "application/grpc+proto"):
            return (), f"the messages are of the type `{content[:64]}`, not protobuf"
        if self._settings.source == "header":
            return _union([_of_header(headers, self._settings.header), named_elsewhere(api, headers)])
        if not needs_message(api):
            return named_elsewhere(api, headers)
        kind = self._messages.find(api.method if not api.method.endswith("*") else request.attributes.request.http.path)
        if kind is None:
            return (), "no descriptor set describes the method"
        by_first = request.attributes.request.http.path in self._settings.by_first_message
        if self._settings.source == "extracted":
            if kind.client_streaming and not by_first:
                return (), LATER
            return _union([_extracted(api, request.attributes.metadata_context), named_elsewhere(api, headers)])
        http = request.attributes.request.http
        body = http.raw_body
        if http.body and not body:
            return (), "Envoy packs bodies as text: set `pack_as_bytes: true`"
        partial = {value for name, value in headers if name == _PARTIAL}
        if partial != {"false"} and not by_first:
            return (), "Envoy did not say that the body is whole"
        try:
            found = messages(body, _one(headers, "grpc-encoding"), self._settings.max_body_bytes, truncated=by_first)
        except BodyError as exc:
            return (), str(exc)
        in_messages = [read_namespaces(api, kind.read(message)) for message in found]
        return _union([*in_messages, named_elsewhere(api, headers)])


def _union(each: Iterable[Namespaces]) -> Namespaces:
    named: dict[str | None, None] = {}
    for namespaces, unreadable in each:
        if unreadable is not None:
            return (), unreadable
        named.update(dict.fromkeys(namespaces))
    return tuple(named), None


def _extracted(api: ApiMethod, context: Any) -> Namespaces:
    """The namespaces among the fields that Envoy extracted: every path of the catalogue has to be among them."""
    if EXTRACTED not in context.filter_metadata:
        return (), f"Envoy passes no metadata of {EXTRACTED}: see `metadata_context_namespaces`"
    fields = context.filter_metadata[EXTRACTED].fields
    named: dict[str | None, None] = {}
    for index, entry in enumerate((*api.namespaces, *api.opaque)):
        path, _, pattern = entry.partition("=")
        if path not in fields:
            return (), f"Envoy does not extract `{path}` from requests of `{api.method}`"
        values = [value.string_value for value in fields[path].list_value.values]
        if any(value.WhichOneof("kind") != "string_value" for value in fields[path].list_value.values):
            return (), f"what Envoy extracts from `{path}` is not text"
        if path in api.opaque:
            values = [""] if any(values) else []
        elif index == 0 and not any(values):
            values = [""]
        elif index:
            values = [value for value in values if value]
        if pattern:
            resource = ResourceName(pattern)
            found = [resource.namespace(value) if value else "" for value in values]
            if None in found:
                return (), f"a resource name is not of the form `{pattern}`"
            values = [str(name) for name in found]
        named.update(dict.fromkeys(value or None for value in values))
    return tuple(named) or (None,), None


def _of_header(headers: list[tuple[str, str]], name: str) -> Namespaces:
    values = [value for key, value in headers if key == name]
    if len(values) > 1:
        return (), f"the header `{name}` is given {len(values)} times"
    return _respelled(headers, name) or ((values[0] if values and values[0] else None,), None)


def _respelled(headers: list[tuple[str, str]], name: str) -> Namespaces | None:
    """That nothing can be read, if a header would be ``name`` to some servers and another one to others."""
    if not any(key != name and hyphenated(key) == hyphenated(name) for key, _ in headers):
        return None
    return (), f"the header `{name}` is given in another spelling"


def _peer(address: Any) -> str:
    """The address of an Envoy's client, in gRPC's name for it; empty: Envoy tells none."""
    if address.pipe.path:
        return f"unix:{address.pipe.path}"
    found = address.socket_address
    if not found.address:
        return ""
    return (
        f"ipv6:[{found.address}]:{found.port_value}"
        if ":" in found.address
        else f"ipv4:{found.address}:{found.port_value}"
    )


def _headers(http: Any) -> list[tuple[str, str]]:
    """The request's headers. Envoy gives them as a map, with repeated ones joined, or one by one and as bytes."""
    raw = http.header_map.headers
    if not raw:
        return [(name.lower(), value) for name, value in http.headers.items()]
    return [(one.key.lower(), one.value or one.raw_value.decode("latin-1")) for one in raw]


def _one(headers: list[tuple[str, str]], name: str) -> str:
    return next((value for key, value in headers if key == name), "")
