"""The report and the web page, as a browser shows them and as a stranger tries them."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest

import authz
from authz.audit.verify import verify
from authz.audit.writer import AuditLog
from authz.review import page
from authz.review.logs import Logs
from authz.review.report import write_report
from authz.review.serve import ReviewServer
from authz.testing import TokenMinter
from tests.adapters.orders import records
from tests.audit.logs import record

BROWSERS = ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome")
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
POLICIES = Path(__file__).parents[2] / "policies"
CONFIG = f"""
policy: {{bundle: {POLICIES}/review}}
audit: {{file: audit.jsonl}}
authn:
  issuers:
  - name: staff
    issuer: https://issuer.test
    audiences: [test]
    algorithms: [ES256]
    keys: {{jwks_file: jwks.json}}
    principal: {{claim: sub, prefix: "staff:"}}
    roles:
    - {{claim: groups, equals: auditors, system_role: reviewer}}
    - {{claim: reviews, match: '(?P<ns>[a-z0-9-]{{1,63}})', namespace: '{{ns}}', role: reviewer}}
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium without a network; no longer than this file, for it leaves a loop running in the thread."""
    found = next((path for path in BROWSERS if Path(path).exists()), None)
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail("there is no Chromium: .ci/run installs it")
        pytest.skip("there is no Chromium: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=found, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        yield running
        running.close()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[authz.Engine]:
    """Who may review what."""
    folder = tmp_path / "reviewers"
    folder.mkdir()
    (folder / "authz.yaml").write_text(CONFIG)
    TokenMinter().write_jwks(folder / "jwks.json")
    with authz.load_config(folder / "authz.yaml") as made:
        yield made


def ask(
    server: ReviewServer, method: str, path: str, body: str = "", **headers: str
) -> tuple[int, str, http.client.HTTPMessage]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    try:
        connection.request(method, path, body or None, headers)
        response = connection.getresponse()
        return response.status, response.read().decode(), response.headers
    finally:
        connection.close()


def sign_in(server: ReviewServer, token: str) -> dict[str, str]:
    status, _, headers = ask(server, "POST", "/", urlencode({"token": token}))
    assert status == 303
    return {"Cookie": headers["Set-Cookie"].split(";")[0]}


def test_the_report_is_a_page_that_a_browser_shows_whole(incident: Path, tmp_path: Path, browser: Any) -> None:
    with Logs([incident / "audit"]) as logs:
        write_report(logs, tmp_path / "evidence", verify([incident / "audit"]))
    tab = browser.new_page(viewport={"width": 1200, "height": 900})
    loaded: list[str] = []
    errors: list[str] = []
    tab.on("request", lambda request: loaded.append(request.url))
    tab.on("console", lambda message: errors.append(message.text))
    tab.goto((tmp_path / "evidence" / "report.html").as_uri())
    titles = tab.locator("h2").all_inner_texts()
    assert titles == ["Verification", "Timeline", "Denied most often", "Rules that decided", "Policy changes",
                      "Worth a look"]  # fmt: skip
    assert tab.locator("svg rect").count() > 50
    assert "user:staff:otto" in tab.inner_text("main")
    assert len(loaded) == 1, "it loads nothing but itself"
    assert not errors
    assert tab.evaluate("document.documentElement.scrollWidth") <= 1200
    if folder := os.environ.get("PICTURES"):
        tab.screenshot(path=f"{folder}/report.png", full_page=True)
    tab.close()


def test_hostile_text_stays_text_in_a_browser(tmp_path: Path, browser: Any) -> None:
    with AuditLog(tmp_path / "audit.jsonl") as log:
        for allow in (True, False):
            log.write(record(method=HOSTILE, agent=HOSTILE, namespaces=(HOSTILE,), allow=allow))
    with ReviewServer([tmp_path]) as server:
        tab = browser.new_page()
        dialogs: list[str] = []
        tab.on("dialog", lambda dialog: dialogs.append(dialog.message))
        tab.goto(server.address)
        tab.fill("input[name=token]", server.token)
        tab.click("button")
        tab.goto(f"{server.address}records?q={quote(HOSTILE[:8])}")
        assert tab.locator("script, img").count() == 0
        assert HOSTILE[:20] in tab.inner_text("main")
        tab.click("td a")
        assert HOSTILE in tab.inner_text("main")
        assert not dialogs
        if folder := os.environ.get("PICTURES"):
            tab.screenshot(path=f"{folder}/hostile.png", full_page=True)
        tab.close()


def test_a_reviewer_walks_through_the_pages(incident: Path, browser: Any) -> None:
    with ReviewServer([incident / "audit"]) as server:
        tab = browser.new_page(viewport={"width": 1200, "height": 900})
        tab.goto(server.address)
        assert tab.locator("table").count() == 0
        tab.fill("input[name=token]", server.token)
        tab.click("button")
        assert "222" in tab.inner_text(".figures")
        if folder := os.environ.get("PICTURES"):
            tab.screenshot(path=f"{folder}/overview.png", full_page=True)
        tab.click("text=Records")
        tab.fill("input[name=q]", "method:*PurgeNamespace decision:allow")
        tab.click("button")
        assert tab.locator("tbody tr").count() == 1
        if folder := os.environ.get("PICTURES"):
            tab.screenshot(path=f"{folder}/records.png", full_page=True)
        tab.click("td a")
        assert "p, role:reader, *, *, admin, allow" in tab.inner_text("pre")
        assert "allow: the same" in tab.inner_text("main")
        if folder := os.environ.get("PICTURES"):
            tab.screenshot(path=f"{folder}/record.png", full_page=True)
        tab.click("text=Sign out")
        tab.goto(server.address)
        assert tab.locator("table").count() == 0
        tab.close()


def test_a_reviewer_of_some_namespaces_sees_only_theirs(incident: Path, engine: authz.Engine, tmp_path: Path) -> None:
    minter = TokenMinter()
    with ReviewServer([incident / "audit"], 0, engine) as server:
        some = sign_in(server, minter.mint(sub="gil", reviews=["globex"]))
        status, html, _ = ask(server, "GET", "/records", **some)
        assert status == 200
        assert "globex" in html
        assert "acme" not in html
        assert "initech" not in html
        every = sign_in(server, minter.mint(sub="amy", groups=["auditors"]))
        assert "initech" in ask(server, "GET", "/records?q=ns:initech", **every)[1]
        hidden = re.findall(r"/record\?id=(\w+)", ask(server, "GET", "/records?q=ns:initech", **every)[1])[0]
        assert ask(server, "GET", f"/record?id={hidden}", **every)[0] == 200
        assert ask(server, "GET", f"/record?id={hidden}", **some)[0] == 400
    asked = [line for line in records(tmp_path / "reviewers") if line["method"] == "/authz.audit.v1.Review/Read"]
    assert {line["sub"] for line in asked} == {"user:staff:gil", "user:staff:amy"}
    written = [json.loads(line) for line in (tmp_path / "reviewers" / "audit.jsonl").read_text().splitlines()]
    looks = [line for line in written if line["event"] == "log.queried"]
    who = {line["id"]: line["sub"] for line in asked}
    assert {(who[line["by"]], *line["namespaces"]) for line in looks} == {
        ("user:staff:gil", "globex"),
        ("user:staff:amy", "*"),
    }
    assert {line["asked"] for line in looks} >= {"/records", "/records?q=ns:initech"}


def test_who_may_review_nothing_sees_nothing(incident: Path, engine: authz.Engine) -> None:
    minter = TokenMinter()
    with ReviewServer([incident / "audit"], 0, engine) as server:
        for token in ("", "x", minter.mint(sub="eve"), minter.mint(sub="eve", groups=["others"])):
            assert ask(server, "POST", "/", urlencode({"token": token}))[0] == 401
        assert ask(server, "GET", "/")[0] == 401
        assert ask(server, "GET", "/records", Cookie="authz-review=guessed")[0] == 401
        assert ask(server, "GET", "/records", Cookie="authz-review=\x01;;==")[0] == 401


def test_a_token_that_ends_ends_the_session(incident: Path, engine: authz.Engine) -> None:
    with ReviewServer([incident / "audit"], 0, engine) as server:
        cookie = sign_in(server, TokenMinter(lifetime=1).mint(sub="gil", groups=["auditors"]))
        deadline = threading.Event()
        for _ in range(100):
            if ask(server, "GET", "/records?q=seq:1", **cookie)[0] == 403:
                break
            deadline.wait(0.5)
        assert ask(server, "GET", "/", **cookie)[0] == 403


def test_the_page_is_of_this_machine_and_read_only(incident: Path) -> None:
    with ReviewServer([incident / "audit"]) as server:
        assert ask(server, "GET", "/", Host="attacker.example")[0] == 421
        assert ask(server, "POST", "/", "token=x", Host="attacker.example")[0] == 421
        for method in ("PUT", "DELETE", "PATCH", "OPTIONS"):
            assert ask(server, method, "/")[0] == 501
        cookie = sign_in(server, server.token)
        assert ask(server, "POST", "/records", "x=1", **cookie)[0] == 400
        assert ask(server, "GET", "/etc/passwd", **cookie)[0] == 404
        assert ask(server, "GET", "/records?q=nothing:x", **cookie)[0] == 400
        assert ask(server, "GET", "/record?id=absent", **cookie)[0] == 400
        _, _, headers = ask(server, "GET", "/", **cookie)
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert headers["Cache-Control"] == "no-store"
        assert ask(server, "GET", "/out", **cookie)[0] == 200
        assert ask(server, "GET", "/", **cookie)[0] == 401


def test_whatever_is_asked_is_answered(incident: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "audit.jsonl"
    log.write_bytes((incident / "audit" / "audit.jsonl").read_bytes())
    many = "&".join(f"a{number}=1" for number in range(11))
    with ReviewServer([log]) as server:
        assert ask(server, "POST", "/", many)[0] == 400
        assert ask(server, "GET", "/?" + many)[0] == 401
        cookie = sign_in(server, server.token)
        for length in ("\xb2", "9" * 5000, "-1", "", "1e3"):
            assert ask(server, "POST", "/", **{"Content-Length": length})[0] == 400
        status, html, _ = ask(server, "GET", "/?" + many, **cookie)
        assert (status, "there are more than 10 fields" in html) == (400, True)
        for words in (
            "since:999999w",
            "ns:,",
            "\\",
            "sub:\udcff",
            "'",
            "until:0001-01-01T00:00:00+14:00",
            "us:>" + "9" * 40,
        ):
            asked = quote(words, errors="surrogatepass")
            assert ask(server, "GET", f"/records?q={asked}", **cookie)[0] in (200, 400), words
        with socket.create_connection(("127.0.0.1", server.port), 20) as stranger:
            stranger.sendall(f"GET http://[ HTTP/1.0\r\nHost: 127.0.0.1:{server.port}\r\n\r\n".encode())
            assert b" 401 " in stranger.recv(100)
        log.unlink()
        assert ask(server, "GET", "/records", **cookie)[0] == 400
    assert "Traceback" not in capfd.readouterr().err


def test_a_page_of_nothing_is_a_page(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    with Logs([tmp_path]) as logs:
        assert "no decisions" in page.page("x", "", *_sections(logs))


def _sections(logs: Logs) -> list[page.Html]:
    from authz.review.report import sections

    return sections(logs)
