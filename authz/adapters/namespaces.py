"""Namespaces: every namespace that a protobuf request names, found by the field paths of the API catalogue.

A path is protobuf field names joined by dots. It goes through messages, oneofs, and every element of repeated fields;
through a map it goes as protobuf itself stores one, ``moves.key`` or ``moves.value.namespace``. What cannot be followed
to text makes the request unreadable, which is denied: a path is never skipped. A path may end with the pattern of a
resource name, ``name=projects/{namespace}/orders/*``: other text makes the request unreadable, too.

An empty field names nothing. The *first* path of a method is where the request names its own namespace: where that is
empty the call is for "no namespace" also, so that a namespace named elsewhere in the request does not stand in for it;
so it is where a repeated field or a map on that path has no element, which may well mean "all" to the server. Only an
unset member of a oneof is passed over there. The other paths add the namespaces that they find. An opaque path
that is filled adds "no namespace".

Nothing here imports protobuf: where it is not loaded, no request can be one of its messages.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Any, Final, TypeAlias

from authz.call import ApiMethod
from authz.resource_name import ResourceName

NAMED_LIMIT: Final = 1_000
"""A request that names more namespaces than this is unreadable."""
ELEMENT_LIMIT: Final = 65_536
"""A request with more elements than this in the repeated fields and maps on its paths is unreadable."""

Namespaces: TypeAlias = tuple[tuple[str | None, ...], str | None]
"""What :func:`read_namespaces` returns: ``Call.namespaces`` and ``Call.unreadable``."""

_READERS_LIMIT: Final = 4_096
_NONE_NAMED: Final[Namespaces] = ((None,), None)
_ANY: Final = "google.protobuf.Any"


@dataclass(frozen=True, slots=True)
class Unreadable:
    """What stands in for a request that is no message of its type. ``why`` is for operators; the call is denied."""

    why: str


class Encoded:
    """What stands in for a request that has yet to be parsed: that is done only where a method asks for its namespaces.

    Args:
        parse: makes a message, or Unreadable, of ``data``.
        data: the bytes of the request.
    """

    __slots__ = ("_data", "_parse")

    def __init__(self, parse: Callable[[bytes], object], data: bytes) -> None:
        self._parse = parse
        self._data = data

    def parsed(self) -> object:
        """The message, or Unreadable."""
        return self._parse(self._data)


def read_namespaces(method: ApiMethod, message: object) -> Namespaces:
    """Every namespace that a request names, as :class:`authz.call.Call` wants them.

    Args:
        method: the entry of the API catalogue, of scope namespace; its paths are worked out once for each message type.
        message: the request, or one message of a request stream.

    Returns:
        the namespaces, each once, in the order of the paths and of the message (a map has none), with None for "no
        namespace" (so the tuple is never empty), and None; or an empty tuple and why the request cannot be read. The
        names are as the request has them, and may not be possible names of a namespace.
    """
    kind = type(message)
    last = _last.get(kind)
    reader = last[1] if last is not None and last[0] is method else _find(kind, method)
    try:
        return reader(message)
    except _Unreadable as exc:
        return (), str(exc)
    except Exception as exc:
        return (), f"the request cannot be read: {type(exc).__name__}"


_Reader: TypeAlias = Callable[[Any], Namespaces]
_readers: dict[tuple[type, tuple[str, ...], tuple[str, ...]], _Reader] = {}
_last: dict[type, tuple[ApiMethod, _Reader]] = {}  # for each type, the last one: comparing is cheaper than hashing


class _Unreadable(Exception):  # noqa: N818 - it is an answer, and never leaves this file
    """Why a request cannot be read."""


def _find(kind: type, method: ApiMethod) -> _Reader:
    if len(_readers) >= _READERS_LIMIT or len(_last) >= _READERS_LIMIT:
        _readers.clear()
        _last.clear()
    key = (kind, method.namespaces, method.opaque)
    reader = _of_encoded(method) if kind is Encoded else _readers.get(key)
    if reader is None:
        try:
            reader = _compile(kind, method)
        except _Unreadable as exc:
            reader = _refuser(str(exc))
        _readers[key] = reader
    _last[kind] = (method, reader)
    return reader


def _of_encoded(method: ApiMethod) -> _Reader:
    return lambda message: read_namespaces(method, message.parsed())


def _refuser(why: str) -> _Reader:
    return lambda _: ((), why)


def _compile(kind: type, method: ApiMethod) -> _Reader:
    if kind is Unreadable:
        return lambda message: ((), message.why)
    if not method.namespaces and not method.opaque:
        return lambda _: _NONE_NAMED
    descriptor = _descriptor(kind)
    root = _Node()
    for index, entry in enumerate(method.namespaces):
        path, _, pattern = entry.partition("=")
        steps = _steps(descriptor, path)
        if steps[-1].field.type != steps[-1].field.TYPE_STRING:
            raise _Unreadable(f"`{path}` leads to `{steps[-1].field.full_name}`, which is not text")
        if len(method.namespaces) == 1 and not method.opaque and not pattern and len(steps) == 1 and steps[0].plain:
            return _simple(path)
        root.add(steps, partial(_text, own=index == 0, name_in=_name_in(pattern)), own=index == 0)
    for path in method.opaque:
        root.add(_steps(descriptor, path), _opaque, own=False)
    return _walker(root, (None,) if method.namespaces else ())


def _name_in(pattern: str) -> Callable[[str], str]:
    """What finds the namespace in the text of a field: the text itself, or a part of a resource name."""
    if not pattern:
        return str
    resource = ResourceName(pattern)

    def name_in(text: str) -> str:
        namespace = resource.namespace(text)
        if namespace is None:
            raise _Unreadable(f"a resource name is not of the form `{pattern}`")
        return namespace

    return name_in


def _simple(name: str) -> _Reader:
    """The reader for one plain field of the request, which nearly every method has: this is the hot path."""
    get = attrgetter(name)

    def read(message: Any) -> Namespaces:
        value = get(message)
        if value:
            return (value,), None
        return _NONE_NAMED

    return read


def _walker(root: _Node, nothing: tuple[None, ...]) -> _Reader:
    """``nothing``: what to answer where nothing is named; empty if the method's namespace is not in its requests."""

    def read(message: Any) -> Namespaces:
        found = _Found()
        root.visit(message, found)
        return tuple(found.named) or nothing, None

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


_All: TypeAlias = Callable[[Any], Collection[Any]]
_Visit: TypeAlias = Callable[[Any, _Found], None]


@dataclass(frozen=True, slots=True)
class _Step:
    """One step of a path.

    Attributes:
        name: the field's name, or ``field.key`` or ``field.value`` for a map.
        field: descriptor of what the step leads to; for a map, of its keys or values.
        all: for a repeated field or a map, all that the step leads to in a message.
        choice: the field is one of several in a oneof.
    """

    name: str
    field: Any
    all: _All | None
    choice: bool

    @property
    def plain(self) -> bool:
        return self.all is None and not self.choice


def _steps(descriptor: Any, path: str) -> list[_Step]:
    steps: list[_Step] = []
    names = path.split(".")
    while names:
        name = names.pop(0)
        field = descriptor.fields_by_name.get(name)
        if field is None:
            raise _Unreadable(f"`{descriptor.full_name}` has no field `{name}`, which the path `{path}` goes through")
        get = attrgetter(name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            part = names.pop(0) if names else ""
            if part not in ("key", "value"):
                raise _Unreadable(f"`{field.full_name}` is a map: the path `{path}` must go on with `key` or `value`")
            steps.append(_Step(f"{name}.{part}", field.message_type.fields_by_name[part], _entries(get, part), False))
            field = field.message_type.fields_by_name[part]
        else:
            oneof = field.containing_oneof
            steps.append(_Step(name, field, get if _repeated(field) else None, oneof and len(oneof.fields) > 1))
        descriptor = field.message_type
        if names and (descriptor is None or descriptor.full_name == _ANY):
            raise _Unreadable(
                f"`{field.full_name}`, which the path `{path}` goes through, is not a message to look into"
            )
    return steps


def _entries(get: Callable[[Any], Any], part: str) -> _All:
    if part == "key":
        return lambda message: get(message).keys()
    return lambda message: get(message).values()


def _repeated(field: Any) -> bool:
    known = getattr(field, "is_repeated", None)
    return bool(field.label == field.LABEL_REPEATED if known is None else known)  # protobuf before 6 has no is_repeated


def _descriptor(kind: type) -> Any:
    protobuf = sys.modules.get("google.protobuf.message")
    if protobuf is None or not issubclass(kind, protobuf.Message):
        raise _Unreadable(f"the request is a {kind.__name__}, not a protobuf message")
    return vars(kind)["DESCRIPTOR"]


class _Node:
    """What to visit in one message on the way. Paths that begin alike share nodes, so that each is seen once."""

    __slots__ = ("_nodes", "_visits")

    def __init__(self) -> None:
        self._nodes: dict[str, _Node] = {}
        self._visits: list[_Visit] = []

    def visit(self, message: Any, found: _Found) -> None:
        for visit in self._visits:
            visit(message, found)

    def add(self, steps: Sequence[_Step], leaf: Callable[[_Step], _Visit], *, own: bool) -> None:
        """Add a path. ``own``: what is missing on it counts as "no namespace"; such a path is added first."""
        step, rest = steps[0], steps[1:]
        if not rest:
            self._visits.append(leaf(step))
            return
        node = self._nodes.get(step.name)
        if node is None:
            node = self._nodes[step.name] = _Node()
            self._visits.append(_each(step.all, node, own) if step.all else _only(step, node, own))
        node.add(rest, leaf, own=own)


def _each(every: _All, node: _Node, own: bool) -> _Visit:
    def visit(message: Any, found: _Found) -> None:
        elements = every(message)
        found.spend(len(elements))
        if own and not elements:
            found.add(None)
        for element in elements:
            node.visit(element, found)

    return visit


def _only(step: _Step, node: _Node, own: bool) -> _Visit:
    name, get = step.name, attrgetter(step.name)
    needed = own and not step.choice

    def visit(message: Any, found: _Found) -> None:
        if message.HasField(name):
            node.visit(get(message), found)
        elif needed:
            found.add(None)

    return visit


def _text(step: _Step, own: bool, name_in: Callable[[str], str]) -> _Visit:
    """A leaf that names namespaces. ``own``: it is the request's own, so that empty is "no namespace"."""
    every = step.all
    if every is None:
        return _one_text(step, own, name_in)

    def visit(message: Any, found: _Found) -> None:
        values = every(message)
        found.spend(len(values))
        if own and not values:
            found.add(None)
        for value in values:
            if value or own:
                found.add(name_in(value) if value else None)

    return visit


def _one_text(step: _Step, own: bool, name_in: Callable[[str], str]) -> _Visit:
    name, get = step.name, attrgetter(step.name)

    def visit(message: Any, found: _Found) -> None:
        value = get(message)
        if value or (own and not (step.choice and not message.HasField(name))):
            found.add(name_in(value) if value else None)

    return visit


def _opaque(step: _Step) -> _Visit:
    """A leaf that names a namespace in a way that cannot be read."""
    name, get = step.name, step.all or attrgetter(step.name)
    present = step.field.has_presence and step.all is None

    def visit(message: Any, found: _Found) -> None:
        if message.HasField(name) if present else get(message):
            found.add(None)

    return visit
