"""Matrix page: a bundle's whole access as one HTML file, which loads nothing and can be sent to anyone."""

from __future__ import annotations

import json
from html import escape
from importlib.resources import files

from authz.admin.access import Matrix
from authz.decision.base import Effect
from authz.policy.revision import NOWHERE


def matrix_page(found: Matrix, title: str) -> str:
    """The page for ``found``: filters, a grid of methods by subjects for one namespace, and the rule behind a cell."""
    data = {
        "subjects": found.subjects,
        "namespaces": found.namespaces,
        "methods": [
            {"name": name, "access": entry.access.value, "scope": entry.scope.value}
            for name, entry in zip(found.methods, found.entries, strict=True)
        ],
        "rules": [
            {"text": line.text, "place": f"{line.place.path}:{line.place.line}", "allow": effect is Effect.ALLOW}
            for line, effect in found.rules
        ],
        "cells": [[*at, rule] for at, rule in found.cells.items()],
        "cluster": NOWHERE,
    }
    # inside <script>, only a `<` can end it, and only U+2028/9 are no part of a text
    text = json.dumps(data, ensure_ascii=True).replace("<", "\\u003c")
    template = files("authz.admin").joinpath("matrix_page.html").read_text(encoding="utf-8")
    page = template.replace("@TITLE@", escape(title)).replace("@REVISION@", escape(found.revision.id))
    return page.replace("@DATA@", text)
