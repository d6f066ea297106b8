"""`authz api discover`: a first catalogue from a running server or a descriptor set, and what it cannot be made of."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import grpc
import pytest
from google.protobuf import descriptor_pb2
from grpc_reflection.v1alpha import reflection

from authz.adapters.messages import Messages, load_messages
from authz.adapters.skeleton import skeleton
from authz.call import Access, Scope
from authz.cli import Exit, main
from authz.policy.catalogue import parse_catalogue
from examples.orders import orders_pb2 as pb
from tests.adapters.behind import write_descriptors

ORDERS = "example.orders.v1.Orders"


@pytest.fixture(scope="module")
def reflecting() -> Iterator[str]:
    server = grpc.server(futures.ThreadPoolExecutor(2))
    reflection.enable_server_reflection([ORDERS, reflection.SERVICE_NAME], server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


def test_a_running_server_is_asked(reflecting: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "orders.binpb"
    assert main(["api", "discover", reflecting, "--plaintext", "--descriptors", str(file)]) == Exit.OK
    printed = capsys.readouterr().out
    catalogue = parse_catalogue(printed.encode(), Path("catalogue.yaml"))
    found = {method.rpartition("/")[2]: entry.access for method, entry in catalogue.methods.items()}
    assert found == {
        "GetOrder": Access.READ,
        "ListOrders": Access.READ,
        "ListNamespaces": Access.READ,
        "CreateOrder": Access.WRITE,
        "CancelOrder": Access.WRITE,
        "TrackOrders": Access.WRITE,
        "ImportOrders": Access.ADMIN,
        "PurgeNamespace": Access.ADMIN,
    }
    assert catalogue.methods[f"/{ORDERS}/ListNamespaces"].scope is Scope.CLUSTER
    assert all("# review" in line for line in printed.splitlines() if line.startswith("      "))
    # what it has written is what a server can be told of without asking again
    assert main(["api", "discover", "--from", str(file), "--service", ORDERS]) == Exit.OK
    assert capsys.readouterr().out == printed
    assert load_messages([file]).find(f"/{ORDERS}/GetOrder") is not None


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["api", "discover"], Exit.USAGE, "--from"),
        (["api", "discover", "127.0.0.1:1", "--from", "x"], Exit.USAGE, "--from"),
        (["api", "discover", "127.0.0.1:1", "--plaintext"], Exit.INVALID, "see that it runs there"),
        (["api", "discover", "--from", "none.binpb"], Exit.INVALID, "none.binpb: cannot be read"),
    ],
)
def test_what_cannot_be_discovered(words: list[str], code: Exit, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == code
    assert said in capsys.readouterr().err


def test_a_server_without_reflection(capsys: pytest.CaptureFixture[str]) -> None:
    server = grpc.server(futures.ThreadPoolExecutor(2))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    assert main(["api", "discover", f"127.0.0.1:{port}", "--plaintext"]) == Exit.INVALID
    server.stop(None).wait()
    assert "give a descriptor set with `--from` instead" in capsys.readouterr().err


def file(name: str, *imports: str) -> descriptor_pb2.FileDescriptorProto:
    return descriptor_pb2.FileDescriptorProto(name=name, dependency=imports, syntax="proto3")


def described(*fields: tuple[str, int, str], message: str = "Request") -> descriptor_pb2.FileDescriptorProto:
    """A file with one method, whose request has these fields: name, label, and the type (empty: text)."""
    made = file("one.proto")
    made.package = "one"
    request = made.message_type.add(name=message)
    for number, (name, label, kind) in enumerate(fields, 1):
        added = request.field.add(name=name, number=number, label=label)
        added.type = added.TYPE_MESSAGE if kind else added.TYPE_STRING
        if kind:
            added.type_name = kind
    inner = made.message_type.add(name="Inner")
    inner.field.add(name="target_namespace", number=1, label=1, type=9)
    inner.field.add(name="again", number=2, label=1, type=11, type_name=".one.Inner")
    made.service.add(name="S").method.add(name="Do", input_type=f".one.{message}", output_type=".one.Inner")
    return made


def test_namespaces_are_found_in_nested_and_repeated_messages_and_recursion_ends() -> None:
    messages = Messages([described(("tenant_id", 1, ""), ("moves", 3, ".one.Inner"), ("namespace", 1, ""))])
    entry = parse_catalogue(skeleton(messages).encode(), Path("catalogue.yaml")).methods["/one.S/Do"]
    assert entry.namespaces == ("namespace", "moves.target_namespace", "moves.again.target_namespace")
    assert entry.opaque == ("tenant_id",)
    assert entry.access is Access.WRITE


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ([file("a.proto", "b.proto")], "`b.proto` is imported and is not in the descriptor set"),
        ([file("a.proto", "b.proto"), file("b.proto", "a.proto")], "imports itself"),
        ([file("a.proto"), described(), file("one.proto")], "two different files `one.proto`"),
    ],
)
def test_descriptors_that_do_not_fit(files: list[descriptor_pb2.FileDescriptorProto], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Messages(files)


@pytest.mark.parametrize("content", [b"", b"\x0a\xff", b"hello"])
def test_a_file_that_is_no_descriptor_set(tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.binpb"
    path.write_bytes(content)
    assert main(["api", "discover", "--from", str(path)]) == Exit.INVALID
    assert "buf build" in capsys.readouterr().err


def test_the_messages_of_a_target_do_not_meet_those_of_this_process(tmp_path: Path) -> None:
    kind = load_messages([write_descriptors(tmp_path / "x.binpb")]).find(f"/{ORDERS}/GetOrder")
    assert kind is not None
    assert kind.message is not pb.GetOrderRequest
    assert kind.message.DESCRIPTOR.full_name == pb.GetOrderRequest.DESCRIPTOR.full_name
