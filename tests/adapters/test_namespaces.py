"""Reading namespaces: everything that a request names is found, and nothing that cannot be read is skipped."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, json_format, message_factory, text_format
from hypothesis import given
from hypothesis import strategies as st

from authz.adapters import namespaces as room
from authz.adapters.namespaces import ELEMENT_LIMIT, NAMED_LIMIT, Encoded, Unreadable, read_namespaces
from authz.call import Access, ApiMethod, Scope

SCHEMA = """
name: "ns.proto" package: "ns" syntax: "proto3" dependency: "google/protobuf/any.proto"
message_type {
  name: "Move"
  field { name: "target_namespace" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL }
  field { name: "order" number: 2 type: TYPE_MESSAGE type_name: ".ns.Order" label: LABEL_OPTIONAL }
  field { name: "others" number: 3 type: TYPE_STRING label: LABEL_REPEATED }
}
message_type {
  name: "Order"
  field { name: "namespace" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL }
  field { name: "parts" number: 2 type: TYPE_MESSAGE type_name: ".ns.Order" label: LABEL_REPEATED }
}
message_type {
  name: "Odd"
  field { name: "HasField" number: 1 type: TYPE_MESSAGE type_name: ".ns.Order" label: LABEL_OPTIONAL }
}
message_type {
  name: "Request"
  oneof_decl { name: "target" }
  oneof_decl { name: "_maybe" }
  field { name: "namespace" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL }
  field { name: "order" number: 2 type: TYPE_MESSAGE type_name: ".ns.Order" label: LABEL_OPTIONAL }
  field { name: "moves" number: 3 type: TYPE_MESSAGE type_name: ".ns.Move" label: LABEL_REPEATED }
  field { name: "routes" number: 4 type: TYPE_MESSAGE type_name: ".ns.Request.RoutesEntry" label: LABEL_REPEATED }
  field { name: "labels" number: 5 type: TYPE_MESSAGE type_name: ".ns.Request.LabelsEntry" label: LABEL_REPEATED }
  field { name: "to_namespace" number: 6 type: TYPE_STRING oneof_index: 0 label: LABEL_OPTIONAL }
  field { name: "to_order" number: 7 type: TYPE_MESSAGE type_name: ".ns.Order" oneof_index: 0 label: LABEL_OPTIONAL }
  field { name: "maybe" number: 8 type: TYPE_STRING oneof_index: 1 proto3_optional: true label: LABEL_OPTIONAL }
  field { name: "token" number: 9 type: TYPE_BYTES label: LABEL_OPTIONAL }
  field { name: "id" number: 10 type: TYPE_STRING label: LABEL_OPTIONAL }
  field { name: "ids" number: 11 type: TYPE_INT64 label: LABEL_REPEATED }
  field { name: "detail" number: 12 type: TYPE_MESSAGE type_name: ".google.protobuf.Any" label: LABEL_OPTIONAL }
  field { name: "counts" number: 13 type: TYPE_MESSAGE type_name: ".ns.Request.CountsEntry" label: LABEL_REPEATED }
  nested_type {
    name: "RoutesEntry" options { map_entry: true }
    field { name: "key" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL }
    field { name: "value" number: 2 type: TYPE_MESSAGE type_name: ".ns.Move" label: LABEL_OPTIONAL }
  }
  nested_type {
    name: "LabelsEntry" options { map_entry: true }
    field { name: "key" number: 1 type: TYPE_INT32 label: LABEL_OPTIONAL }
    field { name: "value" number: 2 type: TYPE_STRING label: LABEL_OPTIONAL }
  }
  nested_type {
    name: "CountsEntry" options { map_entry: true }
    field { name: "key" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL }
    field { name: "value" number: 2 type: TYPE_INT32 label: LABEL_OPTIONAL }
  }
}
"""


def _classes() -> tuple[Any, ...]:
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(any_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(text_format.Parse(SCHEMA, descriptor_pb2.FileDescriptorProto()).SerializeToString())
    names = ("ns.Request", "ns.Order", "ns.Move", "ns.Odd")
    return tuple(message_factory.GetMessageClass(pool.FindMessageTypeByName(name)) for name in names)


Request, Order, Move, Odd = _classes()


def method(*paths: str, opaque: tuple[str, ...] = ()) -> ApiMethod:
    return ApiMethod("/ns.Service/Method", Access.READ, Scope.NAMESPACE, paths, opaque)


def read(message: object, *paths: str, opaque: tuple[str, ...] = ()) -> tuple[str | None, ...]:
    found, unreadable = read_namespaces(method(*paths, opaque=opaque), message)
    assert unreadable is None
    assert found
    return found


def unreadable(message: object, *paths: str, opaque: tuple[str, ...] = ()) -> str:
    found, why = read_namespaces(method(*paths, opaque=opaque), message)
    assert found == ()
    assert why is not None
    return why


A, B, C = "a", "b", "c"
FOUND = {
    "the one plain field": (Request(namespace=A), ("namespace",), (A,)),
    "empty": (Request(), ("namespace",), (None,)),
    "as it is": (Request(namespace="../b*\n"), ("namespace",), ("../b*\n",)),
    "nested": (Request(order=Order(namespace=A)), ("order.namespace",), (A,)),
    "nested, not set": (Request(), ("order.namespace",), (None,)),
    "nested, set and empty": (Request(order=Order()), ("order.namespace",), (None,)),
    "two": (Request(namespace=A, order=Order(namespace=B)), ("namespace", "order.namespace"), (A, B)),
    "two alike": (Request(namespace=A, order=Order(namespace=A)), ("namespace", "order.namespace"), (A,)),
    "a second that is not set": (Request(namespace=A), ("namespace", "order.namespace"), (A,)),
    "a second that is empty": (Request(namespace=A, order=Order()), ("namespace", "order.namespace"), (A,)),
    "its own is empty": (Request(order=Order(namespace=B)), ("namespace", "order.namespace"), (None, B)),
    "its own is nested and not set": (Request(namespace=B), ("order.namespace", "namespace"), (None, B)),
    "repeated messages": (
        Request(moves=[Move(target_namespace=A), Move(), Move(target_namespace=B), Move(target_namespace=A)]),
        ("id", "moves.target_namespace"),
        (None, A, B),
    ),
    "its own is repeated": (
        Request(moves=[Move(target_namespace=A), Move(), Move(target_namespace=B)]),
        ("moves.target_namespace",),
        (A, None, B),
    ),
    "its own is repeated and there is none": (Request(namespace=A), ("moves.target_namespace", "namespace"), (None, A)),
    "its own is repeated text and there is none": (
        Request(moves=[Move(others=[A]), Move()]),
        ("moves.others", "namespace"),
        (A, None),
    ),
    "its own is on a repeated way and there is none": (
        Request(namespace=A),
        ("moves.others", "namespace"),
        (None, A),
    ),
    "its own is the keys of a map and there is none": (Request(namespace=A), ("routes.key", "namespace"), (None, A)),
    "its own is in the values of a map and there is none": (
        Request(namespace=A),
        ("routes.value.target_namespace", "namespace"),
        (None, A),
    ),
    "its own is in a list of a list and one is empty": (
        Request(order=Order(parts=[Order(parts=[Order(namespace=A)]), Order()])),
        ("order.parts.parts.namespace", "namespace"),
        (A, None),
    ),
    "a second that is repeated and there is none": (Request(namespace=A), ("namespace", "moves.others"), (A,)),
    "a second that shares the way of its own": (
        Request(moves=[Move(target_namespace=A)]),
        ("moves.target_namespace", "moves.others", "moves.order.namespace"),
        (A,),
    ),
    "repeated text": (Request(moves=[Move(others=[A, "", B])]), ("namespace", "moves.others"), (None, A, B)),
    "its own is repeated text": (Request(moves=[Move(others=[A, ""])]), ("moves.others",), (A, None)),
    "repeated in repeated": (
        Request(order=Order(parts=[Order(parts=[Order(namespace=A)]), Order(parts=[Order(), Order(namespace=B)])])),
        ("order.namespace", "order.parts.parts.namespace"),
        (None, A, B),
    ),
    "map keys": (Request(routes={A: Move(), B: Move()}), ("routes.key",), (A, B)),
    "map values": (Request(labels={1: A, 2: B}), ("labels.value",), (A, B)),
    "messages in map values": (
        Request(namespace=C, routes={"x": Move(target_namespace=A), "y": Move(order=Order(namespace=B))}),
        ("namespace", "routes.value.target_namespace", "routes.value.order.namespace"),
        (C, A, B),
    ),
    "a oneof's text": (Request(to_namespace=A), ("to_namespace", "to_order.namespace"), (A,)),
    "a oneof's message": (Request(to_order=Order(namespace=A)), ("to_namespace", "to_order.namespace"), (A,)),
    "a oneof that is not set": (Request(), ("to_namespace", "to_order.namespace"), (None,)),
    "a oneof's empty text": (Request(to_namespace="", namespace=A), ("to_namespace", "namespace"), (None, A)),
    "a oneof's empty message": (Request(to_order=Order(), namespace=A), ("to_order.namespace", "namespace"), (None, A)),
    "an optional field": (Request(maybe=A), ("maybe",), (A,)),
    "an optional field that is not set": (Request(namespace=A), ("maybe", "namespace"), (None, A)),
}


@pytest.mark.parametrize(("message", "paths", "expected"), FOUND.values(), ids=FOUND.keys())
def test_finds(message: object, paths: tuple[str, ...], expected: tuple[str | None, ...]) -> None:
    found = read(message, *paths)
    has_map = any(path.startswith(("routes", "labels")) for path in paths)  # a map has no order
    assert sorted(map(str, found)) == sorted(map(str, expected)) if has_map else found == expected


OPAQUE = {
    "nothing is filled": (Request(namespace=A), (A,)),
    "bytes": (Request(namespace=A, token=b"\0"), (A, None)),
    "text": (Request(namespace=A, id="1"), (A, None)),
    "numbers": (Request(namespace=A, ids=[0]), (A, None)),
    "a message, even an empty one": (Request.FromString(b"\n\x01a\x62\0"), (A, None)),
    "optional text, even empty": (Request(namespace=A, maybe=""), (A, None)),
    "a map": (Request(namespace=A, labels={0: ""}), (A, None)),
    "in a nested message": (Request(namespace=A, moves=[Move(order=Order(namespace=B))]), (A, None)),
    "alone": (Request(id="1"), (None,)),
}


@pytest.mark.parametrize(("message", "expected"), OPAQUE.values(), ids=OPAQUE.keys())
def test_what_is_opaque_is_no_namespace(message: object, expected: tuple[str | None, ...]) -> None:
    opaque = ("token", "id", "ids", "detail", "maybe", "labels.value", "moves.order.namespace")
    assert read(message, "namespace", opaque=opaque) == expected


def test_a_method_without_paths_names_nothing() -> None:
    assert read(Request(namespace=A)) == (None,)


UNREADABLE = {
    "no such field": (("tenant",), "`ns.Request` has no field `tenant`, which the path `tenant` goes through"),
    "no such nested field": (("order.tenant",), "`ns.Order` has no field `tenant`"),
    "bytes": (("token",), "`token` leads to `ns.Request.token`, which is not text"),
    "numbers": (("ids",), "which is not text"),
    "a message": (("order",), "`order` leads to `ns.Request.order`, which is not text"),
    "through text": (
        ("id.namespace",),
        "`ns.Request.id`, which the path `id.namespace` goes through, is not a message",
    ),
    "an Any": (("detail.type_url",), "`ns.Request.detail`, which the path `detail.type_url` goes through"),
    "a map": (("routes",), "is a map: the path `routes` must go on with `key` or `value`"),
    "a map's field": (("routes.target_namespace",), "must go on with `key` or `value`"),
    "keys that are not text": (("labels.key",), "which is not text"),
    "values that are not text": (("counts.value",), "which is not text"),
    "the second path": (("namespace", "order.tenant"), "`ns.Order` has no field `tenant`"),
}


@pytest.mark.parametrize(("paths", "why"), UNREADABLE.values(), ids=UNREADABLE.keys())
def test_a_path_that_leads_nowhere_makes_every_request_unreadable(paths: tuple[str, ...], why: str) -> None:
    for message in (Request(), Request(namespace=A)):
        assert why in unreadable(message, *paths)


def test_an_opaque_path_that_leads_nowhere_is_unreadable() -> None:
    assert "has no field `tenant`" in unreadable(Request(namespace=A), "namespace", opaque=("tenant",))


@pytest.mark.parametrize("message", [b"", b"\n\x01a", "a", None, {"namespace": "a"}, object(), ApiMethod])
def test_what_is_no_protobuf_message_is_unreadable(message: object) -> None:
    assert "not a protobuf message" in unreadable(message, "namespace")


def test_a_lookalike_is_unreadable() -> None:
    class Lookalike:
        DESCRIPTOR = Request.DESCRIPTOR
        namespace = "a"

    assert "not a protobuf message" in unreadable(Lookalike(), "namespace")


def test_what_raises_is_unreadable() -> None:
    message = Odd(HasField=Order(namespace=A))  # the field hides the method that would tell whether it is set
    assert "cannot be read: TypeError" in unreadable(message, "HasField.namespace")


def test_unknown_fields_do_not_matter() -> None:
    assert read(Request.FromString(b"\n\x01a" + b"\xa2\x06\x01x"), "namespace") == (A,)
    assert read(Request.FromString(b"\n\x01a\n\x01b"), "namespace") == (B,)  # the last of a repeated one wins, as ever


def test_too_many_namespaces_are_unreadable() -> None:
    moves = [Move(target_namespace=f"n{i}") for i in range(NAMED_LIMIT)]
    assert len(read(Request(moves=moves), "moves.target_namespace")) == NAMED_LIMIT
    moves.append(Move(target_namespace="one-more"))
    assert "more than 1000 namespaces" in unreadable(Request(moves=moves), "moves.target_namespace")
    assert "more than 1000 namespaces" in unreadable(
        Request(moves=[Move(others=map(str, range(1001)))]), "moves.others"
    )


def test_too_many_elements_are_unreadable() -> None:
    message = Request(namespace=A, moves=[Move()] * ELEMENT_LIMIT)
    assert read(message, "namespace", "moves.target_namespace") == (A,)
    message.moves.add()
    assert "more than 65536 elements" in unreadable(message, "namespace", "moves.target_namespace")


def test_one_message_type_with_different_paths() -> None:
    first, second = method("namespace"), method("id")
    message = Request(namespace=A, id=B)
    for _ in range(2):
        assert read_namespaces(first, message) == ((A,), None)
        assert read_namespaces(second, message) == ((B,), None)


def test_a_request_that_is_still_encoded_is_read_as_one_that_is_not() -> None:
    data = Request(namespace="acme", to_namespace="globex").SerializeToString()
    for _ in range(2):
        assert read(Encoded(Request.FromString, data), "namespace") == ("acme",)
        assert read(Encoded(Request.FromString, data), "namespace", "to_namespace") == ("acme", "globex")
    for parse in (Request.FromString, lambda _: Unreadable("no request")):
        named, why = read_namespaces(method("namespace"), Encoded(parse, b"\x0a\xff"))
        assert not named
        assert why


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_READERS_LIMIT", 8)
    for i in range(50):
        kind = type(f"Kind{i}", (), {})
        assert "not a protobuf message" in unreadable(kind(), "namespace")
        assert read(Request(namespace=A), "namespace") == (A,)
    assert len(room._readers) <= 8
    assert len(room._last) <= 8


def test_nothing_is_imported() -> None:
    code = (
        "import sys; from authz.adapters.namespaces import read_namespaces as read; from authz.call import *;"
        "print(read(ApiMethod('/a.B/C', Access.READ, Scope.NAMESPACE, ('n',)), b''));"
        "sys.exit(any(name.split('.')[0] in ('google', 'grpc', 'casbin') for name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "not a protobuf message" in done.stdout


names = st.sampled_from(["", "a", "b", "c", "d", "e"])
orders: st.SearchStrategy[Any] = st.recursive(
    st.builds(Order, namespace=names),
    lambda parts: st.builds(Order, namespace=names, parts=st.lists(parts, max_size=2)),
    max_leaves=6,
)
moves = st.builds(Move, target_namespace=names, others=st.lists(names, max_size=3), order=st.none() | orders)
requests = st.builds(
    lambda target, **fields: Request(**fields, **target),
    target=st.one_of(
        st.just({}), st.fixed_dictionaries({"to_namespace": names}), st.fixed_dictionaries({"to_order": orders})
    ),
    namespace=names,
    order=st.none() | orders,
    moves=st.lists(moves, max_size=3),
    routes=st.dictionaries(st.sampled_from("xyz"), moves, max_size=3),
    labels=st.dictionaries(st.integers(0, 9), names, max_size=3),
)


def _paths(descriptor: Any, depth: int) -> list[str]:
    """Every path to text named like a namespace, down to ``depth`` messages."""
    paths = []
    for field in descriptor.fields:
        name, kind = field.name, field.message_type
        if kind is not None and kind.GetOptions().map_entry:
            field = kind.fields_by_name["value"]
            name, kind = f"{name}.value", field.message_type
        if kind is not None and kind.full_name == "google.protobuf.Any":
            continue
        if kind is not None:
            paths += [f"{name}.{path}" for path in _paths(kind, depth - 1)] if depth else []
        elif field.type == field.TYPE_STRING and name not in ("id", "maybe"):
            paths.append(name)
    return paths


ALL_PATHS = _paths(Request.DESCRIPTOR, 8)


def _texts(value: Any) -> set[str]:
    """Every text in a message's JSON form: an oracle that knows nothing of descriptors."""
    if isinstance(value, str):
        return {value} - {""}
    if isinstance(value, dict):
        return set().union(*map(_texts, value.values())) if value else set()
    if isinstance(value, list):
        return set().union(*map(_texts, value)) if value else set()
    return set()


@given(requests)
def test_everything_that_is_named_is_found(message: Any) -> None:
    found = read(message, *ALL_PATHS)
    assert set(found) - {None} == _texts(json_format.MessageToDict(message))
    assert (None in found) == (message.namespace == "")
    assert len(found) == len(set(found))


@given(requests, st.permutations(ALL_PATHS), st.integers(1, 8))
def test_more_paths_find_no_less(message: Any, paths: list[str], count: int) -> None:
    some, more = read(message, *paths[:count]), read(message, *paths[: count + 1])
    assert set(some) - {None} <= set(more)
    wire = Request.FromString(message.SerializeToString())
    assert set(read(wire, *paths[:count])) == set(some)


@given(st.binary(max_size=64))
def test_any_message_that_parses_gives_an_answer(data: bytes) -> None:
    try:
        message = Request.FromString(data)
    except Exception:
        return
    found, why = read_namespaces(method(*ALL_PATHS, opaque=("token", "id", "detail")), message)
    assert bool(found) != bool(why)
