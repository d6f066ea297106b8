"""Plugins: only what the configuration names is loaded, and what cannot be used is refused with its line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from authz import document
from authz.config.plugins import AUDIT_SINKS, AUTHORIZERS, METHODS, make_plugin
from authz.errors import ConfigError
from tests.config.offered import offer

GOOD = """
class Part:
    def __init__(self, hours): self.hours = hours
    def authorize(self, claims, call): ...
    def write(self, record): ...
def make(options): return Part(options.text("hours", "none"))
"""


def section(tmp_path: Path, text: str) -> document.Section:
    return document.parse(text.encode(), tmp_path / "authz.yaml", ConfigError)


def test_the_part_that_is_named_is_made_from_its_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(tmp_path / "site", monkeypatch, AUTHORIZERS, "hours", GOOD, "plugin_good")
    part = make_plugin(section(tmp_path, "plugin: hours\noptions: {hours: 8-18}"), AUTHORIZERS)
    assert part.hours == "8-18"
    assert make_plugin(section(tmp_path, "plugin: hours"), AUTHORIZERS).hours == "none"


def test_what_is_installed_and_not_named_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(tmp_path / "site", monkeypatch, AUTHORIZERS, "boom", "raise SystemExit('imported')", "plugin_boom")
    offer(tmp_path / "site", monkeypatch, AUTHORIZERS, "hours", GOOD, "plugin_quiet")
    make_plugin(section(tmp_path, "plugin: hours"), AUTHORIZERS)
    with pytest.raises(ConfigError):
        make_plugin(section(tmp_path, "plugin: unknown"), AUTHORIZERS)
    assert "plugin_boom" not in sys.modules


REFUSED = [
    ("plugin: houres", GOOD, r"authz.yaml:1:9: no installed package offers the plugin `houres`.*did you mean `hours`"),
    ("options: {}", GOOD, "`plugin` is missing"),
    ("plugin: hours\noptions: {huors: 8-18}", GOOD, r":2:11: unknown key `options.huors`; did you mean `hours`"),
    ("plugin: hours\noptions: {hours: 8}", GOOD, r":2:18: `options.hours` must be text, not a number"),
    ("plugin: hours\noptions: 8", GOOD, "`options` must be a mapping, not a number"),
    ("plugin: hours", "", "cannot be made: AttributeError"),
    ("plugin: hours", "import absent_package", "cannot be made: ModuleNotFoundError"),
    ("plugin: hours", "def make(options): raise ValueError('no key')", "cannot be made: ValueError: no key"),
    ("plugin: hours", "def make(): ...", "cannot be made: TypeError"),
    ("plugin: hours", "def make(options): return 3", r"made a int that has no `authorize\(\)`"),
    ("plugin: hours", GOOD + "\ndef make(options): return Part", r"made a type that has no `authorize\(\)`"),
]


@pytest.mark.parametrize(("text", "source", "message"), REFUSED)
def test_what_cannot_be_used_is_refused_with_its_place(
    text: str,
    source: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    package = f"plugin_refused_{abs(hash(request.node.name))}"
    offer(tmp_path / "site", monkeypatch, AUTHORIZERS, "hours", source, package)
    with pytest.raises(ConfigError, match=message):
        make_plugin(section(tmp_path, text), AUTHORIZERS)


def test_a_plugin_of_another_group_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(tmp_path / "site", monkeypatch, AUDIT_SINKS, "hours", GOOD, "plugin_other")
    with pytest.raises(ConfigError, match=r"install a package with an entry point in the group `authz.authorizers`"):
        make_plugin(section(tmp_path, "plugin: hours"), AUTHORIZERS)


def test_two_packages_that_offer_one_name_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(tmp_path / "one", monkeypatch, AUTHORIZERS, "hours", GOOD, "plugin_one")
    offer(tmp_path / "two", monkeypatch, AUTHORIZERS, "hours", GOOD, "plugin_two")
    with pytest.raises(ConfigError, match="is offered by `plugin_one:make` and `plugin_two:make`"):
        make_plugin(section(tmp_path, "plugin: hours"), AUTHORIZERS)


def test_every_group_is_one_of_the_extension_points() -> None:
    assert METHODS == {
        "authz.authenticators": "authenticate",
        "authz.claim_mappers": "map",
        "authz.authorizers": "authorize",
        "authz.audit_sinks": "write",
    }
