"""Plugins: parts of a user's own, made by a package's entry point that the configuration names.

An installed package offers a factory under one of the groups below. It does nothing until the configuration names it:
no group is looked through for what else there may be.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

from authz.document import Section, did_you_mean
from authz.errors import FileError

AUTHENTICATORS: Final = "authz.authenticators"
CLAIM_MAPPERS: Final = "authz.claim_mappers"
AUTHORIZERS: Final = "authz.authorizers"
AUDIT_SINKS: Final = "authz.audit_sinks"
METHODS: Final = {AUTHENTICATORS: "authenticate", CLAIM_MAPPERS: "map", AUTHORIZERS: "authorize", AUDIT_SINKS: "write"}
"""The groups of entry points, and the one method that each group's parts have."""


def make_plugin(section: Section, group: str, *more: object) -> Any:
    """Make the part that ``section`` names: ``plugin``, with the mapping ``options`` as the plugin reads it.

    The factory is called with ``options`` as a :class:`authz.document.Section`, of which it takes what it knows. A key
    that it did not take is refused, so that a typo in an option is a typo with its line.

    Args:
        section: what has the keys ``plugin`` and ``options``.
        group: one of the groups of entry points.
        more: what the group's factories are given after the options.

    Raises:
        ConfigError: there is no such plugin, it cannot be loaded, or it cannot be made from these options.
    """
    name = section.text("plugin")
    options = section.options("options")
    found = _find(section, group, name)
    try:
        part = found.load()(options, *more)
    except FileError:
        raise
    except Exception as exc:
        what = f"the plugin `{name}` ({found.value}) cannot be made: {type(exc).__name__}: {exc}"
        raise section.refuse("plugin", what) from exc
    options.close()
    method = METHODS[group]
    if isinstance(part, type) or not callable(getattr(part, method, None)):
        what = f"the plugin `{name}` ({found.value}) made a {type(part).__name__} that has no `{method}()`"
        raise section.refuse("plugin", what, f"let its factory return an object with `{method}`")
    return part


def _find(section: Section, group: str, name: str) -> EntryPoint:
    # a package that is found by two paths is offered twice, alike: only what differs is a choice to be refused
    found = {point.value: point for point in entry_points(group=group, name=name)}
    if not found:
        offered = entry_points(group=group).names
        remedy = did_you_mean(name, offered) or f"install a package with an entry point in the group `{group}`"
        raise section.refuse("plugin", f"no installed package offers the plugin `{name}` in `{group}`", remedy)
    if len(found) > 1:
        both = " and ".join(f"`{value}`" for value in sorted(found))
        raise section.refuse("plugin", f"the plugin `{name}` is offered by {both}", "uninstall one of the packages")
    return next(iter(found.values()))
