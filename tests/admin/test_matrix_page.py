"""The matrix page, opened in a browser without a network: filtered, clicked, and harmless whatever a bundle says."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from authz.admin.access import matrix
from authz.admin.matrix_page import matrix_page
from authz.policy.load import load_bundle
from tests.bundle import MODEL, write_bundle

if TYPE_CHECKING:
    from playwright.sync_api import Page

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    """Debian's Chromium, which can reach nothing."""
    if CHROMIUM is None:
        message = "chromium is missing: run scripts/install-package chromium chromium"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox", "--disable-gpu", "--proxy-server=127.0.0.1:9", "--disable-background-networking"]
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: object, tmp_path: Path) -> Iterator[Page]:
    file = tmp_path / "access.html"
    file.write_text(matrix_page(matrix(load_bundle(ROOT / "policies" / "default")), "default"))
    opened = browser.new_page(viewport={"width": 1280, "height": 800})  # type: ignore[attr-defined]
    errors: list[str] = []
    asked: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(file.as_uri())
    yield opened
    assert errors == []
    assert [url for url in asked if not url.startswith("file:")] == []
    opened.close()


def rows(page: Page) -> list[str]:
    return [text.split("\n")[0] for text in page.locator("tbody tr:not(.service) th").all_inner_texts()]


def columns(page: Page) -> list[str]:
    return page.locator("thead th").all_inner_texts()[1:]


def test_the_grid_is_there(page: Page) -> None:
    assert "role:auditor" in columns(page)
    assert any(row.startswith("GetOrder") for row in rows(page))
    assert page.locator("td.allow").count() > 10


def test_filters(page: Page) -> None:
    page.fill("#subject", "WORK")
    assert columns(page) == ["role:worker"]
    page.fill("#method", "import")
    assert [row[:12] for row in rows(page)] == ["ImportOrders"]
    page.fill("#subject", "")
    page.fill("#method", "")
    page.select_option("#access", "admin")
    assert [row[:14] for row in rows(page)] == ["PurgeNamespace"]
    page.select_option("#access", "")
    page.select_option("#namespace", label="frozen-*")
    page.select_option("#show", "deny")
    assert any(row.startswith("CancelOrder") for row in rows(page))
    page.fill("#subject", "role:writer")
    assert [row[:11] for row in rows(page)] == ["CancelOrder"]


def test_a_click_leads_to_the_rule(page: Page) -> None:
    page.select_option("#namespace", label="billing-*")
    page.fill("#subject", "auditor")
    page.fill("#method", "ListOrders")
    page.click("td.allow button")
    told = page.inner_text("#rule")
    assert "role:auditor may call /example.orders.v1.Orders/ListOrders in billing-*" in told
    assert "p, role:auditor, billing-*, *, read, allow" in told
    assert "policy.csv:34" in told
    page.fill("#method", "CancelOrder")
    page.click("td.none button")
    assert "no rule says anything" in page.inner_text("#rule")


def test_what_touches_no_namespace_is_hatched_inside_one(page: Page) -> None:
    page.fill("#method", "ListNamespaces")
    assert page.locator("td.na").count() == len(columns(page))
    page.select_option("#namespace", index=0)
    assert page.locator("td.na").count() == 0


def test_a_picture(page: Page, tmp_path: Path) -> None:
    page.select_option("#namespace", label="frozen-*")
    page.click("td.deny button >> nth=0")
    target = Path(os.environ.get("AUTHZ_PICTURES", str(tmp_path))) / "matrix.png"
    page.screenshot(path=str(target))
    assert target.stat().st_size > 20_000


def test_whatever_a_bundle_says_is_text(browser: object, tmp_path: Path) -> None:
    evil = "user:</script><script>document.title='owned'</script><img src=x onerror=alert(1)>"
    write_bundle(tmp_path / "b", f"p, {evil.replace(',', '')}, *, *, read, allow\n", model=MODEL)
    text = matrix_page(matrix(load_bundle(tmp_path / "b")), "<b>bold</b>")
    assert "<img" not in text
    (tmp_path / "x.html").write_text(text)
    opened = browser.new_page()  # type: ignore[attr-defined]
    opened.goto((tmp_path / "x.html").as_uri())
    assert opened.title() == "Who may do what: <b>bold</b>"
    assert evil in opened.locator("thead th").all_inner_texts()
    opened.close()
