"""The external authorizer of an Envoy: `envoy.service.auth.v3.Authorization`, for gRPC and for plain HTTP APIs.

Envoy asks about each request before it passes it on. `authz serve ext-authz` runs it.
"""

from authz.adapters.ext_authz.server import ExtAuthzServer

__all__ = ["ExtAuthzServer"]
