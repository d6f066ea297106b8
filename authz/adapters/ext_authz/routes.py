"""Routes: which method of the API catalogue a plain HTTP request is, and which namespace its path or header names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from authz.call import ApiMethod
from authz.config.serve import NAMESPACE_VARIABLE, Route


@dataclass(frozen=True, slots=True)
class Matched:
    """A request that has a route.

    Attributes:
        route: the route.
        namespace: what the path names; None if it names none.
    """

    route: Route
    namespace: str | None


def unread(route: Route, api: ApiMethod) -> str | None:
    """Why a request with ``route`` cannot be read: its method names namespaces where nobody looks; None if it can.

    A route that names a namespace stands for the first path of its method, which is the request's own.
    """
    left = api.namespaces[int(route.names_namespace) :] + api.opaque
    if not left or route.names_no_other_namespace:
        return None
    fields = ", ".join(f"`{field}`" for field in left)
    return f"the route {route.verb} {route.path} leaves out {fields}, where `{route.method}` names namespaces as well"


class Routes:
    """Finds the route of a request. A path has to match in every segment, as it is written; the first route wins."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes: dict[tuple[str, int], list[tuple[list[str], Route]]] = {}
        for route in routes:
            segments = route.path.split("/")[1:]
            self._routes.setdefault((route.verb, len(segments)), []).append((segments, route))

    def find(self, verb: str, path: str) -> Matched | None:
        """The route of a request; None if there is none, or if servers could disagree about what the path means."""
        given = path.partition("?")[0].split("/")[1:]
        for segments, route in self._routes.get((verb, len(given)), ()):
            namespace: str | None = None
            for wanted, segment in zip(segments, given, strict=True):
                if not wanted.startswith("{"):
                    if segment != wanted:
                        break
                    continue
                value = _decoded(segment)
                if value is None:
                    return None
                if wanted == NAMESPACE_VARIABLE:
                    namespace = value
            else:
                return Matched(route, namespace)
        return None


def _decoded(segment: str) -> str | None:
    """A segment without its percent-encoding; None where it is empty, a step (``..``), or hides a separator."""
    try:
        text = unquote_to_bytes(segment).decode("utf-8")
    except UnicodeDecodeError:
        return None
    stepping = text in ("", ".", "..") or any(c in text for c in "/\\;%?#")
    return None if stepping or not text.isprintable() else text
