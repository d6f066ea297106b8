"""Catalogue: what a server's API is made of: each method with its access, its scope and where it names namespaces.

A bundle's ``catalogue.yaml``::

    services:
      example.orders.v1.Orders:
        namespaces: [namespace]             # where the requests of this service name their namespace
        methods:
          GetOrder: read                    # access alone: scope namespace, at the service's paths
          MoveOrder: {access: write, namespaces: [namespace, moves.target_namespace]}
          FindOrder: {access: read, opaque: [order_id]}
          ReadOrder: {access: read, namespaces: ["name=projects/{namespace}/orders/*"]}  # a part of a resource name
          SyncOrders: {access: write, metadata: x-tenant}  # named by an entry of the call's metadata
          ReadRates: {access: read, constant: shared}      # every call touches this one namespace
          ListRegions: {access: read, scope: cluster}
      example.orders.v1.Internal:
        methods:
          "*": {access: admin, scope: cluster}  # every method of the service, also those not known yet
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from authz import document
from authz.call import METHOD_RULE, NAMESPACE_RULE, Access, ApiMethod, Scope, is_method, is_namespace
from authz.document import Section
from authz.errors import FileError, PolicyError, Problem
from authz.resource_name import PATTERN_RULE, ResourceName

_FIELD_PATH = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}(?:\.[A-Za-z_][A-Za-z0-9_]{0,127}){0,31}")
_METADATA_KEY = re.compile(r"(?!grpc-|authorization$)[a-z0-9_.-]{1,128}(?<!-bin)")
_ANY_METHOD: Final = "*"


class Catalogue:
    """Methods by gRPC full method. A service may have one entry for all of its methods, written ``/pkg.Service/*``."""

    __slots__ = ("_exact", "_services", "methods")

    def __init__(self, methods: Mapping[str, ApiMethod]) -> None:
        self.methods: Mapping[str, ApiMethod] = MappingProxyType(dict(methods))
        self._exact = {name: entry for name, entry in methods.items() if not name.endswith("*")}
        self._services = {name[:-1]: entry for name, entry in methods.items() if name.endswith("/*")}

    def find(self, method: str) -> ApiMethod | None:
        """The entry for ``method``, or None if the catalogue does not know it."""
        found = self._exact.get(method)
        if found is not None or not is_method(method):
            return found
        return self._services.get(method[: method.rindex("/") + 1])


def read_catalogue(path: Path) -> Catalogue:
    """Read the catalogue in the file ``path`` (YAML as in this module's text; UTF-8, at most 16 MiB).

    Raises:
        PolicyError: every entry that cannot be used, with its place and what to write instead.
    """
    return _catalogue(document.load(path, PolicyError))


def parse_catalogue(data: bytes, path: Path) -> Catalogue:
    """Read the catalogue in ``data``; ``path`` is for messages only. See :func:`read_catalogue`."""
    return _catalogue(document.parse(data, path, PolicyError))


def _catalogue(top: Section) -> Catalogue:
    services = top.section("services")
    top.close()
    methods: dict[str, ApiMethod] = {}
    problems: list[Problem] = []
    for name in services:
        try:
            methods.update(_service(name, services.section(name), problems))
        except PolicyError as exc:
            problems += exc.problems
    if problems:
        raise PolicyError(sorted(problems, key=lambda problem: (problem.place.line, problem.place.column)))
    if not methods:
        raise top.refuse(
            "services", "`services` names no method: every call would be denied", "add a service and its methods"
        )
    return Catalogue(methods)


def _service(name: str, service: Section, problems: list[Problem]) -> dict[str, ApiMethod]:
    """The methods of one service; what is wrong with one of them goes to ``problems``, so that all of it is told."""
    if not is_method(f"/{name}/Method"):
        raise PolicyError.at(service.place, f"`{name}` is not a gRPC service", "write package.Service, without slashes")
    default = _paths(service, "namespaces")
    entries = service.section("methods")
    service.close()
    methods: dict[str, ApiMethod] = {}
    for method in entries:
        try:
            methods[f"/{name}/{method}"] = _method(f"/{name}/{method}", method, entries, default)
        except PolicyError as exc:
            problems += exc.problems
    if default and not any(entry.namespaces == default for entry in methods.values()) and not problems:
        raise service.refuse("namespaces", f"no method of `{name}` uses these paths", "leave them out")
    return methods


def _method(full: str, key: str, entries: Section, default: tuple[str, ...]) -> ApiMethod:
    if key != _ANY_METHOD and not is_method(full):
        raise entries.refuse(key, f"`{full}` is not a gRPC full method", f"a full method is {METHOD_RULE}")
    if not entries.is_section(key):
        access = Access(entries.choice(key, Access))
        if not default:
            raise _nowhere(entries, key, full)
        return ApiMethod(full, access, Scope.NAMESPACE, default)
    entry = entries.section(key)
    access = Access(entry.choice("access", Access))
    scope = Scope(entry.choice("scope", Scope, Scope.NAMESPACE.value))
    own, opaque = _paths(entry, "namespaces"), _paths(entry, "opaque")
    metadata, constant = _metadata(entry), _constant(entry)
    entry.close()
    if scope is Scope.CLUSTER:
        for name in ("namespaces", "opaque", "metadata", "constant"):
            if name in entry:
                remedy = f"leave `{name}` out, or leave `scope` out"
                raise entry.refuse(name, f"`{full}` has scope cluster, so its request names no namespace", remedy)
        return ApiMethod(full, access, scope)
    elsewhere = bool(metadata or constant)
    if not own and not default and not elsewhere:
        raise _nowhere(entries, key, full)
    # a method that says where else its namespace is has no namespace where the others of its service have theirs
    own = own if own or elsewhere else default
    for path in opaque:
        if path in own:
            raise entry.refuse("opaque", f"`{path}` is listed in `namespaces` too", "keep one of them")
    return ApiMethod(full, access, scope, own, opaque, metadata, constant)


def _nowhere(entries: Section, key: str, full: str) -> FileError:
    return PolicyError.at(
        entries.place_of(key),
        f"nothing says where the request of `{full}` names its namespace",
        "add `namespaces: [<field path>]` to the method or the service, or write `{access: ..., scope: cluster}`",
    )


def _metadata(entry: Section) -> str:
    name = entry.text("metadata", "")
    if name and _METADATA_KEY.fullmatch(name) is None:
        remedy = "write lower case ASCII letters, digits, '-', '_' and '.', not ending with -bin, e.g. `x-tenant`"
        raise entry.refuse("metadata", f"`{name}` is no metadata key with text", remedy)
    return name


def _constant(entry: Section) -> str:
    name = entry.text("constant", "")
    if name and not is_namespace(name):
        raise entry.refuse("constant", f"`{name}` is not a namespace", f"a namespace is {NAMESPACE_RULE}")
    return name


def _paths(section: Section, key: str) -> tuple[str, ...]:
    paths = section.texts(key, ())
    for entry in paths:
        path, equals, pattern = entry.partition("=")
        if _FIELD_PATH.fullmatch(path) is None:
            remedy = "write protobuf field names joined by dots, e.g. `order.namespace`"
            raise section.refuse(key, f"`{path}` is not a field path", remedy)
        if equals:
            try:
                ResourceName(pattern)
            except ValueError as exc:
                remedy = f"write {PATTERN_RULE}, e.g. `name=projects/{{namespace}}/orders/*`"
                raise section.refuse(key, f"`{pattern}` is no pattern of resource names: {exc}", remedy) from None
    return paths
