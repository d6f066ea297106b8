"""The authorizer's server: the one method that Envoy calls."""

from __future__ import annotations

import logging
from typing import Any, Final

import grpc
from envoy.service.auth.v3 import external_auth_pb2 as auth

from authz.adapters.admission import needs_message
from authz.adapters.ext_authz.question import LATER, Reader
from authz.adapters.ext_authz.reply import failed, reply
from authz.adapters.ext_authz.routes import unread
from authz.adapters.listening import Listening
from authz.adapters.messages import Messages, load_messages
from authz.adapters.outgoing import Outgoing
from authz.config.serve import ExtAuthz, Limits
from authz.engine import Engine
from authz.errors import ConfigError
from authz.policy.catalogue import Catalogue

_log = logging.getLogger("authz")
_CHECK: Final = "/envoy.service.auth.v3.Authorization/Check"
_FRAME: Final = 64 * 1024


class Authorization(grpc.GenericRpcHandler):
    """The service. Every question is answered; one that cannot be is answered with a denial.

    Args:
        engine: who decides.
        settings: where requests name their namespaces, and what is told to the server behind.

    Raises:
        ConfigError: a descriptor set, a key or a route cannot be used.
    """

    def __init__(self, engine: Engine, settings: ExtAuthz) -> None:
        self._engine = engine
        self._settings = settings
        messages = load_messages(settings.descriptors)
        self._reader = Reader(settings, messages)
        try:
            self._outgoing = Outgoing(settings.forward)
        except ValueError as exc:
            raise ConfigError.at("serve.ext_authz.forward", str(exc), "name the file of a private key in PEM") from None
        catalogue = engine.policy.revision.catalogue
        for route in settings.routes:
            api = catalogue.find(route.method)
            if api is None:
                message = f"the route {route.verb} {route.path} leads to `{route.method}`"
                raise ConfigError.at(route.place, message, "write a method of the policy's catalogue")
            why = unread(route, api)
            if why is not None:
                remedy = "write `names_no_other_namespace: true` if no such request names a namespace there"
                raise ConfigError.at(route.place, why, remedy)
        for method in sorted(settings.by_first_message):
            kind = messages.find(method)
            if kind is None or not kind.client_streaming:
                message = f"no descriptor set has a stream of requests in `{method}`"
                remedy = "write the full name of a method, /package.Service/Method, that takes a stream"
                raise ConfigError.at("serve.ext_authz.streams_decided_by_first_message", message, remedy)
        for line in undecided(settings, catalogue, messages):
            _log.warning("%s", line)
        if settings.shadow:
            _log.warning("shadow mode: every request is ALLOWED, whatever is decided")
        self._handler = grpc.unary_unary_rpc_method_handler(
            self._check, auth.CheckRequest.FromString, auth.CheckResponse.SerializeToString
        )

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """See :class:`grpc.GenericRpcHandler`."""
        return self._handler if handler_call_details.method == _CHECK else None

    async def _check(self, request: Any, _: Any) -> Any:
        return await self.check(request)

    async def check(self, request: Any) -> Any:
        """The ``CheckResponse`` to a ``CheckRequest``. While the audit log waits for the disk, others are answered."""
        try:
            policy = self._engine.policy
            question = self._reader.read(request, policy.revision.catalogue)
            decision = await self._engine.check_async(question.call, question.credentials, policy)
            show = self._engine.enforcement.show_reasons
            return reply(decision, question, self._outgoing, shadow=self._settings.shadow, show_reasons=show)
        except Exception:
            _log.exception("a question could not be answered")
            return failed()


def undecided(settings: ExtAuthz, catalogue: Catalogue, messages: Messages) -> list[str]:
    """Methods of which every call is refused for what Envoy cannot show of its messages, one sentence each."""
    if settings.source != "extracted":
        return []
    return [
        f"calls of `{method}` are refused: {LATER}"
        for method, kind in messages.methods.items()
        if kind.client_streaming and method not in settings.by_first_message and needs_message(catalogue.find(method))
    ]


class ExtAuthzServer:
    """The authorizer, on the event loop that starts it. See :class:`Authorization` for the arguments."""

    def __init__(self, engine: Engine, settings: ExtAuthz) -> None:
        self._settings = settings
        self._authorization = Authorization(engine, settings)

    async def start(self) -> list[int]:
        """Begin to serve; the ports.

        Raises:
            ConfigError: an address cannot be used.
        """
        # a question holds the body, and the headers once more
        limits = Limits(message_bytes=self._settings.max_body_bytes * 2 + _FRAME)
        self._listening = Listening(self._authorization, self._settings.listeners, limits)
        return await self._listening.start()

    @property
    def healthy(self) -> bool:
        """It needs nothing but itself."""
        return True

    async def stop(self, grace: float) -> None:
        """Answer no more questions; those under way have ``grace`` seconds."""
        await self._listening.stop(grace)
