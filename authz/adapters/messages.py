"""Messages: the request messages of an API, built from descriptor sets, so that no generated code of it is needed.

A descriptor set is what ``protoc --include_imports --descriptor_set_out``, ``buf build`` or ``authz api discover``
write.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from authz.adapters.namespaces import Unreadable
from authz.errors import ConfigError

_BYTES_LIMIT: Final = 64 * 1024 * 1024
_REMEDY: Final = "make it with `authz api discover`, `buf build -o` or `protoc --include_imports --descriptor_set_out`"


@dataclass(frozen=True, slots=True)
class RequestType:
    """The request of one method.

    Attributes:
        message: the class of its message, of a descriptor pool of its own.
        client_streaming, server_streaming: whether requests, or replies, are a stream.
    """

    message: Any
    client_streaming: bool
    server_streaming: bool

    def read(self, data: bytes) -> object:
        """The message in ``data``, as protobuf reads it (of a field that is there twice, the last), or Unreadable."""
        try:
            return self.message.FromString(data)
        except (DecodeError, ValueError, RecursionError):
            return Unreadable(f"the request is not a `{self.message.DESCRIPTOR.full_name}`")


class Messages:
    """The methods of an API by gRPC full method.

    Args:
        files: the files of the API, each of them with its imports among them.

    Raises:
        ValueError: a file's import is missing, or two files contradict each other.
    """

    def __init__(self, files: Iterable[descriptor_pb2.FileDescriptorProto] = ()) -> None:
        # a pool of its own: what a file of the target's API says never meets the messages of this process
        pool = descriptor_pool.DescriptorPool()
        by_name: dict[str, descriptor_pb2.FileDescriptorProto] = {}
        for file in files:
            if by_name.setdefault(file.name, file) != file:
                raise ValueError(f"there are two different files `{file.name}`")
        self._methods: dict[str, RequestType] = {}
        self.files = tuple(by_name.values())
        added: set[str] = set()
        for name in by_name:
            _add(name, by_name, pool, added)
        for file in by_name.values():
            for service in file.service:
                full = f"{file.package}.{service.name}" if file.package else service.name
                for method in pool.FindServiceByName(full).methods:
                    self._methods[f"/{full}/{method.name}"] = RequestType(
                        message_factory.GetMessageClass(method.input_type),
                        method.client_streaming,
                        method.server_streaming,
                    )

    @property
    def methods(self) -> Mapping[str, RequestType]:
        """Every method of every service."""
        return self._methods

    def find(self, method: str) -> RequestType | None:
        """The request of ``method``; None if no descriptor set has it."""
        return self._methods.get(method)


def _add(
    name: str,
    files: Mapping[str, descriptor_pb2.FileDescriptorProto],
    pool: descriptor_pool.DescriptorPool,
    added: set[str],
) -> None:
    """Add a file to the pool after the files that it imports. Without recursion: chains of imports have no bound."""
    waiting = [name]
    opened: set[str] = set()
    while waiting:
        current = waiting[-1]
        file = files.get(current)
        if file is None:
            raise ValueError(f"`{current}` is imported and is not in the descriptor set")
        missing = [other for other in file.dependency if other not in added]
        if current in added or not missing:
            waiting.pop()
            if current not in added:
                _add_one(file, pool)
                added.add(current)
            continue
        if current in opened and any(other in opened for other in missing):
            raise ValueError(f"`{current}` imports itself, by way of others")
        opened.add(current)
        waiting += missing


def _add_one(file: descriptor_pb2.FileDescriptorProto, pool: descriptor_pool.DescriptorPool) -> None:
    try:
        pool.Add(file)
        pool.FindFileByName(file.name)
    except (TypeError, KeyError) as exc:
        raise ValueError(f"`{file.name}` cannot be used: {exc}") from None


def load_messages(paths: Iterable[Path]) -> Messages:
    """Read the descriptor sets in the files ``paths``, each of at most 64 MiB; equal files in two sets count once.

    Raises:
        ConfigError: a file cannot be read, or is no descriptor set with all of its imports.
    """
    files: list[descriptor_pb2.FileDescriptorProto] = []
    last: Path | str = "descriptors"
    for path in paths:
        last = path
        try:
            with path.open("rb") as file:
                data = file.read(_BYTES_LIMIT + 1)
        except OSError as exc:
            raise ConfigError.at(path, f"cannot be read: {exc.strerror}", _REMEDY) from None
        try:
            found = descriptor_pb2.FileDescriptorSet.FromString(data)
        except DecodeError:
            raise ConfigError.at(path, "is not a descriptor set", _REMEDY) from None
        if not found.file or len(data) > _BYTES_LIMIT:
            raise ConfigError.at(path, "is not a descriptor set of at most 64 MiB", _REMEDY)
        files += found.file
    try:
        return Messages(files)
    except ValueError as exc:
        raise ConfigError.at(last, str(exc), _REMEDY) from None
