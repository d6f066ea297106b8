"""`authz api`: what an API is made of, as far as its server or its descriptor set tells."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from authz.cli import Exit, Subparsers

_DISCOVER = """
Asks a server for its API (gRPC server reflection), or reads a descriptor set, and prints a catalogue to begin with:
each method with its access guessed by its name, and the places where its request seems to name a namespace.

    authz api discover localhost:7233 --plaintext --descriptors temporal.binpb > catalogue.yaml
    authz api discover --from orders.binpb --service example.orders.v1.Orders

Every line is marked for review: a guess is not a policy. The descriptor set is what `authz serve` reads messages by.
"""


def register(subparsers: Subparsers) -> None:
    """Add the group."""
    group = subparsers.add_parser("api", help="find out what an API is made of", description=__doc__)
    commands = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    discover = commands.add_parser(
        "discover",
        help="print a first catalogue, and write a descriptor set",
        description=_DISCOVER,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    discover.add_argument("address", nargs="?", help="HOST:PORT of a server with reflection")
    discover.add_argument("--from", dest="file", type=Path, help="a descriptor set, instead of a server")
    discover.add_argument("--plaintext", action="store_true", help="the server is called without TLS")
    discover.add_argument(
        "--ca", type=Path, help="PEM of the authority that vouches for the server; default: the system's"
    )
    discover.add_argument("--token", action="store_true", help="send the token in the environment variable AUTHZ_TOKEN")
    discover.add_argument("--service", action="append", default=[], help="this service alone; may be given repeatedly")
    discover.add_argument("--descriptors", type=Path, help="write the descriptor set to this file")
    discover.set_defaults(run=_discover)


def _discover(options: argparse.Namespace) -> Exit:
    from authz.adapters.messages import Messages, load_messages
    from authz.adapters.skeleton import skeleton

    if (options.address is None) is (options.file is None):
        print("give the HOST:PORT of a server, or a descriptor set with --from", file=sys.stderr)
        return Exit.USAGE
    messages = load_messages([options.file]) if options.file else Messages(_reflected(options))
    if options.descriptors:
        from google.protobuf import descriptor_pb2

        options.descriptors.write_bytes(descriptor_pb2.FileDescriptorSet(file=messages.files).SerializeToString())
    print(skeleton(messages, options.service), end="")
    return Exit.OK


def _reflected(options: argparse.Namespace) -> Any:
    import grpc

    from authz.adapters.reflection import OPTIONS, reflect

    if options.plaintext:
        channel = grpc.insecure_channel(options.address, OPTIONS)
    else:
        credentials = grpc.ssl_channel_credentials(options.ca.read_bytes() if options.ca else None)
        channel = grpc.secure_channel(options.address, credentials, OPTIONS)
    metadata = (("authorization", f"Bearer {os.environ.get('AUTHZ_TOKEN', '')}"),) if options.token else ()
    with channel:
        return list(reflect(channel, options.address, metadata=metadata))
