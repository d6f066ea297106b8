"""The ``failure_limit`` in the section ``authn``: how many refused credentials a peer may show."""

from __future__ import annotations

from authz.authn.failure_limit import DEFAULT_FAILURES, DEFAULT_PEERS, DEFAULT_PER, FailureLimit
from authz.document import Section


def read_failure_limit(section: Section | None) -> FailureLimit | None:
    """Read the section; without it nobody is limited, since callers behind a proxy would share the proxy's address.

    Raises:
        ConfigError: with the place of what cannot be used and what to write instead.
    """
    if section is None:
        return None
    failures = section.integer("failures", DEFAULT_FAILURES, least=1, most=1_000_000)
    per = section.duration("per", DEFAULT_PER, least=1.0, most=86_400.0)
    peers = section.integer("peers", DEFAULT_PEERS, least=1, most=1_000_000)
    section.close()
    return FailureLimit(failures, per, peers)
