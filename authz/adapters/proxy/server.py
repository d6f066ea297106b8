"""The proxy's server: everything that its settings name, put together."""

from __future__ import annotations

import logging

from authz.adapters.listening import Listening
from authz.adapters.messages import Messages, load_messages
from authz.adapters.namespaces import read_namespaces
from authz.adapters.outgoing import Outgoing
from authz.adapters.proxy.relay import Relay
from authz.adapters.proxy.upstream import Channels
from authz.call import Scope
from authz.config.serve import Proxy
from authz.engine import Engine
from authz.errors import ConfigError
from authz.policy.catalogue import Catalogue

_log = logging.getLogger("authz")


class ProxyServer:
    """The proxy, on the event loop that starts it.

    Args:
        engine: who decides; closing it remains with whoever made it.
        settings: what to listen on and what is behind.

    Raises:
        ConfigError: a descriptor set or a key cannot be used.
    """

    def __init__(self, engine: Engine, settings: Proxy) -> None:
        self._settings = settings
        self._engine = engine
        self._messages = load_messages(settings.descriptors)
        try:
            self._outgoing = Outgoing(settings.forward)
        except ValueError as exc:
            raise ConfigError.at("serve.proxy.forward", str(exc), "name the file of a private key in PEM") from None
        for line in unread(engine.policy.revision.catalogue, self._messages):
            _log.warning("%s", line)

    async def start(self) -> list[int]:
        """Begin to serve; the ports.

        Raises:
            ConfigError: an address cannot be used.
        """
        self._channels = Channels(self._settings.upstream, self._settings.limits)
        relay = Relay(self._engine, self._messages, self._channels, self._outgoing)
        self._listening = Listening(
            relay, self._settings.listeners, self._settings.limits, compress=self._settings.compress_replies
        )
        return await self._listening.start()

    @property
    def healthy(self) -> bool:
        """Whether the server behind can be reached, as far as is known."""
        return self._channels.reachable

    async def stop(self, grace: float) -> None:
        """Take no more calls; those under way have ``grace`` seconds."""
        await self._listening.stop(grace)
        await self._channels.close()


def unread(catalogue: Catalogue, messages: Messages) -> list[str]:
    """What the catalogue lists and the descriptor sets cannot read, one sentence each: calls of these are refused."""
    found = []
    for method, entry in catalogue.methods.items():
        if entry.scope is not Scope.NAMESPACE or method.endswith("/*"):
            continue
        kind = messages.find(method)
        if kind is None:
            found.append(f"`{method}` is in the catalogue and in no descriptor set: calls of it are refused")
            continue
        _, why = read_namespaces(entry, kind.message())
        if why is not None:
            found.append(f"`{method}` cannot be read, so calls of it are refused: {why}")
    return found
