"""Anomalies: what a log shows for the first time, and denials that come in bursts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from authz.review.logs import Logs

_LIMIT: Final = 200
_FIRSTS: Final = {
    "issuer": ("iss", "a caller of an issuer never seen before"),
    "key": ("key_id", "a token signed with a key never seen before"),
    "client": ("user_agent", "a client never seen before"),
}


@dataclass(frozen=True, slots=True)
class Anomaly:
    """Something to look at.

    Attributes:
        kind: ``first_use``, ``issuer``, ``key``, ``client`` or ``burst``.
        time: when.
        who: the subject, or the address where nobody was proven.
        what: a sentence.
        count: how many decisions are concerned.
        example: audit id of one of them.
    """

    kind: str
    time: datetime
    who: str
    what: str
    count: int
    example: str


def anomalies(logs: Logs, hours: float = 24.0, *, burst: int = 20, now: datetime | None = None) -> list[Anomaly]:
    """What the last ``hours`` of a log show that all of it before does not.

    Args:
        logs: where to look.
        hours: how far back "the last" goes.
        burst: denials of one caller within a minute that are a burst.
        now: the end; by default the time of the newest decision, so that an old log can be looked at.
    """
    end = now
    if end is None:
        newest = logs.ask("SELECT max(time) AS last FROM decisions")[0]["last"]
        end = newest.replace(tzinfo=UTC) if newest else datetime.now(UTC)
    since = (end - timedelta(hours=hours)).astimezone(UTC).replace(tzinfo=None)
    oldest = logs.ask("SELECT min(time) AS first FROM decisions")[0]["first"]
    if oldest is not None and since <= oldest:
        # where there is nothing before, everything would be new: a tenth of the log is what the rest is held against
        since = oldest + (end.astimezone(UTC).replace(tzinfo=None) - oldest) / 10
    found: list[Anomaly] = []
    for kind, (column, what) in _FIRSTS.items():
        rows = logs.ask(
            f"SELECT {column} AS value, min(time) AS first, count(*) AS n, arg_min(id, time) AS id, "
            f"arg_min(sub, time) AS sub FROM decisions WHERE coalesce({column}, '') <> '' GROUP BY {column} "
            "HAVING min(time) >= ? ORDER BY first LIMIT ?",
            [since, _LIMIT],
        )
        found += [
            Anomaly(kind, row["first"], row["sub"] or "", f"{what}: {row['value']}", row["n"], row["id"])
            for row in rows
        ]  # fmt: skip
    rows = logs.ask(
        "SELECT sub, method, min(time) AS first, count(*) AS n, arg_min(id, time) AS id FROM decisions "
        "WHERE let_in AND sub IS NOT NULL GROUP BY sub, method HAVING min(time) >= ? AND sub IN "
        "(SELECT sub FROM decisions WHERE time < ?) ORDER BY first LIMIT ?",
        [since, since, _LIMIT],
    )
    found += [
        Anomaly("first_use", row["first"], row["sub"], f"first use of {row['method']}", row["n"], row["id"])
        for row in rows
    ]  # fmt: skip
    rows = logs.ask(
        "SELECT coalesce(sub, peer_ip, 'unknown') AS who, date_trunc('minute', time) AS minute, count(*) AS n, "
        "min(id) AS id, count(DISTINCT method) AS methods, count(*) FILTER (let_in) AS let_in FROM decisions "
        "WHERE decision <> 'allow' AND time >= ? GROUP BY who, minute HAVING count(*) >= ? ORDER BY minute LIMIT ?",
        [since, burst, _LIMIT],
    )
    found += [
        Anomaly(
            "burst",
            row["minute"],
            row["who"],
            f"{row['n']} denials within a minute, of {row['methods']} methods"
            + (f"; {row['let_in']} of them were let in, since nothing was enforced" if row["let_in"] else ""),
            row["n"],
            row["id"],
        )
        for row in rows
    ]
    return sorted(found, key=lambda anomaly: (anomaly.time, anomaly.kind, anomaly.who))
