"""Skeleton: a first catalogue for an API, guessed from its descriptors, for a person to go through.

What is guessed is guessed to the strict side: a method that seems to do nothing in particular is a write, and one whose
request names no namespace takes a system-wide role.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from authz.adapters.messages import Messages

_READ: Final = ("Get", "BatchGet", "List", "Describe", "Count", "Query", "Read", "Search", "Scan", "Fetch", "Watch",
                "Check", "Find", "Lookup", "Show", "View", "Stat", "Has", "Is")  # fmt: skip
_ADMIN: Final = ("Delete", "Purge", "Drop", "Remove", "Destroy", "Register", "Deregister", "Deprecate", "Grant",
                 "Revoke", "Admin", "Set", "Configure", "Rotate", "Import", "Export", "Migrate")  # fmt: skip
_NAMES: Final = re.compile(r"(?:[a-z0-9_]+_)?(?:namespace|tenant|project|workspace|org|organization)(?:_name)?")
_IDS: Final = re.compile(r"(?:[a-z0-9_]+_)?(?:namespace|tenant|project|workspace|org|organization)_id")
_SKIPPED: Final = ("grpc.reflection.",)
_DEPTH: Final = 6
_PATHS_LIMIT: Final = 40


def skeleton(messages: Messages, only: Iterable[str] = ()) -> str:
    """The text of a ``catalogue.yaml`` with every method of ``messages``.

    Args:
        messages: the API.
        only: full names of services; none: all but server reflection.
    """
    wanted = set(only)
    services: dict[str, list[str]] = {}
    for method in sorted(messages.methods):
        service = method[1:].partition("/")[0]
        if service in wanted or (not wanted and not service.startswith(_SKIPPED)):
            services.setdefault(service, []).append(method)
    lines = [
        "# Guessed from the names in the API's descriptors. Go through every line before you rely on it:",
        "#   access      is it really a read? `write` is guessed where the name says nothing",
        "#   namespaces  every place where a request names a namespace that it touches, the request's own first",
        "#   opaque      places that name a namespace by an id, which cannot be read: these take a system-wide role",
        "#   scope       `cluster`, where no namespace was found, takes a system-wide role",
        "services:",
    ]
    for service, methods in services.items():
        lines += [f"  {service}:", "    methods:"]
        lines += [f"      {method.rpartition('/')[2]}: {_entry(messages, method)}" for method in methods]
    return "\n".join(lines) + "\n"


def _entry(messages: Messages, method: str) -> str:
    found = messages.methods[method]
    named, opaque = _paths(found.message.DESCRIPTOR)
    if "Namespace" in method.rpartition("/")[2] and "id" in found.message.DESCRIPTOR.fields_by_name:
        opaque.append("id")
    access = _access(method.rpartition("/")[2])
    if not named:
        where = f"  # review: {', '.join(opaque)} is an id" if opaque else ""
        return f"{{access: {access}, scope: cluster}}  # review{where[10:] if where else ''}"
    parts = [f"access: {access}", f"namespaces: [{', '.join(named)}]"]
    if opaque:
        parts.append(f"opaque: [{', '.join(opaque)}]")
    return f"{{{', '.join(parts)}}}  # review"


def _access(name: str) -> str:
    if _begins(name, _READ):
        return "read"
    return "admin" if _begins(name, _ADMIN) else "write"


def _begins(name: str, verbs: Iterable[str]) -> bool:
    return any(re.match(rf"{verb}(?![a-z])", name) for verb in verbs)


def _paths(descriptor: Any) -> tuple[list[str], list[str]]:
    """Where a message seems to name namespaces, and where by an id: the shortest paths first."""
    named: list[str] = []
    opaque: list[str] = []
    level: list[tuple[str, Any, frozenset[str]]] = [("", descriptor, frozenset())]
    for _ in range(_DEPTH):
        below: list[tuple[str, Any, frozenset[str]]] = []
        for prefix, message, above in level:
            for field in message.fields:
                path = prefix + field.name
                kind = field.message_type
                if kind is not None and kind.GetOptions().map_entry:
                    kind, path = kind.fields_by_name["value"].message_type, f"{path}.value"
                if kind is not None:
                    if kind.full_name not in above and not kind.full_name.startswith("google.protobuf."):
                        below.append((f"{path}.", kind, above | {message.full_name}))
                elif field.type == field.TYPE_STRING and _NAMES.fullmatch(field.name):
                    named.append(path)
                elif field.type == field.TYPE_STRING and _IDS.fullmatch(field.name):
                    opaque.append(path)
        level = below[:10_000]
    return named[:_PATHS_LIMIT], opaque[:_PATHS_LIMIT]
