"""Presenting: how a method is presented to a server by its interceptor, which has to say so before it sees a message.

*Message first*: the server hands over the request message as it does without us; no thread waits for it. *Caller
first*: the method is presented as if it took a stream of requests, so that a caller can be refused before a byte of the
body is read. The second is for a call whose namespace is not in its messages, and for a caller who was not seen before
and might as well be nobody.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from authz.adapters.admission import needs_message
from authz.adapters.recognized import Recognized
from authz.engine import Engine

_LIMIT: Final = 4_096

Handler = Any  # a grpc.RpcMethodHandler, or something with its attributes
Guard = Callable[[Handler, str, bool], Handler]
"""Puts a handler behind a check: from the handler, the method, and whether it is presented caller first."""


class Presenting:
    """Gives the server each handler behind its guard. A guard is made once, for as long as the handler is the same.

    Args:
        engine: whose catalogue says where a method names its namespaces.
        guard: makes the guards.
    """

    def __init__(self, engine: Engine, guard: Guard) -> None:
        self._engine = engine
        self._guard = guard
        self._guards: dict[tuple[str, bool], tuple[Handler, Handler]] = {}
        self.recognized = Recognized(without_token=engine.reads_certificates)

    def present(self, handler: Handler, details: Any) -> Handler:
        """What the server gets in place of ``handler``, for the one call with ``details``."""
        method = details.method
        first = not handler.request_streaming and caller_first(self._engine, self.recognized, details)
        key = (method, first)
        made = self._guards.get(key)
        if made is None or made[0] is not handler:
            if len(self._guards) >= _LIMIT:  # a generic handler may answer to any number of names
                self._guards.clear()
            made = self._guards[key] = (handler, self._guard(handler, method, first))
        return made[1]


def caller_first(engine: Engine, recognized: Recognized, details: Any) -> bool:
    """Whether the one call with ``details`` is decided, as far as it can be, before its one message is waited for."""
    if not needs_message(engine.policy.revision.catalogue.find(details.method)):
        return True
    return (details.invocation_metadata or ()) not in recognized
