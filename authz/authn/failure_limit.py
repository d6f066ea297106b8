"""FailureLimit: how many credentials that are refused one peer may show, before what it shows is not looked at.

A peer is an address without its port; in IPv6 it is a network of 64 bits, since whoever has one address has them all.
Callers on a Unix socket cannot be told apart, and are not limited.

Each refused credential fills the peer's bucket, which empties evenly as time goes by: no try is needed to be let in
again, and a peer that goes on trying gets the few tries that run out of it. The table is bounded. A peer that is
limited is not pushed out of it by others, nor does a full table limit a peer that is not in it: whoever has addresses
enough to fill it gains tries from yet more addresses, and nothing against anyone else.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import islice
from typing import Final
from urllib.parse import unquote

from authz.forked import renew_in_child

DEFAULT_FAILURES: Final = 20
DEFAULT_PER: Final = 60.0
DEFAULT_PEERS: Final = 10_000
_LOOKED_AT: Final = 16
_KNOWN_NAMES: Final = 4_096
_SHOWN: Final = 128


class FailureLimit:
    """Counts refused credentials by peer. Thread-safe; takes no lock to say that a peer has shown none.

    Args:
        failures: how many a peer may show in one go.
        per: the seconds in which so many are forgotten.
        peers: how many peers are counted at a time, at most.
        clock: seconds, by a clock that nobody sets.
    """

    def __init__(
        self,
        failures: int = DEFAULT_FAILURES,
        per: float = DEFAULT_PER,
        peers: int = DEFAULT_PEERS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if failures < 1 or not per > 0 or peers < 1:
            raise ValueError("a limit is of at least one failure, in a time, of at least one peer")
        self._failures = failures
        self._rate = failures / per
        self._peers = peers
        self._clock = clock
        self.renew_locks()
        renew_in_child(self)
        self._levels: dict[str, tuple[float, float]] = {}  # group -> how full its bucket was, and when
        self._hand: Iterator[str] = iter(())

    def __len__(self) -> int:
        return len(self._levels)

    def limits(self, peer: str) -> bool:
        """Whether what ``peer`` shows is not to be looked at now.

        Args:
            peer: as the transport gives it, e.g. ``ipv4:192.0.2.1:40412``.
        """
        if not self._levels:
            return False
        found = self._levels.get(group_of(peer))
        # one failure more would have to fit in
        return found is not None and self._left(found, self._clock()) > self._failures - 1

    def failed(self, peer: str) -> None:
        """Count one refused credential of ``peer``."""
        group = group_of(peer)
        if not group:
            return
        now = self._clock()
        with self._lock:
            found = self._levels.get(group)
            if found is None and len(self._levels) >= self._peers and not self._make_room(now):
                return
            level = 0.0 if found is None else self._left(found, now)
            self._levels[group] = (min(level + 1.0, float(self._failures)), now)

    def renew_locks(self) -> None:
        """See :class:`authz.forked.HasLocks`."""
        self._lock = threading.Lock()

    def _left(self, found: tuple[float, float], now: float) -> float:
        level, at = found
        return max(0.0, level - (now - at) * self._rate)

    def _make_room(self, now: float) -> bool:
        """Forget the emptiest of a few peers, but none that is limited. A few at a time: nobody pays for all."""
        few = list(islice(self._hand, _LOOKED_AT))
        if not few:
            # all were looked at: begin again with those of now
            self._hand = iter(list(self._levels))
            few = list(islice(self._hand, _LOOKED_AT))
        levels = {group: self._left(self._levels[group], now) for group in few if group in self._levels}
        emptiest = min(levels, key=levels.__getitem__, default=None)
        if emptiest is None or levels[emptiest] > self._failures - 1:
            return False
        for group, level in levels.items():
            if group == emptiest or level <= 0.0:
                del self._levels[group]
        return True


@lru_cache(_KNOWN_NAMES)
def group_of(peer: str) -> str:
    """What is counted together with ``peer``; empty: it is not to be counted."""
    if peer.startswith("unix"):
        return ""
    address = peer.removeprefix("ipv4:").removeprefix("ipv6:")
    without_port = address.rpartition(":")[0]
    for host in (without_port, address):
        try:
            return _network(ip_address(unquote(host).strip("[]").partition("%")[0]))
        except ValueError:
            continue
    # another transport, or an adapter that writes addresses in its own way: without what may be a port
    return (without_port or address)[:_SHOWN]


def _network(address: IPv4Address | IPv6Address) -> str:
    if isinstance(address, IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return f"{IPv6Address(int(address) >> 64 << 64)}/64"
