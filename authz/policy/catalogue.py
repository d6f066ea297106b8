"""Catalogue: what a server's API is made of: each method with its access, its scope and where it names namespaces."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from authz.call import ApiMethod, is_method


class Catalogue:
    """Methods by gRPC full method. A service may have one entry for all of its methods, written ``/pkg.Service/*``."""

    __slots__ = ("_services", "methods")

    def __init__(self, methods: Mapping[str, ApiMethod]) -> None:
        self.methods: Mapping[str, ApiMethod] = MappingProxyType(dict(methods))
        self._services = {name[:-1]: entry for name, entry in methods.items() if name.endswith("/*")}

    def find(self, method: str) -> ApiMethod | None:
        """The entry for ``method``, or None if the catalogue does not know it."""
        found = self.methods.get(method)
        if found is not None and not method.endswith("*"):
            return found
        if not is_method(method):
            return None
        return self._services.get(method[: method.rindex("/") + 1])
