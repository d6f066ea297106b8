"""A transparent authorizing proxy for gRPC servers that cannot load Python.

Every call is decided as the interceptors do it; what is allowed passes through as the bytes that came. It knows the API
behind it by a descriptor set and the policy bundle's catalogue. `authz serve proxy` runs it.
"""

from authz.adapters.proxy.relay import Relay
from authz.adapters.proxy.server import ProxyServer

__all__ = ["Relay", "ProxyServer"]
