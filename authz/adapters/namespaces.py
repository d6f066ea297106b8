"""Namespaces: every namespace that a protobuf request names, found by the field paths of the API catalogue.

A path is protobuf field names joined by dots. It goes through messages, oneofs, and every element of repeated fields;
through a map it goes as protobuf itself stores one, ``moves.key`` or ``moves.value.namespace``. What cannot be followed
to text makes the request unreadable, which is denied: a path is never skipped.

An empty field names nothing. The *first* path of a method is where the request names its own namespace: where that is
empty the call is for "no namespace" also, so that a namespace named elsewhere in the request does not stand in for it.
Only an unset member of a oneof is passed over there. The other paths add the namespaces that they find. An opaque path
that is filled adds "no namespace".

Nothing here imports protobuf: where it is not loaded, no request can be one of its messages.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Any, Final, TypeAlias

from authz.call import ApiMethod

NAMED_LIMIT: Final = 1_000
"""A request that names more namespaces than this is unreadable."""
ELEMENT_LIMIT: Final = 65_536
"""A request with more elements than this in the repeated fields and maps on its paths is unreadable."""

Namespaces: TypeAlias = tuple[tuple[str | None, ...], str | None]
"""What :func:`read_namespaces` returns: ``Call.namespaces`` and ``Call.unreadable``."""

_READERS_LIMIT: Final = 4_096
_NONE_NAMED: Final[Namespaces] = ((None,), None)
_ANY: Final = "google.protobuf.Any"


def read_namespaces(method: ApiMethod, message: object) -> Namespaces:
    """Every namespace that a request names, as :class:`authz.call.Call` wants them.

    Args:
        method: the entry of the API catalogue, of scope namespace; its paths are worked out once for each message type.
        message: the request, or one message of a request stream.

    Returns:
        the namespaces, each once, in the order of the paths and of the message, with None for "no namespace" (so the
        tuple is never empty), and None; or an empty tuple and why the request cannot be read. The names are as the
        request has them, and may not be possible names of a namespace.
    """
    kind = type(message)
    reader = _readers.get((kind, method.namespaces, method.opaque))
    if reader is None:
        reader = _remember(kind, method)
    try:
        return reader(message)
    except _Unreadable as exc:
        return (), str(exc)
    except Exception as exc:
        return (), f"the request cannot be read: {type(exc).__name__}"


_Reader: TypeAlias = Callable[[Any], Namespaces]
_readers: dict[tuple[type, tuple[str, ...], tuple[str, ...]], _Reader] = {}


class _Unreadable(Exception):  # noqa: N818 - it is an answer, and never leaves this file
    """Why a request cannot be read."""


def _remember(kind: type, method: ApiMethod) -> _Reader:
    try:
        reader = _compile(kind, method)
    except _Unreadable as exc:
        reader = _refuser(str(exc))
    if len(_readers) >= _READERS_LIMIT:
        _readers.clear()
    _readers[kind, method.namespaces, method.opaque] = reader
    return reader


def _refuser(why: str) -> _Reader:
    return lambda _: ((), why)


def _compile(kind: type, method: ApiMethod) -> _Reader:
    descriptor = _descriptor(kind)
    if not method.namespaces:
        return lambda _: _NONE_NAMED
    if len(method.namespaces) == 1 and not method.opaque and "." not in method.namespaces[0]:
        field = _field(descriptor, method.namespaces[0], method.namespaces[0])
        if field.message_type is None and not _repeated(field) and not _in_oneof(field):
            _check_text(field, method.namespaces[0])
            return _simple(field.name)
    root = _Node()
    for index, path in enumerate(method.namespaces):
        root.add(descriptor, path, _text_leaf(own=index == 0), own=index == 0)
    for path in method.opaque:
        root.add(descriptor, path, _opaque_leaf, own=False)
    return _walker(root)


def _simple(name: str) -> _Reader:
    """The reader for one plain field of the request, which nearly every method has: this is the hot path."""
    get = attrgetter(name)

    def read(message: Any) -> Namespaces:
        value = get(message)
        if value:
            return (value,), None
        return _NONE_NAMED

    return read


def _walker(root: _Node) -> _Reader:
    def read(message: Any) -> Namespaces:
        found = _Found()
        root.visit(message, found)
        return tuple(found.named) or (None,), None

    return read


class _Found:
    """What one reading has found, and how many elements it may still look at."""

    __slots__ = ("left", "named")

    def __init__(self) -> None:
        self.named: dict[str | None, None] = {}
        self.left = ELEMENT_LIMIT

    def add(self, name: str | None) -> None:
        self.named[name] = None
        if len(self.named) > NAMED_LIMIT:
            raise _Unreadable(f"the request names more than {NAMED_LIMIT} namespaces")

    def spend(self, elements: int) -> None:
        self.left -= elements
        if self.left < 0:
            raise _Unreadable(f"the request has more than {ELEMENT_LIMIT} elements where it may name namespaces")


_Visit: TypeAlias = Callable[[Any, _Found], None]
_Leaf: TypeAlias = Callable[[Any, str], _Visit]


class _Node:
    """One message type on the way: what to visit in it. Paths that begin alike share nodes, so it is seen once."""

    def __init__(self) -> None:
        self._nodes: dict[str, _Node] = {}
        self._visits: list[_Visit] = []

    def visit(self, message: Any, found: _Found) -> None:
        for visit in self._visits:
            visit(message, found)

    def add(self, descriptor: Any, path: str, leaf: _Leaf, *, own: bool, whole: str = "") -> None:
        """Add what is to be visited for ``path``, which begins at ``descriptor`` and is the end of ``whole``."""
        name, _, rest = path.partition(".")
        field = _field(descriptor, name, whole or path)
        if not rest:
            self._visits.append(leaf(field, whole or path))
            return
        if field.message_type is None:
            raise _Unreadable(f"`{field.full_name}` on the path `{whole or path}` is not a message")
        if field.message_type.full_name == _ANY:
            raise _Unreadable(f"`{field.full_name}` on the path `{whole or path}` is a {_ANY}")
        is_map = _is_map(field)
        node = self._nodes.get(name)
        if node is None:
            node = self._nodes[name] = _Node()
            if is_map:
                self._visits.append(_through_map(name, node))
            elif _repeated(field):
                self._visits.append(_through_repeated(name, node))
            else:
                self._visits.append(_through_message(name, node, needed=own and not _in_oneof(field)))
        node.add(field.message_type, rest, _entry_leaf(leaf) if is_map else leaf, own=own, whole=whole or path)
