"""The files for editors and build servers: they can be read, and the commands in them are commands."""

from __future__ import annotations

import json
import re
import shlex
from importlib.resources import files
from pathlib import Path

import pytest
import yaml

from authz.admin.cases import read_cases
from authz.cli import main
from authz.cli.policy import COMMANDS
from authz.policy.load import load_bundle

ROOT = Path(__file__).parents[2]
STARTER = ROOT / "authz" / "admin" / "starter"


def commands_of(text: str) -> list[str]:
    return re.findall(r"(authz policy [^\n|>&]+)", text)


@pytest.mark.parametrize(
    "file",
    [ROOT / ".pre-commit-hooks.yaml", STARTER / "pre-commit-config.yaml", ROOT / "examples/ci/policy-review.yml"],
)
def test_the_commands_are_commands(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = file.read_text()
    yaml.safe_load(text)
    found = [line for line in commands_of(text) if not line.startswith("authz policy test?")]
    found = [line for line in found if "name:" not in line]
    assert len(found) >= 3
    for line in found:
        words = shlex.split(line.replace("${{ github.base_ref }}", "main"))
        assert words[2] in COMMANDS
        options = [word for word in words if word.startswith("--")]
        with pytest.raises(SystemExit):
            main(["policy", words[2], "--help"])
        text = capsys.readouterr().out
        assert all(option in text for option in options), (line, text)


def _check(schema: dict, value: object, root: dict) -> list[str]:
    """The few words of JSON Schema that ours use."""
    problems: list[str] = []
    if "oneOf" in schema:
        if sum(not _check(each, value, root) for each in schema["oneOf"]) != 1:
            problems.append(f"{value!r} is not one of them")
        return problems
    kinds = {"object": dict, "array": list, "string": str, "boolean": bool}
    if "type" in schema and not isinstance(value, kinds[schema["type"]]):
        return [f"{value!r} is no {schema['type']}"]
    if "enum" in schema and value not in schema["enum"]:
        problems.append(f"{value!r} is none of {schema['enum']}")
    if "pattern" in schema and not re.search(schema["pattern"], str(value)):
        problems.append(f"{value!r} does not match")
    if isinstance(value, dict):
        known = schema.get("properties", {})
        problems += [f"{key} is missing" for key in schema.get("required", []) if key not in value]
        for key, each in value.items():
            inner = known.get(key, schema.get("additionalProperties", {}))
            if inner is False:
                problems.append(f"unknown key {key}")
            elif isinstance(inner, dict):
                problems += _check(inner, each, root)
    if isinstance(value, list):
        for each in value:
            problems += _check(schema.get("items", {}), each, root)
    return problems


@pytest.mark.parametrize("name", ["catalogue", "tests"])
@pytest.mark.parametrize("bundle", [*sorted((ROOT / "policies").glob("*/model.conf")), STARTER / "model.conf"])
def test_schemas_fit_the_files_that_ship(name: str, bundle: Path) -> None:
    schema = json.loads(files("authz.admin").joinpath("schemas", f"{name}.schema.json").read_text())
    file = bundle.parent / f"{name}.yaml"
    if file.exists():
        assert _check(schema, yaml.safe_load(file.read_text()), schema) == []


def test_schemas_fit_the_configurations_that_ship() -> None:
    schema = json.loads(files("authz.admin").joinpath("schemas", "config.schema.json").read_text())
    for file in (STARTER / "authz.yaml", ROOT / "examples" / "orders" / "authz.yaml"):
        assert _check(schema, yaml.safe_load(file.read_text()), schema) == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("catalogue", "services: {a.B: {methods: {Get: raed}}}"),
        ("catalogue", "servces: {}"),
        ("tests", "callers: {a: {system: [reader]}}\ntests: {t: {expect: {a: alow}}}"),
        ("tests", "callers: {a: {sytem: [reader]}}\ntests: {t: {expect: {a: allow}}}"),
        ("config", "policy: {}\nauthn: {}\naudit: {}"),
    ],
)
def test_schemas_refuse_what_the_loader_refuses(name: str, text: str) -> None:
    schema = json.loads(files("authz.admin").joinpath("schemas", f"{name}.schema.json").read_text())
    assert _check(schema, yaml.safe_load(text), schema)


def test_the_starter_is_a_bundle() -> None:
    revision = load_bundle(STARTER)
    assert revision.warnings == ()
    assert read_cases(STARTER / "tests.yaml", revision)
