"""`authz serve`: answer for servers in any language: a proxy in front of them, or an authorizer for Envoy."""

from __future__ import annotations

import argparse
import asyncio
import logging
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

from authz.cli import Exit, Subparsers

_PROXY = """
Stands in front of a gRPC server in any language. Every call is authenticated, decided by the policy bundle, recorded,
and passed on as the bytes that came. The configuration's section `serve.proxy` says where it listens and what is
behind:

    serve:
      workers: 2
      health: 127.0.0.1:7234
      proxy:
        listen:
        - {address: 0.0.0.0:7233, tls: {certificate_file: server.pem, key_file: server.key}}
        upstream: {address: 127.0.0.1:17233, plaintext: true}
        descriptors: [temporal.binpb]

`authz api discover` writes the descriptor set. Several workers need an audit log in a directory
(`audit: {directory: audit}`). SIGTERM drains; SIGHUP replaces the workers by such as have read everything anew. The
page docs/for-platform-engineers.md has every setting.
"""
_EXT_AUTHZ = """
Answers Envoy's ext_authz filter over gRPC (envoy.service.auth.v3), for gRPC and for plain HTTP APIs behind Envoy. The
configuration's section `serve.ext_authz` says where it listens and where requests name their namespace:

    serve:
      ext_authz:
        listen: [{address: 127.0.0.1:9191, plaintext: true}]
        namespaces_from: body
        descriptors: [orders.binpb]

The page docs/for-platform-engineers.md has the configuration of Envoy that belongs to it.
"""


def register(subparsers: Subparsers) -> None:
    """Add the group."""
    group = subparsers.add_parser("serve", help="answer for servers in any language", description=__doc__)
    commands = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, purpose, text in (
        ("proxy", "an authorizing proxy in front of a gRPC server", _PROXY),
        ("ext-authz", "the external authorizer of an Envoy", _EXT_AUTHZ),
    ):
        command = commands.add_parser(
            name,
            help=purpose,
            description=textwrap.dedent(text),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_argument("--config", type=Path, default=Path("authz.yaml"), help="default: authz.yaml")
        command.add_argument("--workers", type=int, help="processes, instead of what the configuration says")
        command.add_argument("--check", action="store_true", help="read everything that is named, and do not serve")
        command.set_defaults(run=_runner(name))


def _runner(what: str) -> Callable[[argparse.Namespace], Exit]:
    def run(options: argparse.Namespace) -> Exit:
        return Exit(_serve(what, options))

    return run


def _serve(what: str, options: argparse.Namespace) -> int:
    from authz.adapters.worker import listeners, make_server
    from authz.adapters.workers import Workers
    from authz.config import load_config
    from authz.config.serve import load_serve

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s")
    settings = load_serve(options.config)
    addresses = [listener.address for listener in listeners(what, settings)]
    if options.check:
        with load_config(options.config) as engine:
            make_server(what, engine, settings)
        print(f"{options.config}: ok")
        return Exit.OK
    if settings.health:
        addresses.append(settings.health)

    def ready(at: Sequence[str]) -> None:
        served = at[:-1] if settings.health else at
        print(f"serving {what} on {', '.join(served)}", flush=True)
        if settings.health:
            print(f"health on {at[-1]}", flush=True)

    async def run() -> int:
        count = options.workers or settings.workers
        workers = Workers(what, options.config, addresses, count=count, drain=settings.drain, on_ready=ready)
        return await workers.run()

    return asyncio.run(run())
