"""Workers: the supervisor of `authz serve`: some processes on the same ports, each started again as soon as it ends.

It imports nothing of what they serve with, holds the ports by sockets that never listen, and passes a stop on. A worker
sees by the end of its standard input that its supervisor is gone, and drains then.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from authz.adapters.worker import INVALID
from authz.errors import ConfigError

_log = logging.getLogger("authz")
_READY_WITHIN: Final = 60.0
_SHORT_LIFE: Final = 1.0
_LONGEST_WAIT: Final = 5.0
_KILL_AFTER: Final = 5.0


@dataclass(frozen=True)
class _Life:
    """A worker's process, and the task that waits for its end."""

    process: asyncio.subprocess.Process
    exited: asyncio.Task[int]


class Workers:
    """Runs ``count`` workers until it is told to stop. SIGHUP: each is replaced by one that reads everything anew.

    Args:
        what: ``proxy`` or ``ext-authz``.
        config: the configuration file.
        addresses: where each of them listens; a port 0 is chosen once, for all.
        count: processes.
        drain: seconds for calls under way at the end.
        on_ready: is called once with the addresses, when all of them serve.
    """

    def __init__(
        self,
        what: str,
        config: Path,
        addresses: Sequence[str],
        *,
        count: int,
        drain: float,
        on_ready: Callable[[Sequence[str]], None],
    ) -> None:
        self._what = what
        self._config = config
        self._count = count
        self._drain = drain
        self._on_ready = on_ready
        self._held = [_hold(address) for address in addresses]
        self._addresses = [
            f"{address.rpartition(':')[0]}:{held.getsockname()[1]}"
            for address, held in zip(addresses, self._held, strict=True)
        ]
        self._waiting_for = count
        self._ending = asyncio.Event()
        self._renew = asyncio.Event()
        self._retiring: list[asyncio.Task[None]] = []
        self._invalid = False

    async def run(self) -> int:
        """Run until SIGTERM or SIGINT, or until a worker finds its configuration invalid at first; the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ending.set)
        loop.add_signal_handler(signal.SIGHUP, self._renew_all)
        try:
            await asyncio.gather(*(self._keep(number) for number in range(self._count)))
            await asyncio.gather(*self._retiring)
        finally:
            for held in self._held:
                held.close()
        return INVALID if self._invalid else 0

    def _renew_all(self) -> None:
        self._renew.set()
        self._renew = asyncio.Event()

    async def _keep(self, number: int) -> None:
        """See to it that one worker serves."""
        wait = 0.0
        first = True
        while not self._ending.is_set():
            began = time.monotonic()
            life = await self._start(first=first)
            if life is not None:
                first = False
                await self._attend(number, life)
            if self._ending.is_set():
                return
            # at once, unless it dies young again and again
            served = life is not None and time.monotonic() - began > _SHORT_LIFE
            wait = 0.0 if served else min(max(wait * 2, 0.1), _LONGEST_WAIT)
            _log.error("worker %d has ended, and is started again%s", number, f" in {wait:g} s" if wait else "")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), wait or 0.001)

    async def _attend(self, number: int, life: _Life) -> None:
        """Stay with a worker until it ends; put another in its place when that is asked for and that one serves."""
        ending = asyncio.create_task(self._ending.wait())
        while not self._ending.is_set():
            renew = asyncio.create_task(self._renew.wait())
            await asyncio.wait({life.exited, ending, renew}, return_when=asyncio.FIRST_COMPLETED)
            renew.cancel()
            if life.exited.done() or self._ending.is_set():
                break
            successor = await self._start(first=False)
            if successor is None:
                _log.error("worker %d goes on with what it has read: the new one did not come to serve", number)
                continue
            self._retiring.append(asyncio.create_task(self._end(life)))
            life = successor
        ending.cancel()
        await self._end(life)

    async def _start(self, *, first: bool) -> _Life | None:
        """A worker that serves; None if it does not come to that, or is not wanted any more."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "authz.adapters.worker", self._what, str(self._config), *self._addresses,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        assert process.stdout is not None
        life = _Life(process, asyncio.create_task(process.wait()))
        line = asyncio.create_task(process.stdout.readline())
        ending = asyncio.create_task(self._ending.wait())
        await asyncio.wait({line, ending}, timeout=_READY_WITHIN, return_when=asyncio.FIRST_COMPLETED)
        ready = line.done() and line.result() == b"ready\n"
        line.cancel()
        ending.cancel()
        if not ready:
            if not self._ending.is_set():
                await asyncio.wait({life.exited}, timeout=_SHORT_LIFE)
                if process.returncode == INVALID and first:
                    self._invalid = True
                    self._ending.set()
            await self._end(life)
            return None
        if first:
            self._waiting_for -= 1
            if not self._waiting_for:
                self._on_ready(self._addresses)
        return life

    async def _end(self, life: _Life) -> None:
        """Let a worker drain, and see it end."""
        process = life.process
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await asyncio.wait({life.exited}, timeout=self._drain + _KILL_AFTER)
            if process.returncode is None:
                _log.error("worker process %d does not end, and is killed", process.pid)
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
        await life.exited
        if process.stdin is not None:
            process.stdin.close()


def _hold(address: str) -> socket.socket:
    """A socket that is bound to ``address`` and never listens: workers can share the port, and nobody else takes it.

    Raises:
        ConfigError: the address cannot be used.
    """
    host, _, port = address.rpartition(":")
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            host.strip("[]") or None, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            # sharing a port is for the workers of one supervisor: with those of another it would go unnoticed
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
        held = socket.socket(family, kind, protocol)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(where)
    except OSError as exc:
        remedy = "name an address of this machine on which nothing else listens"
        raise ConfigError.at("serve", f"cannot listen on {address}: {exc.strerror or exc}", remedy) from None
    return held
