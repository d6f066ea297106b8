"""Serve: the report as a web page of this machine: live, read-only, and for each reviewer only what is theirs.

Who may review what is decided by an engine of authz like any other call: a reviewer shows a token, and may read the
records of a namespace if the policy allows them ``/authz.audit.v1.Review/Read`` there. Who is allowed it outside every
namespace sees everything. Without a configuration, a token that is printed once stands for whoever reads the terminal.
"""

from __future__ import annotations

import hmac
import re
import secrets
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs

from authz.audit.event import Event, EventName
from authz.audit.printable import clean
from authz.call import Call
from authz.credentials import BearerToken
from authz.engine import Engine
from authz.errors import AuditError, AuthzError
from authz.review import page
from authz.review.logs import Logs, Row
from authz.review.outcome import told
from authz.review.page import Html
from authz.review.report import sections
from authz.review.search import Search
from authz.review.show import show

METHOD: Final = "/authz.audit.v1.Review/Read"
_COOKIE: Final = "authz-review"
_FORM_LIMIT: Final = 64 * 1024
_LENGTH: Final = re.compile(r"[0-9]{1,9}")
_FIELDS_LIMIT: Final = 10
_SESSION_SECONDS: Final = 3600.0
_SESSIONS_LIMIT: Final = 1000
_ROWS: Final = 200
_MENU: Final = (("Overview", "/"), ("Records", "/records"), ("Sign out", "/out"))


@dataclass(frozen=True, slots=True)
class _Session:
    token: BearerToken
    ends: float


@dataclass(frozen=True, slots=True)
class Reviewer:
    """Who looks.

    Attributes:
        by: audit id of the decision that tells who it is; empty: whoever started it.
        namespaces: those whose records they may see; None: everything.
    """

    by: str
    namespaces: tuple[str, ...] | None


class ReviewServer:
    """The web page, on 127.0.0.1 alone. Thread-safe; a context manager.

    Args:
        paths: logs, or folders of logs.
        port: 0: a free one.
        engine: decides who may review what; None: whoever shows :attr:`token`.

    Attributes:
        token: what stands for the one who started it; empty if there is an engine.
        port: where it listens.
    """

    def __init__(self, paths: Sequence[Path], port: int = 0, engine: Engine | None = None) -> None:
        self._paths = list(paths)
        self._engine = engine
        self.token = "" if engine else secrets.token_urlsafe(24)
        self._sessions: dict[str, _Session] = {}
        self._lock = threading.Lock()
        server = self

        class Handler(_Handler):
            review = server

        self._http = _Http(("127.0.0.1", port), Handler)
        self.port = int(self._http.server_address[1])
        self._thread = threading.Thread(target=self._http.serve_forever, name="authz-review", daemon=True)

    @property
    def address(self) -> str:
        """Where to point a browser."""
        return f"http://127.0.0.1:{self.port}/"

    def __enter__(self) -> ReviewServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def sign_in(self, token: str) -> str | None:
        """A new session for whoever shows ``token``; None if they may see nothing."""
        shown = BearerToken(token.strip())
        if self.reviewer(shown).namespaces == ():
            return None
        key = secrets.token_urlsafe(32)
        now = time.monotonic()
        with self._lock:
            live = {k: s for k, s in self._sessions.items() if s.ends > now}
            while len(live) >= _SESSIONS_LIMIT:
                live.pop(next(iter(live)))
            live[key] = _Session(shown, now + _SESSION_SECONDS)
            self._sessions = live
        return key

    def sign_out(self, key: str) -> None:
        """End a session."""
        with self._lock:
            self._sessions.pop(key, None)

    def session(self, key: str) -> BearerToken | None:
        """What the owner of a session showed."""
        found = self._sessions.get(key)
        return found.token if found and found.ends > time.monotonic() else None

    def reviewer(self, token: BearerToken) -> Reviewer:
        """Who shows ``token``, and what they may see. Asked anew for each page."""
        if self._engine is None:
            return Reviewer("", None if hmac.compare_digest(token.value.encode(), self.token.encode()) else ())
        decision = self._engine.check(Call(METHOD, (None,)), [token])
        if decision:
            return Reviewer(decision.audit_id, None)
        with Logs(self._paths) as logs:
            rows = logs.ask("SELECT DISTINCT unnest(namespaces) AS name FROM decisions")
        names = sorted(row["name"] for row in rows if row["name"])
        return Reviewer(decision.audit_id, tuple(self._engine.permitted(Call(METHOD), [token], names)))

    def open(self, reviewer: Reviewer, asked: str) -> Logs:
        """The log as one reviewer sees it; that they looked is recorded."""
        if self._engine is not None:
            seen = ["*"] if reviewer.namespaces is None else list(reviewer.namespaces)
            details = {"asked": asked, "by": reviewer.by, "namespaces": seen}
            self._engine.record(Event(EventName.LOG_QUERIED, details))
        return Logs(self._paths, namespaces=reviewer.namespaces)


class _Http(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Tell what went wrong, unless it is that a browser hung up."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    review: ReviewServer
    server_version = "authz"
    sys_version = ""
    timeout = 30

    def do_GET(self) -> None:
        """A page."""
        if not self._is_local():
            return
        try:
            self._show()
        except AuthzError as exc:
            self._answer(HTTPStatus.BAD_REQUEST, _message(str(exc)))

    def _show(self) -> None:
        path, _, asked = self.path.partition("?")
        key = self._cookie()
        token = self.review.session(key) if key else None
        if token is None:
            self._answer(HTTPStatus.UNAUTHORIZED, _sign_in())
            return
        query = _fields(asked)
        if path == "/out":
            self.review.sign_out(key)
            self._answer(HTTPStatus.OK, _sign_in("You are signed out."))
            return
        pages = {"/": _overview, "/records": _records, "/record": _record}
        if path not in pages:
            self._answer(HTTPStatus.NOT_FOUND, _message("There is no such page."))
            return
        reviewer = self.review.reviewer(token)
        if reviewer.namespaces == ():
            self._answer(HTTPStatus.FORBIDDEN, _message("You may review no records."))
            return
        with self.review.open(reviewer, self.path[:200]) as logs:
            self._answer(HTTPStatus.OK, pages[path](logs, query, _seen(reviewer.namespaces)))

    def do_POST(self) -> None:
        """Sign in; nothing else is ever written."""
        length = self.headers.get("Content-Length", "")
        if not self._is_local():
            return
        if self.path != "/" or _LENGTH.fullmatch(length) is None or int(length) > _FORM_LIMIT:
            self._answer(HTTPStatus.BAD_REQUEST, _message("Only signing in is posted."))
            return
        try:
            key = self.review.sign_in(_fields(self.rfile.read(int(length)).decode("utf-8", "replace")).get("token", ""))
        except AuthzError as exc:
            self._answer(HTTPStatus.BAD_REQUEST, _message(str(exc)))
            return
        if key is None:
            self._answer(HTTPStatus.UNAUTHORIZED, _sign_in("This token may review no records."))
            return
        self.send_response(HTTPStatus.SEE_OTHER)
        self.send_header("Location", "/")
        self.send_header("Set-Cookie", f"{_COOKIE}={key}; HttpOnly; SameSite=Strict; Path=/; Max-Age=3600")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _is_local(self) -> bool:
        # another name that leads here is a page elsewhere trying to read this one
        host = self.headers.get("Host", "")
        if host in (f"127.0.0.1:{self.review.port}", f"localhost:{self.review.port}"):
            return True
        self._answer(HTTPStatus.MISDIRECTED_REQUEST, _message("This page is served to this machine alone."))
        return False

    def _cookie(self) -> str:
        try:
            found = SimpleCookie(self.headers.get("Cookie", "")).get(_COOKIE)
        except CookieError:
            return ""
        return found.value if found else ""

    def _answer(self, status: HTTPStatus, html: str) -> None:
        data = html.encode("utf-8", "replace")
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("X-Frame-Options", "DENY")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header(
            "Content-Security-Policy",
            "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; "
            "frame-ancestors 'none'",
        )
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
        """Nothing: the audit log has who looked at what."""


def _fields(text: str) -> dict[str, str]:
    try:
        return {name: values[-1] for name, values in parse_qs(text, max_num_fields=_FIELDS_LIMIT).items()}
    except ValueError:
        raise AuditError(f"there are more than {_FIELDS_LIMIT} fields; send those of the page alone") from None


def _seen(namespaces: Sequence[str] | None) -> str:
    return "every record" if namespaces is None else f"records of the namespaces {', '.join(namespaces)}"


def _sign_in(note: str = "") -> str:
    form = Html(
        '<form method="post" action="/"><p><label>Token<br><input type="password" name="token" autocomplete="off" '
        "autofocus></label></p><button>Sign in</button></form>"
    )
    return page.page("Audit review", note or "Show a token to see records.", page.section("Sign in", form))


def _message(text: str) -> str:
    return page.page("Audit review", "", page.section(text, Html('<p><a href="/">Overview</a></p>')))


def _overview(logs: Logs, _: dict[str, str], seen: str) -> str:
    return page.page("Audit review", f"{seen}, now", *sections(logs), menu=_MENU)


def _records(logs: Logs, query: dict[str, str], seen: str) -> str:
    words = query.get("q", "")
    rows = logs.find(Search.parse(words), _ROWS)[::-1]
    form = Html(
        f'<form method="get" action="/records"><input type="text" name="q" value="{escape(words)}" '
        'placeholder="sub:corp:alice decision:deny since:24h" aria-label="search"> <button>Search</button></form><br>'
    )
    found = page.table(
        ["time", "decision", "subject", "method", "namespaces", "reason", "record"],
        [
            [row["time"], page.effect(told(row) or row["event"]), page.code(row["sub"]), page.code(row["method"]),
             row["namespaces"], row["reason"], _link(row)]
            for row in rows
        ],
        "nothing found",
    )  # fmt: skip
    return page.page("Records", f"{seen}; the newest {_ROWS} at most", page.section("Search", form, found), menu=_MENU)


def _link(row: Row) -> Html:
    audit_id = str(row["id"] or "")
    return Html(f'<a href="/record?id={escape(audit_id)}">{page.code(audit_id[:16])}</a>')


def _record(logs: Logs, query: dict[str, str], seen: str) -> str:
    shown = show(logs, query.get("id", ""))
    fields = [[name, page.code(value)] for name, value in shown.record.items() if value not in (None, "", [])]
    parts = [page.section("As it was recorded", page.table(["field", "value"], fields))]
    if shown.around:
        lines = "\n".join(f"{number:5d}  {clean(text, 500)}" for number, text in shown.around)
        parts.append(page.section("The policy as it was then", Html(f"<pre>{escape(lines)}</pre>")))
    if shown.why:
        parts.append(page.section("Not asked again", Html(f"<p>{page.text(shown.why)}</p>")))
    if shown.verdict is not None:
        same = "the same" if shown.same else "NOT the same"
        text = f"Asked again, that policy says {shown.verdict.effect.value}: {same}."
        parts.append(page.section("Asked again", Html(f"<p>{page.text(text)}</p>")))
    return page.page("Record", seen, *parts, menu=_MENU)


def serve(paths: Sequence[Path], port: int = 0, config: Path | None = None) -> None:
    """Serve until interrupted; prints where."""
    engine = None
    if config is not None:
        from authz.config import load_config

        engine = load_config(config)
    try:
        with ReviewServer(paths, port, engine) as server:
            print(f"{server.address}", flush=True)  # noqa: T201 - it is what the command is for
            if server.token:
                print(f"sign in with {server.token}", flush=True)  # noqa: T201
            threading.Event().wait()
    finally:
        if engine is not None:
            engine.close()
