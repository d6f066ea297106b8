"""Reflection: ask a running server for the files of its API, over the gRPC server reflection protocol."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import grpc
from google.protobuf import descriptor_pb2
from google.protobuf.message import DecodeError
from grpc_reflection.v1alpha import reflection_pb2 as pb

from authz.errors import ConfigError

# the two versions of the protocol differ in their names alone
_PROTOCOLS: Final = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")
_FILES_LIMIT: Final = 10_000
_MESSAGE_LIMIT: Final = 64 * 1024 * 1024
OPTIONS: Final = (("grpc.max_receive_message_length", _MESSAGE_LIMIT), ("grpc.enable_http_proxy", 0))


def reflect(
    channel: Any, where: str, *, metadata: tuple[tuple[str, str], ...] = (), timeout: float = 30.0
) -> list[descriptor_pb2.FileDescriptorProto]:
    """The files of every service that the server at the other end of ``channel`` tells of, with all that they import.

    Args:
        channel: a ``grpc.Channel``.
        where: the server's address, for messages.
        metadata: to send along.
        timeout: seconds for the whole of it.

    Raises:
        ConfigError: the server cannot be reached, or tells nothing.
    """
    last: grpc.RpcError | None = None
    for protocol in _PROTOCOLS:
        try:
            return _reflect(channel, protocol, where, metadata, timeout)
        except grpc.RpcError as error:
            last = error
            if error.code() is not grpc.StatusCode.UNIMPLEMENTED:
                break
    assert last is not None
    remedy = (
        "give a descriptor set with `--from` instead"
        if last.code() is grpc.StatusCode.UNIMPLEMENTED
        else "see that it runs there, and whether it wants TLS (`--ca`, `--plaintext`) or a token (`--token`)"
    )
    raise ConfigError.at(where, f"does not tell its API: {last.code().name}: {last.details()}", remedy)


def _reflect(
    channel: Any, protocol: str, where: str, metadata: tuple[tuple[str, str], ...], timeout: float
) -> list[descriptor_pb2.FileDescriptorProto]:
    ask = channel.stream_stream(
        f"/{protocol}/ServerReflectionInfo",
        pb.ServerReflectionRequest.SerializeToString,
        pb.ServerReflectionResponse.FromString,
    )

    def answers(*requests: pb.ServerReflectionRequest) -> Iterator[pb.ServerReflectionResponse]:
        yield from ask(iter(requests), metadata=metadata, timeout=timeout)

    services = [
        service.name
        for answer in answers(pb.ServerReflectionRequest(list_services="*"))
        for service in answer.list_services_response.service
    ]
    files: dict[str, descriptor_pb2.FileDescriptorProto] = {}

    def keep(requests: list[pb.ServerReflectionRequest]) -> None:
        for answer in answers(*requests):
            if answer.HasField("error_response"):
                said = answer.error_response.error_message
                raise ConfigError.at(where, f"does not tell all of its API: {said}", "give a descriptor set instead")
            for data in answer.file_descriptor_response.file_descriptor_proto:
                try:
                    file = descriptor_pb2.FileDescriptorProto.FromString(data)
                except DecodeError:
                    raise ConfigError.at(where, "tells of a file that is no descriptor") from None
                files.setdefault(file.name, file)
        if len(files) > _FILES_LIMIT:
            raise ConfigError.at(where, f"tells of more than {_FILES_LIMIT} files")

    named = [name for name in services if not name.startswith("grpc.reflection.")]
    keep([pb.ServerReflectionRequest(file_containing_symbol=name) for name in named])
    while True:
        missing = {name for file in files.values() for name in file.dependency} - set(files)
        if not missing:
            return list(files.values())
        before = len(files)
        keep([pb.ServerReflectionRequest(file_by_filename=name) for name in sorted(missing)])
        if len(files) == before:
            raise ConfigError.at(where, f"does not tell of `{sorted(missing)[0]}`", "give a descriptor set instead")
