"""The authority's own certificates: ``ca_file`` or ``workload_api``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from authz.authn.authority import Anchors
from authz.authn.authority_files import read_authority_file
from authz.config.keys import Watch
from authz.document import Section

_DAY: Final = 86_400.0


def read_anchors(section: Section, name: str, trust_domains: Sequence[str], watch: Watch) -> Anchors:
    """Read where the certificates of the authority ``name`` come from.

    Raises:
        ConfigError: there is neither or both, a file cannot be used, or the extra is not installed.
    """
    if "workload_api" not in section:
        return watch.file(section, "ca_file", read_authority_file)
    if "ca_file" in section:
        raise section.refuse(
            "ca_file", "`ca_file` and `workload_api` both have the authority's certificates", "keep one"
        )
    if len(trust_domains) != 1:
        remedy = "write `map: spiffe` and the one trust domain whose bundle it is"
        raise section.refuse("workload_api", "`workload_api` is for one trust domain", remedy)
    settings = section.section("workload_api")
    socket = settings.text("socket")
    try:
        from authz.authn.workload_api import WorkloadBundle
    except ModuleNotFoundError as exc:
        what = f"`workload_api` needs a package that is not installed: {exc.name}"
        raise section.refuse("workload_api", what, "install grpc-authz[spiffe], or write `ca_file`") from None
    try:
        bundle = WorkloadBundle(
            name,
            socket,
            trust_domains[0],
            interval=settings.duration("refresh", 5.0, least=0.1, most=3600.0),
            timeout=settings.duration("timeout", 5.0, least=0.1, most=60.0),
            max_stale=settings.duration("max_stale", _DAY, least=1.0, most=30 * _DAY),
        )
    except ValueError as exc:
        raise settings.refuse("socket", f"`{socket}` cannot be used: {exc}", "write unix:///path/to.sock") from None
    settings.close()
    watch.run(bundle)
    return bundle
