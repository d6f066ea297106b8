"""The ``enforcement`` section of the configuration."""

from __future__ import annotations

from typing import Final

from authz.document import Section
from authz.enforcement import Enforcement, Recheck

_DEFAULT: Final = Enforcement()


def read_enforcement(section: Section | None) -> Enforcement:
    """Read the section; None: it is absent, and every setting has its default.

    Raises:
        ConfigError: with the place of what cannot be used and what to write instead.
    """
    if section is None:
        return _DEFAULT
    enforcement = Enforcement(
        recheck=Recheck(section.choice("recheck", [each.value for each in Recheck], _DEFAULT.recheck.value)),
        interval=section.duration("interval", _DEFAULT.interval, least=0.05, most=60.0),
        show_reasons=section.boolean("show_reasons", _DEFAULT.show_reasons),
    )
    section.close()
    return enforcement
