"""Worker: one process of `authz serve`: it serves until its supervisor says so, or is gone.

Started as ``python -m authz.adapters.worker WHAT CONFIG [ADDRESS ...]``. It writes one line, ``ready``, to
standard output when it serves, and drains when it gets SIGTERM or when its standard input ends.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final, Protocol

from authz.adapters.listening import Health, Listening
from authz.config import load_config
from authz.config.serve import Limits, Listener, Serve, load_serve
from authz.engine import Engine
from authz.errors import AuthzError, ConfigError

INVALID: Final = 4
"""The exit code for a configuration that cannot be used: starting again would not help."""


class Server(Protocol):
    """What a worker runs."""

    async def start(self) -> list[int]:
        """Begin to serve; the ports."""
        ...

    @property
    def healthy(self) -> bool:
        """Whether calls can be served."""
        ...

    async def stop(self, grace: float) -> None:
        """Take no more calls; those under way have ``grace`` seconds."""
        ...


def listeners(what: str, settings: Serve) -> tuple[Listener, ...]:
    """The listeners of ``proxy`` or ``ext-authz``.

    Raises:
        ConfigError: it is not configured.
    """
    found = settings.proxy if what == "proxy" else settings.ext_authz
    if found is None:
        section = what.replace("-", "_")
        raise ConfigError.at("serve", f"`serve.{section}` is missing", f"add `{section}:` to `serve`")
    return found.listeners


def make_server(what: str, engine: Engine, settings: Serve) -> Server:
    """The server ``proxy`` or ``ext-authz`` with ``settings``."""
    if what == "proxy" and settings.proxy is not None:
        from authz.adapters.proxy import ProxyServer

        return ProxyServer(engine, settings.proxy)
    assert settings.ext_authz is not None
    from authz.adapters.ext_authz import ExtAuthzServer

    return ExtAuthzServer(engine, settings.ext_authz)


def at_addresses(what: str, settings: Serve, addresses: Sequence[str]) -> Serve:
    """``settings`` with other addresses to listen on: one for each listener, then the health port's if there is one."""
    if len(addresses) != len(listeners(what, settings)) + bool(settings.health):
        remedy = "restart `authz serve` to change what it listens on"
        raise ConfigError.at("serve", "there are other listeners than when the supervisor started", remedy)
    moved = tuple(
        replace(one, address=address) for one, address in zip(listeners(what, settings), addresses, strict=False)
    )
    health = addresses[len(moved)] if settings.health else ""
    if what == "proxy" and settings.proxy is not None:
        return replace(settings, health=health, proxy=replace(settings.proxy, listeners=moved))
    assert settings.ext_authz is not None
    return replace(settings, health=health, ext_authz=replace(settings.ext_authz, listeners=moved))


async def _work(what: str, engine: Engine, settings: Serve) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_reader(sys.stdin.fileno(), _heard, stop)
    server = make_server(what, engine, settings)
    await server.start()
    health = Health(lambda: server.healthy)
    checked: Any = None
    if settings.health:
        checked = Listening(health, [Listener(settings.health)], Limits())
        await checked.start()
    print("ready", flush=True)  # noqa: T201 - the supervisor waits for it
    await stop.wait()
    health.draining = True
    await server.stop(settings.drain)
    if checked is not None:
        await checked.stop(0)


def _heard(stop: asyncio.Event) -> None:
    if not os.read(sys.stdin.fileno(), 1):
        stop.set()


def main(arguments: Sequence[str]) -> int:
    """Serve; the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s")
    what, path, *addresses = arguments
    try:
        settings = at_addresses(what, load_serve(path), addresses)
        with load_config(path) as engine:
            asyncio.run(_work(what, engine, settings))
    except AuthzError as exc:
        print(exc, file=sys.stderr)  # noqa: T201 - the operator reads it
        return INVALID
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
