"""ResourceName: a pattern such as ``projects/{namespace}/orders/*``, that finds the namespace in a resource name."""

from __future__ import annotations

import re

PATTERN_RULE = "segments joined by `/`: text, `*` for any one, `**` at the end for the rest, and one `{namespace}`"
_LITERAL = re.compile(r"[A-Za-z0-9_.~:-]+")
_SEGMENTS = {"*": "[^/]+", "{namespace}": "(?P<namespace>[^/]+)"}
# Whoever normalizes names takes these for no segment, or for the way back: each makes another name of it.
_ODD = frozenset(("", ".", ".."))


class ResourceName:
    """A pattern that a whole resource name must match, segment by segment.

    Args:
        pattern: see :data:`PATTERN_RULE`.

    Raises:
        ValueError: it is no pattern; the text says why.
    """

    def __init__(self, pattern: str) -> None:
        segments = pattern.split("/")
        parts = []
        for number, segment in enumerate(segments, 1):
            if segment == "**" and number == len(segments) and number > 1:
                parts.append(".+")
            elif segment in _SEGMENTS:
                parts.append(_SEGMENTS[segment])
            elif segment not in _ODD and _LITERAL.fullmatch(segment):
                parts.append(re.escape(segment))
            else:
                raise ValueError(f"`{segment}` is no segment of a resource name")
        if segments.count("{namespace}") != 1:
            raise ValueError("it must have `{namespace}` once")
        self.pattern = pattern
        self._match = re.compile("/".join(parts), re.ASCII | re.DOTALL).fullmatch

    def namespace(self, name: str) -> str | None:
        """The namespace in the resource name ``name``; None if it is not such a name.

        No name has an empty segment, ``.`` or ``..``: a server that normalizes names would read another one.
        """
        found = self._match(name)
        return None if found is None or not _ODD.isdisjoint(name.split("/")) else found["namespace"]
