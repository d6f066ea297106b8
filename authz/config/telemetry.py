"""The ``telemetry`` section of the configuration: whether OpenTelemetry is told of decisions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from authz.document import Section

if TYPE_CHECKING:
    from authz.telemetry import Telemetry


def read_telemetry(section: Section | None) -> Telemetry | None:
    """Read the section ``telemetry``; without it, OpenTelemetry is not even imported.

    Raises:
        ConfigError: with the place of what cannot be used, or OpenTelemetry is not installed.
    """
    if section is None:
        return None
    durations = section.boolean("durations", True)
    spans = section.boolean("spans", True)
    section.close()
    try:
        from authz.telemetry import Telemetry
    except ModuleNotFoundError as exc:
        remedy = "install grpc-authz[telemetry], or remove the section"
        raise section.refuse(
            "", f"`{section.name}` needs a package that is not installed: {exc.name}", remedy
        ) from None
    return Telemetry(durations=durations, spans=spans)
