"""Usage: the least policy that covers what somebody did, and who did what beside who can."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from authz.policy.load import load_bundle
from authz.policy.revision import NOWHERE
from authz.review.logs import Logs
from authz.review.search import Search


@dataclass(frozen=True, slots=True)
class Suggestion:
    """One line of the least policy.

    Attributes:
        line: the rule.
        count, last: how often it would have decided, and when last.
    """

    line: str
    count: int
    last: datetime


def suggest(logs: Logs, subject: str, search: Search | None = None) -> list[Suggestion]:
    """The least policy that covers what ``subject`` (``user:corp:alice``) was allowed: a rule for each thing done."""
    where, parameters = (search or Search()).sql()
    rows = logs.ask(
        "SELECT name, method, access, count(*) AS n, max(time) AS last FROM "
        "(SELECT unnest(namespaces) AS name, method, request[4] AS access, time FROM decisions "
        f"WHERE decision = 'allow' AND sub = ? AND {where}) "
        "GROUP BY name, method, access ORDER BY name, method",
        [subject, *parameters],
    )
    return [
        Suggestion(
            f"p, {subject}, {row['name'] or NOWHERE}, {row['method']}, {row['access'] or '*'}, allow",
            row["n"],
            row["last"],
        )
        for row in rows
    ]


@dataclass(frozen=True, slots=True)
class Doer:
    """Somebody and a method.

    Attributes:
        sub: who.
        roles: roles at the latest call.
        did: how often they were let in.
        unenforced: how often of these that was no allow, and nothing was enforced.
        refused: how often they were not let in.
        last: when it was called last; None: never.
        can: whether the policy that was named allows it; None: none was named, or it cannot tell.
    """

    sub: str
    roles: tuple[str, ...]
    did: int
    unenforced: int
    refused: int
    last: datetime | None
    can: bool | None


def who_did(logs: Logs, method: str, namespace: str | None = None, bundle: Path | None = None) -> list[Doer]:
    """Who called ``method`` (a pattern), and, by the policy in ``bundle``, who of all known callers can.

    Args:
        logs: where to look.
        method: gRPC full method; ``*`` and ``?`` stand for any characters.
        namespace: only calls that name it (a pattern); None: all.
        bundle: a policy; the callers that the log knows are asked about each method that was matched.

    Raises:
        PolicyError: the bundle cannot be used.
    """
    words = f"method:{method}" + (f" ns:{namespace}" if namespace else "")
    where, parameters = Search.parse(words).sql()
    rows = logs.ask(
        "SELECT sub, arg_max(roles, time) AS roles, arg_max(authn, time) AS authn, arg_max(iss, time) AS iss, "
        f"count(*) FILTER (let_in AND {where}) AS did, "
        f"count(*) FILTER (let_in AND decision <> 'allow' AND {where}) AS unenforced, "
        f"count(*) FILTER (NOT let_in AND {where}) AS refused, max(time) FILTER ({where}) AS last "
        "FROM decisions WHERE sub IS NOT NULL GROUP BY sub ORDER BY did DESC, refused DESC, sub",
        [*parameters, *parameters, *parameters, *parameters],
    )
    asked = logs.ask(f"SELECT DISTINCT method, namespaces FROM decisions WHERE {where} LIMIT 1000", parameters)
    able = _able(rows, asked, bundle) if bundle is not None else {}
    doers = [
        Doer(
            row["sub"],
            tuple(row["roles"] or ()),
            row["did"],
            row["unenforced"],
            row["refused"],
            row["last"],
            able.get(row["sub"]),
        )
        for row in rows
    ]
    return [doer for doer in doers if doer.did or doer.refused or doer.can]


def _able(
    rows: Sequence[dict[str, object]], asked: Sequence[dict[str, object]], bundle: Path
) -> dict[object, bool | None]:
    from authz.decision import authorizer_for
    from authz.review.replay import decide_again

    authorizer = authorizer_for(load_bundle(bundle))
    able: dict[object, bool | None] = {}
    for row in rows:
        verdicts = [
            decide_again(authorizer, {**row, **question, "reason": "allowed", "unreadable": None}) for question in asked
        ]
        known = [bool(verdict.effect) for verdict in verdicts if verdict is not None]
        able[row["sub"]] = any(known) if known else None
    return able
